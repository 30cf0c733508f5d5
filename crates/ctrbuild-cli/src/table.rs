//! Plain tables, and numbers and times as docker shows them.

/// Columns padded to their widest cell, two blanks or more between.
pub fn render(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<w$}", w = width + 3));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// `1.23MB`: three digits, decimal units.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let text = match value {
        v if unit == 0 || v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    };
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text };
    format!("{text}{}", UNITS[unit])
}

/// `3 minutes ago`, from an RFC 3339 time and now in seconds since 1970.
pub fn ago(created: Option<&str>, now: i64) -> String {
    let Some(then) = created.and_then(|c| c.parse::<oci::Timestamp>().ok()) else { return "N/A".into() };
    let seconds = (now - then.seconds).max(0);
    let (n, unit) = match seconds {
        0 => return "Less than a second ago".into(),
        1 => return "1 second ago".into(),
        s if s < 60 => (s, "seconds"),
        s if s < 120 => return "About a minute ago".into(),
        s if s < 3600 => (s / 60, "minutes"),
        s if s < 7200 => return "About an hour ago".into(),
        s if s < 48 * 3600 => (s / 3600, "hours"),
        s if s < 14 * 86400 => (s / 86400, "days"),
        s if s < 60 * 86400 => (s / (7 * 86400), "weeks"),
        s if s < 2 * 365 * 86400 => (s / (30 * 86400), "months"),
        s => (s / (365 * 86400), "years"),
    };
    format!("{n} {unit} ago")
}

/// Cut to `width` characters.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    let mut out: String = text.chars().take(width - 1).collect();
    out.push('…');
    out
}

/// Seconds since 1970.
pub fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_like_docker() {
        for (n, want) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_234_000, "1.23MB"),
            (74_800_000, "74.8MB"),
            (123_456_789, "123MB"),
        ] {
            assert_eq!(size(n), want);
        }
        assert_eq!(ago(Some("1970-01-01T00:00:00Z"), 150), "2 minutes ago");
        assert_eq!(ago(None, 5), "N/A");
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["A".to_string(), "B".into()], vec!["long".into(), "x".into()]];
        assert_eq!(render(&rows), "A      B\nlong   x\n");
    }
}
