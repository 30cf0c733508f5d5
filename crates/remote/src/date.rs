//! Dates of HTTP headers (RFC 9110, section 5.6.7): the three forms that a recipient must read.

/// Seconds since 1970, if `text` is an HTTP date.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    match text.split_once(", ") {
        // `Sun, 06 Nov 1994 08:49:37 GMT`
        Some((day, rest)) if day.len() == 3 => {
            let [day, month, year, time, "GMT"] = words(rest)? else { return None };
            seconds(number(year, 4)?, month, number(day, 2)?, time)
        }
        // `Sunday, 06-Nov-94 08:49:37 GMT`
        Some((_, rest)) => {
            let [date, time, "GMT"] = words(rest)? else { return None };
            let mut parts = date.split('-');
            let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
            // Two digits mean the past; the form was given up long before 2070.
            let year = number(year, 2)?;
            let year = if year < 70 { 2000 + year } else { 1900 + year };
            seconds(year, month, number(day, 2)?, time)
        }
        // `Sun Nov  6 08:49:37 1994`
        None => {
            let [_, month, day, time, year] = words(text)?;
            seconds(number(year, 4)?, month, day.parse().ok()?, time)
        }
    }
}

/// Exactly `N` words.
fn words<const N: usize>(text: &str) -> Option<[&str; N]> {
    let all: Vec<&str> = text.split_ascii_whitespace().collect();
    all.try_into().ok()
}

fn number(text: &str, digits: usize) -> Option<i64> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn seconds(year: i64, month: &str, day: i64, time: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|m| *m == month)? as i64 + 1;
    let mut parts = time.split(':');
    let (h, m, s) = (parts.next()?, parts.next()?, parts.next()?);
    let (h, m, s) = (number(h, 2)?, number(m, 2)?, number(s, 2)?);
    if !(1..=31).contains(&day) || h > 23 || m > 59 || s > 60 || parts.next().is_some() {
        return None;
    }
    // Days of the proleptic Gregorian calendar, counted in years that begin in March.
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + h * 3600 + m * 60 + s)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn all_three_forms() {
        let want = Some(784_111_777);
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), want);
        assert_eq!(parse("Sunday, 06-Nov-94 08:49:37 GMT"), want);
        assert_eq!(parse("Sun Nov  6 08:49:37 1994"), want);
        assert_eq!(parse("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(parse("Thu, 29 Feb 2024 23:59:60 GMT"), Some(1_709_251_200));
    }

    #[test]
    fn anything_else_is_none() {
        let bad = [
            "",
            "x",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 8:9:7 GMT",
        ];
        for text in bad {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("Sun, 00 Nov 1994 08:49:37 GMT"), None);
        assert_eq!(parse("Sun, 06 Nov 1994 24:49:37 GMT"), None);
    }
}
