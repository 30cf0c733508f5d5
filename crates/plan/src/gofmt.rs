//! Text as Go's `fmt` and `time` print it: history entries of images are written by tools in Go, and
//! people compare them.

use std::fmt::Write;

/// `%q` of a string list: `["a" "b"]`.
pub fn quote_list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|s| quote(s)).collect();
    format!("[{}]", quoted.join(" "))
}

/// `%v` of a string list: `[a b]`.
pub fn plain_list(items: &[String]) -> String {
    format!("[{}]", items.join(" "))
}

/// `%q` of a string (Go's `strconv.Quote`).
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if is_printable(c) => out.push(c),
            c if (c as u32) < 0x10000 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => {
                let _ = write!(out, "\\U{:08x}", c as u32);
            }
        }
    }
    out.push('"');
    out
}

/// Close to `strconv.IsPrint`: control and format characters and every blank but U+0020 are escaped.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && (c == ' ' || !c.is_whitespace())
        && !matches!(c as u32,
            0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e
            | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb | 0xe000..=0xf8ff | 0xe0000..=0xe0fff | 0xf0000..=0x10ffff)
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
