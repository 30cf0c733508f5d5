//! Text as Go's `fmt` and `time` print it: history entries of images are written by tools in Go, and
//! people compare them.

use dockerfile::word::quote;

/// `%q` of a string list: `["a" "b"]`.
pub fn quote_list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|s| quote(s)).collect();
    format!("[{}]", quoted.join(" "))
}

/// `%v` of a string list: `[a b]`.
pub fn plain_list(items: &[String]) -> String {
    format!("[{}]", items.join(" "))
}

/// A duration in nanoseconds as Go's `time.Duration.String`: `1m30s`, `250ms`, `0s`.
pub fn duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".into();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    if n < 1_000_000_000 {
        let (unit, scale) = match n {
            0..=999 => return format!("{sign}{n}ns"),
            1_000..=999_999 => ("µs", 3),
            _ => ("ms", 6),
        };
        return format!("{sign}{}{unit}", decimal(n, scale));
    }
    let (total_seconds, fraction) = (n / 1_000_000_000, n % 1_000_000_000);
    let (hours, minutes) = (total_seconds / 3600, total_seconds / 60 % 60);
    let seconds = decimal(total_seconds % 60 * 1_000_000_000 + fraction, 9);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, m) => format!("{sign}{m}m{seconds}s"),
        (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
    }
}

/// `n / 10^scale` without trailing zeros.
fn decimal(n: u64, scale: usize) -> String {
    let unit = 10u64.pow(scale as u32);
    let fraction = format!("{:0scale$}", n % unit);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { (n / unit).to_string() } else { format!("{}.{fraction}", n / unit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_like_go() {
        let cases = [
            (0, "0s"),
            (90_000_000_000, "1m30s"),
            (250_000_000, "250ms"),
            (1_500_000, "1.5ms"),
            (3_600_000_000_000, "1h0m0s"),
            (1_100_000_000, "1.1s"),
            (999, "999ns"),
            (-5_000_000_000, "-5s"),
        ];
        for (n, want) in cases {
            assert_eq!(duration(n), want);
        }
    }

    #[test]
    fn quotes_like_go() {
        assert_eq!(quote("a\"b\\\n\té\u{1}\u{200b}"), r#""a\"b\\\n\té\x01\u200b""#);
        assert_eq!(quote_list(&["sh".into(), "a b".into()]), r#"["sh" "a b"]"#);
    }
}
