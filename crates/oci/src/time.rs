//! Timestamps of configs and history: RFC 3339 text as the OCI image spec (config.md) asks for.

use std::fmt;
use std::str::FromStr;

/// Seconds and nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    pub seconds: i64,
    /// Below 1,000,000,000.
    pub nanos: u32,
}

/// The text that Go (and so Docker) writes for a time: UTC, fraction without trailing zeros.
/// Years outside 0..=9999 are clamped, since RFC 3339 has none.
pub fn rfc3339(seconds: i64, nanos: u32) -> String {
    Timestamp { seconds, nanos }.to_string()
}

const MIN: i64 = -62_167_219_200; // 0000-01-01T00:00:00Z
const MAX: i64 = 253_402_300_799; // 9999-12-31T23:59:59Z

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.seconds.clamp(MIN, MAX);
        let (year, month, day) = civil(t.div_euclid(86_400));
        let s = t.rem_euclid(86_400);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)?;
        let nanos = self.nanos.min(999_999_999);
        if nanos != 0 {
            let fraction = format!("{nanos:09}");
            write!(f, ".{}", fraction.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl FromStr for Timestamp {
    type Err = ();

    /// Any RFC 3339 time, with any offset. The error says nothing: callers name the field.
    fn from_str(s: &str) -> Result<Self, ()> {
        let b = s.as_bytes();
        if !s.is_ascii() || b.len() < 20 {
            return Err(());
        }
        let num = |from: usize, to: usize| -> Result<i64, ()> {
            let t = s.get(from..to).ok_or(())?;
            if !t.bytes().all(|c| c.is_ascii_digit()) {
                return Err(());
            }
            t.parse().map_err(|_| ())
        };
        let punct = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
        if punct.iter().any(|(i, c)| b[*i] != *c) || !matches!(b[10], b'T' | b't' | b' ') {
            return Err(());
        }
        let (year, month, day) = (num(0, 4)?, num(5, 7)?, num(8, 10)?);
        let (hour, minute, second) = (num(11, 13)?, num(14, 16)?, num(17, 19)?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
            return Err(());
        }
        let mut at = 19;
        let mut nanos = 0u32;
        if b[at] == b'.' {
            let start = at + 1;
            at = start;
            while at < b.len() && b[at].is_ascii_digit() {
                if at - start < 9 {
                    nanos = nanos * 10 + u32::from(b[at] - b'0');
                }
                at += 1;
            }
            if at == start {
                return Err(());
            }
            for _ in at - start..9 {
                nanos *= 10;
            }
        }
        let offset = match &b[at..] {
            b"Z" | b"z" => 0,
            [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
                let (h, m) = (num(at + 1, at + 3)?, num(at + 4, at + 6)?);
                if h > 23 || m > 59 {
                    return Err(());
                }
                (h * 3600 + m * 60) * if *sign == b'-' { -1 } else { 1 }
            }
            _ => return Err(()),
        };
        let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
        Ok(Timestamp { seconds, nanos })
    }
}

/// Days since the epoch of a date in the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years start in March, so that the leap day is the last one.
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days`].
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms() {
        assert_eq!(rfc3339(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_700_000_000, 120_000_000), "2023-11-14T22:13:20.12Z");
        assert_eq!(rfc3339(i64::MAX, u32::MAX), "9999-12-31T23:59:59.999999999Z");
        assert_eq!(rfc3339(i64::MIN, 0), "0000-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400, 0), "2000-02-29T00:00:00Z");
    }

    #[test]
    fn parses_offsets_and_fractions() {
        let t = |s: &str| s.parse::<Timestamp>();
        assert_eq!(
            t("2023-11-14T23:13:20.12+01:00"),
            Ok(Timestamp { seconds: 1_700_000_000, nanos: 120_000_000 })
        );
        assert_eq!(t("1969-12-31T23:59:59.1234567891Z"), Ok(Timestamp { seconds: -1, nanos: 123_456_789 }));
        for bad in [
            "",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-13-14T22:13:20Z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20+1:00é",
        ] {
            assert_eq!(t(bad), Err(()), "{bad}");
        }
    }

    #[test]
    fn round_trip() {
        for s in (-70_000_000_000i64..250_000_000_000).step_by(9_999_999_937).filter(|s| *s > MIN) {
            let t = Timestamp { seconds: s, nanos: 5 };
            assert_eq!(t.to_string().parse(), Ok(t));
        }
    }
}
