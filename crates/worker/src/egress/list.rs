//! The list of `--allow-net`: `host:port`, `*.domain:port`, `address:port`; without a port 80 and 443.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// Places that steps may connect to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowList(Vec<Allowed>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Allowed {
    host: Host,
    ports: Vec<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Name(String),
    /// Every name below this one, which is not meant itself.
    Below(String),
    Address(IpAddr),
}

/// Text that names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not HOST:PORT")]
pub struct AllowListError(String);

impl AllowListError {
    pub fn hint(&self) -> &'static str {
        "write deb.debian.org:80, *.example.com:443 or 192.0.2.1:22; without a port 80 and 443 are meant"
    }
}

impl TryFrom<&[&str]> for AllowList {
    type Error = AllowListError;
    fn try_from(texts: &[&str]) -> Result<Self, AllowListError> {
        texts
            .iter()
            .map(|t| parse(t).ok_or_else(|| AllowListError(t.to_string())))
            .collect::<Result<_, _>>()
            .map(AllowList)
    }
}

/// A host name as DNS has it: lower case, without the final dot.
pub(super) fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// `host`, `host:port`, `[address]:port`; the port is optional.
pub(super) fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            Some(_) => return None,
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => Some(port.parse().ok().filter(|p| *p > 0)?),
        Some(_) => return None,
        None => None,
    };
    Some((host, port))
}

fn parse(text: &str) -> Option<Allowed> {
    let (host, port) = split_port(text.trim())?;
    let ports = port.map_or_else(|| vec![80, 443], |p| vec![p]);
    if let Ok(address) = host.parse() {
        return Some(Allowed { host: Host::Address(address), ports });
    }
    let (name, below) = match host.strip_prefix("*.") {
        Some(name) => (normal(name), true),
        None => (normal(host), false),
    };
    let label = |l: &str| {
        (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return None;
    }
    Some(Allowed { host: if below { Host::Below(name) } else { Host::Name(name) }, ports })
}

impl AllowList {
    /// Whether a connection may be made.
    pub fn allows(&self, host: &str, port: u16) -> bool {
        let name = normal(host);
        let address: Option<IpAddr> = host.parse().ok();
        self.0.iter().filter(|a| a.ports.contains(&port)).any(|a| match &a.host {
            Host::Name(n) => address.is_none() && *n == name,
            Host::Below(n) => {
                address.is_none()
                    && name.strip_suffix(n.as_str()).is_some_and(|l| l.len() > 1 && l.ends_with('.'))
            }
            Host::Address(a) => address == Some(*a),
        })
    }

    /// Whether some port of a name may be connected to, though perhaps through the proxy only.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.0.iter().flat_map(|a| &a.ports).any(|port| self.allows(name, *port))
    }

    /// The names without wildcards, each once.
    pub(super) fn names(&self) -> Vec<String> {
        let names: BTreeSet<&String> = self
            .0
            .iter()
            .filter_map(|a| match &a.host {
                Host::Name(n) if n != "localhost" => Some(n),
                _ => None,
            })
            .collect();
        names.into_iter().cloned().collect()
    }

    /// The ports of a name of [`AllowList::names`].
    pub(super) fn ports(&self, name: &str) -> BTreeSet<u16> {
        self.0
            .iter()
            .filter(|a| a.host == Host::Name(name.to_string()))
            .flat_map(|a| a.ports.iter().copied())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let list = AllowList::try_from(
            &["Deb.Debian.org:80", "*.example.com:443", "192.0.2.1:22", "[2001:db8::1]:443", "plain.example"]
                [..],
        )
        .unwrap();
        for (host, port, allowed) in [
            ("deb.debian.org", 80, true),
            ("DEB.debian.org.", 80, true),
            ("deb.debian.org", 443, false),
            ("evil-deb.debian.org", 80, false),
            ("a.example.com", 443, true),
            ("a.b.example.com", 443, true),
            ("example.com", 443, false),
            (".example.com", 443, false),
            ("aexample.com", 443, false),
            ("192.0.2.1", 22, true),
            ("192.0.2.10", 22, false),
            ("2001:db8::1", 443, true),
            ("plain.example", 443, true),
            ("plain.example", 80, true),
            ("plain.example", 8080, false),
        ] {
            assert_eq!(list.allows(host, port), allowed, "{host}:{port}");
        }
        assert_eq!(list.names(), ["deb.debian.org", "plain.example"]);
        assert!(list.knows("x.example.com") && !list.knows("example.net"));
    }

    #[test]
    fn what_is_no_place() {
        for bad in [
            "", ":80", "a:", "a:0", "a:65536", "a:http", "a b:80", "http://a", "*:80", "a..b:1", "::1:80",
            "[::1", "a/b:80", "x\ny:80",
        ] {
            assert!(AllowList::try_from(&[bad][..]).is_err(), "{bad:?}");
        }
    }
}
