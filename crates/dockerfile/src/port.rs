//! EXPOSE: `[ip:][host:]port[-port][/proto]` to the list of `port/proto` that an image records.

use std::ops::RangeInclusive;

/// Why a port was refused; the text is what people know from docker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    #[error("invalid port: {0:?}: no port specified")]
    Missing(String),
    #[error("invalid port: {0:?}: invalid proto: {1}")]
    Proto(String, String),
    #[error("invalid IP address: {0}")]
    Address(String),
    #[error("invalid containerPort: {0}")]
    Container(String),
    #[error("invalid hostPort: {0}")]
    Host(String),
    #[error("invalid ranges specified for container and host Ports: {0} and {1}")]
    Ranges(String, String),
}

/// One word of EXPOSE, taken apart. Its numbers are read by [`PortWord::ports`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortWord<'a> {
    /// Address of the host; EXPOSE has no use for it.
    pub address: String,
    /// Port or ports of the host; EXPOSE has no use for them either.
    pub host: &'a str,
    /// Port or ports of the container, never empty.
    pub container: &'a str,
    /// The protocol as written: `tcp`, `udp` or `sctp` in any case, or nothing.
    pub proto: &'a str,
}

impl<'a> PortWord<'a> {
    /// Take a word apart.
    pub fn read(raw: &'a str) -> Result<Self, PortError> {
        let parts: Vec<&str> = raw.split(':').collect();
        let (address, host, container) = match parts.as_slice() {
            [container] => (String::new(), "", *container),
            [host, container] => (String::new(), *host, *container),
            [address @ .., host, container] => (address.join(":"), *host, *container),
            [] => (String::new(), "", ""),
        };
        let (container, proto) = container.split_once('/').unwrap_or((container, ""));
        if container.is_empty() {
            return Err(PortError::Missing(raw.to_string()));
        }
        if !["", "tcp", "udp", "sctp"].contains(&&*proto.to_ascii_lowercase()) {
            return Err(PortError::Proto(raw.to_string(), proto.to_string()));
        }
        Ok(PortWord { address, host, container, proto })
    }

    /// The container's ports, once all that is written is known to make sense.
    pub fn ports(&self) -> Result<RangeInclusive<u32>, PortError> {
        if !self.address.is_empty() {
            let bare =
                self.address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(&self.address);
            if bare.parse::<std::net::IpAddr>().is_err() {
                return Err(PortError::Address(bare.to_string()));
            }
        }
        let (first, last) =
            range(self.container).ok_or_else(|| PortError::Container(self.container.to_string()))?;
        if !self.host.is_empty() {
            let (host_first, host_last) =
                range(self.host).ok_or_else(|| PortError::Host(self.host.to_string()))?;
            if last - first != host_last - host_first && last != first {
                return Err(PortError::Ranges(self.container.to_string(), self.host.to_string()));
            }
        }
        Ok(first..=last)
    }

    /// What an image records: `port/proto` for each port.
    pub fn recorded(&self) -> Result<Vec<String>, PortError> {
        let proto = if self.proto.is_empty() { "tcp".to_string() } else { self.proto.to_ascii_lowercase() };
        Ok(self.ports()?.map(|port| format!("{port}/{proto}")).collect())
    }
}

fn range(text: &str) -> Option<(u32, u32)> {
    let number = |s: &str| {
        let digits = s.strip_prefix('+').unwrap_or(s);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        digits.parse::<u32>().ok().filter(|p| *p <= 65535)
    };
    match text.split_once('-') {
        None => number(text).map(|p| (p, p)),
        Some((a, b)) => {
            let (first, last) = (number(a)?, number(b)?);
            (first <= last).then_some((first, last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &str) -> Result<Vec<String>, PortError> {
        PortWord::read(raw)?.recorded()
    }

    #[test]
    fn forms() {
        assert_eq!(parse("80").unwrap(), ["80/tcp"]);
        assert_eq!(parse("8080:80/UDP").unwrap(), ["80/udp"]);
        assert_eq!(parse("7-9/sctp").unwrap(), ["7/sctp", "8/sctp", "9/sctp"]);
        assert_eq!(parse("[::1]:1-2:3-4").unwrap(), ["3/tcp", "4/tcp"]);
        for bad in ["abc", "80/xyz", "", "/tcp", "9-7", "70000", "1.2.3:1:2", "1-2:3-5", "-1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
