//! URLs: redaction, hosts, and which redirects are followed.

use crate::error::tame;
use crate::{Error, HttpFailure};
use reqwest::Url;
use std::net::IpAddr;

/// A URL for messages: without user, password, query and fragment. Text that is no URL with a scheme (an
/// scp-like git remote) has no password and stays as it is, made fit for a terminal.
pub fn redact(text: &str) -> String {
    match Url::parse(text) {
        Ok(mut url) => {
            let _ = url.set_password(None);
            // `ssh://git@host` is no secret, a token as a user is.
            if url.scheme() != "ssh" {
                let _ = url.set_username("");
            }
            url.set_query(None);
            url.set_fragment(None);
            tame(url.as_str())
        }
        Err(_) => match text.split_once("://") {
            // No URL, but what would be its user information must not be shown all the same.
            Some((scheme, rest)) => {
                let rest = rest.split_once('@').map_or(rest, |(_, after)| after);
                tame(&format!("{scheme}://{rest}"))
            }
            None => tame(text),
        },
    }
}

/// `host` or `host:port`.
pub fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(p) => format!("{host}:{p}"),
        None => host.to_string(),
    }
}

/// An `http` or `https` URL with a host, apart from its user information.
pub fn parse_http(text: &str) -> Result<(Url, Option<(String, String)>), Error> {
    let wrong = |reason| Error::Url { url: redact(text), reason };
    let mut url = Url::parse(text).map_err(|_| wrong("it cannot be parsed"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("only http and https are fetched"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("it names no host"));
    }
    let user = take_user(&mut url);
    url.set_fragment(None);
    Ok((url, user))
}

/// Remove user and password from a URL.
pub fn take_user(url: &mut Url) -> Option<(String, String)> {
    let (user, password) = (url.username().to_string(), url.password().unwrap_or_default().to_string());
    if user.is_empty() && password.is_empty() {
        return None;
    }
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some((percent_decode(&user), percent_decode(&password)))
}

/// `%XX` in user information; what is no escape stays.
fn percent_decode(text: &str) -> String {
    let hex = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        match (bytes[i], bytes.get(i + 1).copied().and_then(hex), bytes.get(i + 2).copied().and_then(hex)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                i += 3;
            }
            (b, _, _) => {
                out.push(b);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// How far from home a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Anywhere in the world or the site.
    Public,
    /// This machine.
    Loopback,
    /// The link of this machine, where clouds serve credentials to whoever asks.
    Link,
}

impl Reach {
    pub fn of_address(ip: IpAddr) -> Reach {
        let v4 = |ip: std::net::Ipv4Addr| {
            // 100.100.100.200 and fd00:ec2::254 are metadata services that are not link-local.
            if ip.is_link_local() || ip.octets() == [100, 100, 100, 200] {
                Reach::Link
            } else if ip.is_loopback() || ip.is_unspecified() {
                Reach::Loopback
            } else {
                Reach::Public
            }
        };
        match ip {
            IpAddr::V4(ip) => v4(ip),
            IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
                Some(mapped) => v4(mapped),
                None if (ip.segments()[0] & 0xffc0) == 0xfe80 => Reach::Link,
                None if ip.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => Reach::Link,
                None if ip.is_loopback() || ip.is_unspecified() => Reach::Loopback,
                None => Reach::Public,
            },
        }
    }

    /// By the name alone; what a name resolves to is seen only once it is connected to.
    pub fn of(url: &Url) -> Reach {
        let host = url.host_str().unwrap_or_default().trim_end_matches('.');
        if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Reach::of_address(ip);
        }
        let host = host.to_ascii_lowercase();
        if host == "localhost" || host.ends_with(".localhost") {
            Reach::Loopback
        } else if host == "metadata.google.internal" || host == "metadata" {
            Reach::Link
        } else {
            Reach::Public
        }
    }
}

/// Whether a redirect may give up TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downgrade {
    Refused,
    /// A checksum pins the content.
    Pinned,
}

