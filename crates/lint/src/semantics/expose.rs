//! EXPOSE words: what BuildKit warns about and what it refuses.

use super::Check;

/// Reads one word. Gives checks with a message, and the error that would stop a build.
pub(crate) fn read(word: &str) -> (Vec<(Check, String)>, Option<String>) {
    let mut found = Vec::new();
    let parts: Vec<&str> = word.split(':').collect();
    let (address, host, container) = match parts.as_slice() {
        [container] => (String::new(), "", *container),
        [host, container] => (String::new(), *host, *container),
        [address @ .., host, container] => (address.join(":"), *host, *container),
        [] => (String::new(), "", ""),
    };
    let (port, proto) = container.split_once('/').unwrap_or((container, ""));
    if port.is_empty() {
        return (found, Some(format!("invalid port: {word:?}: no port specified")));
    }
    if !matches!(proto.to_lowercase().as_str(), "" | "tcp" | "udp" | "sctp") {
        return (found, Some(format!("invalid port: {word:?}: invalid proto: {proto}")));
    }
    if proto != proto.to_lowercase() {
        found.push((Check::ExposeProtoCasing, format!("the protocol of {word:?} should be lowercase")));
    }
    if !address.is_empty() || !host.is_empty() {
        let message = format!("{word:?} maps a host port or address, which EXPOSE can't do");
        found.push((Check::ExposeInvalidFormat, message));
    }
    if !address.is_empty() {
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&address);
        if bare.parse::<std::net::IpAddr>().is_err() {
            return (found, Some(format!("invalid IP address: {bare}")));
        }
    }
    let Some((first, last)) = range(port) else {
        return (found, Some(format!("invalid containerPort: {port}")));
    };
    if !host.is_empty() {
        match range(host) {
            None => return (found, Some(format!("invalid hostPort: {host}"))),
            Some((from, to)) if last - first != to - from && last != first => {
                return (
                    found,
                    Some(format!("invalid ranges specified for container and host Ports: {port} and {host}")),
                );
            }
            Some(_) => {}
        }
    }
    (found, None)
}

/// `80` or `80-90`.
pub(crate) fn range(text: &str) -> Option<(u32, u32)> {
    let number = |text: &str| {
        let digits = text.strip_prefix('+').unwrap_or(text);
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u32>().ok()).flatten().filter(|port| *port <= 65_535)
    };
    match text.split_once('-') {
        None => number(text).map(|port| (port, port)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some((first, last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(read("80"), (vec![], None));
        assert_eq!(read("80/TCP").0[0].0, Check::ExposeProtoCasing);
        assert_eq!(read("8080:80").0[0].0, Check::ExposeInvalidFormat);
        assert!(read("x").1.is_some());
        assert!(read("1.2.3:1:2").1.is_some());
    }
}
