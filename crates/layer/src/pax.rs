//! PAX extended headers (POSIX.1-2024, pax, "pax Extended Header"): `<length> <key>=<value>\n`.

use std::borrow::Cow;

/// Key and value.
pub type Record<'a> = (&'a [u8], &'a [u8]);

/// Parse all records of one extended header. Strict: a record that breaks the format is an error,
/// never skipped, since readers that disagree about it would see different archives.
pub fn parse(data: &[u8]) -> Result<Vec<Record<'_>>, &'static str> {
    let mut records = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let space = rest.iter().take(20).position(|b| *b == b' ').ok_or("a PAX record has no length")?;
        let length = decimal(&rest[..space]).ok_or("the length of a PAX record is no number")?;
        let length = usize::try_from(length).map_err(|_| "a PAX record is too long")?;
        if length <= space + 1 || length > rest.len() {
            return Err("the length of a PAX record is wrong");
        }
        let body = rest[space + 1..length].strip_suffix(b"\n").ok_or("a PAX record has no line end")?;
        let equals = body.iter().position(|b| *b == b'=').ok_or("a PAX record has no `=`")?;
        let (key, value) = (&body[..equals], &body[equals + 1..]);
        if key.is_empty() {
            return Err("a PAX record has an empty key");
        }
        if key.contains(&0)
            || (matches!(key, b"path" | b"linkpath" | b"uname" | b"gname") && value.contains(&0))
        {
            return Err("a PAX record has a NUL where none may be");
        }
        records.push((key, value));
        rest = &rest[length..];
    }
    Ok(records)
}

/// Append one record.
pub fn push(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // The length counts its own digits.
    let body = key.len() + value.len() + 3;
    let mut total = body + 1;
    while total != body + total.to_string().len() {
        total = body + total.to_string().len();
    }
    out.extend_from_slice(total.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Digits only.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `[-]seconds[.fraction]` as seconds and nanoseconds since 1970; digits beyond nanoseconds are cut.
pub fn parse_time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let dot = text.iter().position(|b| *b == b'.').unwrap_or(text.len());
    let seconds = i64::try_from(decimal(&text[..dot])?).ok()?;
    let fraction = text.get(dot + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanos: u32 = 0;
    for i in 0..9 {
        nanos = nanos * 10 + u32::from(fraction.get(i).map_or(0, |d| d - b'0'));
    }
    Some(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

/// The shortest text for [`parse_time`].
pub fn format_time(seconds: i64, nanos: u32) -> String {
    if nanos == 0 {
        return seconds.to_string();
    }
    let (sign, whole, nanos) = if seconds < 0 {
        ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos)
    } else {
        ("", seconds.unsigned_abs(), nanos)
    };
    let text = format!("{sign}{whole}.{nanos:09}");
    text.trim_end_matches('0').to_string()
}

/// The name that `SCHILY.xattr.` records carry, as star and Go write them.
pub const XATTR: &[u8] = b"SCHILY.xattr.";

/// A file name for the header block of an extended header; readers ignore it.
pub fn header_name(path: &[u8]) -> Vec<u8> {
    let shown: Cow<'_, str> = String::from_utf8_lossy(path);
    let base = shown.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let ascii: String = base.chars().filter(|c| c.is_ascii_graphic()).take(80).collect();
    format!("PaxHeaders.0/{ascii}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_count_themselves() {
        for n in [0, 1, 80, 87, 88, 89, 90, 980, 987, 990, 9985, 9990] {
            let mut out = Vec::new();
            push(&mut out, b"path", &vec![b'x'; n]);
            assert_eq!(parse(&out).unwrap(), [(&b"path"[..], &vec![b'x'; n][..])], "{n}");
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"x"[..],
            b"9 a=b\n",
            b"5 a=b\n",
            b"6 a=b\n\0\0",
            b"6 ab\n\n",
            b"5 =b\n",
            b" a=b\n",
            b"+6 a=b\n",
            b"99999999999999999999999 a=b\n",
            b"10 path=\0\n",
            b"7 a=b\n7",
            b"0 a=b\n",
        ] {
            assert!(parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(parse(b"6 a=b\n6 a=c\n").unwrap().len(), 2);
    }

    #[test]
    fn times() {
        assert_eq!(parse_time(b"1.5"), Some((1, 500_000_000)));
        assert_eq!(parse_time(b"-1.5"), Some((-2, 500_000_000)));
        assert_eq!(parse_time(b"3"), Some((3, 0)));
        assert_eq!(parse_time(b"1.1234567899"), Some((1, 123_456_789)));
        for bad in [&b""[..], b".", b"-", b"1.x", b"1e3", b"--1", b"99999999999999999999"] {
            assert_eq!(parse_time(bad), None);
        }
    }

    proptest! {
        #[test]
        fn time_text_round_trips(s in -1_000_000_000_000i64..1_000_000_000_000, n in 0u32..1_000_000_000) {
            prop_assert_eq!(parse_time(format_time(s, n).as_bytes()), Some((s, n)));
        }
        #[test]
        fn parse_never_panics(data: Vec<u8>) {
            let _ = parse(&data);
        }
    }
}
