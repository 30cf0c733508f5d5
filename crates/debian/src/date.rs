//! Dates of release files: `Sat, 11 Jul 2026 10:16:37 UTC` (RFC 2822 with a zone of UTC), in seconds
//! since 1970.

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years start in March, so that the leap day is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// `None` for anything but a full date in UTC from 1970 on.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let rest = text.trim().split_once(',').map_or(text, |(_weekday, rest)| rest);
    let mut words = rest.split_ascii_whitespace();
    let day: i64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|m| *m == name)? as i64 + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|n| n.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if !matches!(words.next()?, "UTC" | "GMT" | "+0000" | "Z")
        || words.next().is_some()
        || clock.next().is_some()
    {
        return None;
    }
    let in_range = (1970..=9999).contains(&year)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !in_range {
        return None;
    }
    u64::try_from(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second).ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn known_dates() {
        assert_eq!(parse("Thu, 01 Jan 1970 00:00:00 UTC"), Some(0));
        assert_eq!(parse("Sat, 11 Jul 2026 10:16:37 UTC"), Some(1_783_764_997));
        assert_eq!(parse("Thu, 29 Feb 2024 23:59:59 +0000"), Some(1_709_251_199));
        for bad in [
            "",
            "Sat, 11 Jul 2026",
            "Sat, 11 Foo 2026 10:16:37 UTC",
            "11 Jul 2026 10:16:37 CEST",
            "11 Jul 2026 25:16:37 UTC",
            "11 Jul 99999999999 10:16:37 UTC",
            "-1 Jul 2026 10:16:37 UTC",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