/// Where a redirect from `from` leads. `home` is how far the URL is that was asked for: nothing leads closer.
pub fn redirect(
    from: &Url,
    location: Option<&str>,
    home: Reach,
    downgrade: Downgrade,
) -> Result<Url, HttpFailure> {
    let host = host_of(from);
    let refuse = |to: String, reason| HttpFailure::Redirect { host: host.clone(), to, reason };
    let text = location
        .filter(|l| !l.is_empty() && l.len() <= 16 * 1024)
        .ok_or_else(|| refuse("nowhere".into(), "so there is nothing to fetch"))?;
    let mut to = from.join(text).map_err(|_| refuse(tame(text), "which is no URL"))?;
    take_user(&mut to);
    to.set_fragment(None);
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => {}
        (_, "http") if downgrade == Downgrade::Pinned => {}
        (_, "http") => return Err(refuse(redact(to.as_str()), "which is not secure")),
        _ => return Err(refuse(redact(to.as_str()), "which is neither http nor https")),
    }
    if to.host_str().is_none_or(str::is_empty) {
        return Err(refuse(redact(to.as_str()), "which names no host"));
    }
    check_reach(&host, &to, Reach::of(&to), home)?;
    Ok(to)
}

/// Refuse what is closer to this machine than the URL that was asked for.
pub fn check_reach(host: &str, to: &Url, reach: Reach, home: Reach) -> Result<(), HttpFailure> {
    if reach <= home {
        return Ok(());
    }
    let reason = match reach {
        Reach::Link => "which is an address of this machine's link",
        _ => "which is this machine itself",
    };
    Err(HttpFailure::Redirect { host: host.to_string(), to: redact(to.as_str()), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        assert_eq!(redact("https://u:p%40@h/x?sig=1#f"), "https://h/x");
        assert_eq!(redact("ssh://git:pw@h/x"), "ssh://git@h/x");
        assert_eq!(redact("git@h:a/b.git"), "git@h:a/b.git");
        assert_eq!(redact("https://u:p@h:99999/x"), "https://h:99999/x");
        assert_eq!(redact("https://tok\u{1b}en@h/\u{1b}[2J"), "https://h/%1B[2J");
    }

    #[test]
    fn users_are_taken_apart() {
        let (url, user) = parse_http("https://a%40b:c%2Fd@h/p#x").unwrap();
        assert_eq!((url.as_str(), user), ("https://h/p", Some(("a@b".into(), "c/d".into()))));
        for bad in ["file:///etc/passwd", "ftp://h/x", "http://", "x", "data:,x"] {
            assert!(parse_http(bad).is_err(), "{bad}");
        }
    }

    fn go(from: &str, to: &str) -> Result<String, HttpFailure> {
        let from = Url::parse(from).unwrap();
        redirect(&from, Some(to), Reach::of(&from), Downgrade::Refused).map(|u| u.to_string())
    }

    #[test]
    fn redirects_stay_safe() {
        assert_eq!(go("https://h/a", "/b").unwrap(), "https://h/b");
        assert_eq!(go("http://h/a", "https://u:p@c/b#f").unwrap(), "https://c/b");
        assert_eq!(go("http://127.0.0.1:1/a", "http://127.0.0.1:2/b").unwrap(), "http://127.0.0.1:2/b");
        for bad in [
            "http://h/",
            "file:///etc/passwd",
            "data:,x",
            "https://127.0.0.1/",
            "https://localhost./",
            "https://[::1]/",
            "https://169.254.169.254/latest",
            "https://[::ffff:169.254.169.254]/",
            "https://[fe80::1]/",
            "https://2852039166/",
            "https://0.0.0.0/",
            "https://metadata.google.internal/",
        ] {
            assert!(go("https://h/a", bad).is_err(), "{bad}");
        }
        // Loopback is no way to the link either.
        assert!(go("http://127.0.0.1/a", "http://169.254.169.254/").is_err());
        let from = Url::parse("https://h/").unwrap();
        assert!(redirect(&from, Some("http://h/"), Reach::Public, Downgrade::Pinned).is_ok());
        assert!(redirect(&from, None, Reach::Public, Downgrade::Pinned).is_err());
    }
}
