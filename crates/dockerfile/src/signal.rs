//! STOPSIGNAL: a name with or without SIG, or a number (moby/sys/signal accepts the same).

const NAMES: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

/// Whether `signal` names a Linux signal.
pub fn is_valid(signal: &str) -> bool {
    if let Ok(n) = signal.parse::<i64>() {
        return n != 0;
    }
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if NAMES.contains(&name) {
        return true;
    }
    match name {
        "RTMIN" | "RTMAX" => true,
        _ => {
            let offset = |prefix: &str, max: u32| {
                name.strip_prefix(prefix)
                    .and_then(|n| n.parse::<u32>().ok())
                    .is_some_and(|n| (1..=max).contains(&n))
            };
            offset("RTMIN+", 15) || offset("RTMAX-", 14)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for good in ["SIGTERM", "term", "9", "SIGRTMIN+3", "RTMAX-14", "SIGUSR1"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "0", "SIGFOO", "RTMIN+16", "RTMAX-0"] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
