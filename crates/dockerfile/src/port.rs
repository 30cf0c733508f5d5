//! EXPOSE: `[ip:][host:]port[-port][/proto]` to the list of `port/proto` that an image records.

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

/// Expand one word of EXPOSE.
pub fn parse(raw: &str) -> Result<Vec<String>, PortError> {
    let parts: Vec<&str> = raw.split(':').collect();
    let (address, host, container) = match parts.as_slice() {
        [container] => (String::new(), "", *container),
        [host, container] => (String::new(), *host, *container),
        [address @ .., host, container] => (address.join(":"), *host, *container),
        [] => (String::new(), "", ""),
    };
    let (port, proto) = container.split_once('/').unwrap_or((container, ""));
    if port.is_empty() {
        return Err(PortError::Missing(raw.to_string()));
    }
    let lower = proto.to_ascii_lowercase();
    let proto = match lower.as_str() {
        "" | "tcp" => "tcp",
        "udp" | "sctp" => &lower,
        _ => return Err(PortError::Proto(raw.to_string(), proto.to_string())),
    };
    if !address.is_empty() {
        let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(&address);
        if bare.parse::<std::net::IpAddr>().is_err() {
            return Err(PortError::Address(bare.to_string()));
        }
    }
    let (first, last) = range(port).ok_or_else(|| PortError::Container(port.to_string()))?;
    if !host.is_empty() {
        let (host_first, host_last) = range(host).ok_or_else(|| PortError::Host(host.to_string()))?;
        if last - first != host_last - host_first && last != first {
            return Err(PortError::Ranges(port.to_string(), host.to_string()));
        }
    }
    Ok((first..=last).map(|p| format!("{p}/{proto}")).collect())
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
