//! Debian version numbers and their order.
//!
//! Source: Debian policy 5.6.12 and deb-version(7): `[epoch:]upstream[-revision]`; parts without digits
//! compare by a modified ASCII order in which `~` sorts before everything, even the end, and letters
//! before non-letters; runs of digits compare as numbers of any length.

use std::cmp::Ordering;
use std::fmt;

/// A version as written. Its order is Debian's, so `1.0` and `1.00` are equal.
#[derive(Clone)]
pub struct Version(Box<str>);

/// Why a text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no version number: {why}")]
pub struct VersionError {
    pub text: String,
    pub why: &'static str,
}

impl Version {
    /// Refuses empty versions, blanks, characters that versions can't have and non-numeric epochs.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        let fail = |why| VersionError { text: text.chars().take(80).collect(), why };
        let rest = match text.split_once(':') {
            Some((epoch, rest)) => {
                if epoch.is_empty() || epoch.len() > 9 || !epoch.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(fail("its epoch is no number"));
                }
                rest
            }
            None => text,
        };
        if rest.is_empty() || rest.starts_with('-') {
            return Err(fail("it is empty"));
        }
        if !rest.bytes().all(|b| b.is_ascii_alphanumeric() || b".+-~:".contains(&b)) {
            return Err(fail("it has a character that versions cannot have"));
        }
        Ok(Version(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parts(&self) -> (u64, &str, &str) {
        let (epoch, rest) = match self.0.split_once(':') {
            Some((e, r)) => (e.parse().unwrap_or(0), r),
            None => (0, &*self.0),
        };
        match rest.rsplit_once('-') {
            Some((upstream, revision)) => (epoch, upstream, revision),
            None => (epoch, rest, ""),
        }
    }
}

/// Weight of one non-digit: `~`, then the end, then letters, then the rest.
fn weight(b: Option<&u8>) -> i32 {
    match b {
        Some(b'~') => -1,
        None => 0,
        Some(b) if b.is_ascii_digit() => 0,
        Some(b) if b.is_ascii_alphabetic() => i32::from(*b),
        Some(b) => i32::from(*b) + 256,
    }
}

fn compare_part(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        // The run of non-digits, one character at a time.
        loop {
            let (x, y) = (a.first(), b.first());
            let plain = |c: Option<&u8>| c.is_none_or(u8::is_ascii_digit);
            if plain(x) && plain(y) {
                break;
            }
            match weight(x).cmp(&weight(y)) {
                Ordering::Equal => {}
                unequal => return unequal,
            }
            a = a.get(1..).unwrap_or_default();
            b = b.get(1..).unwrap_or_default();
        }
        if a.is_empty() && b.is_empty() {
            return Ordering::Equal;
        }
        let digits = |s: &[u8]| s.iter().take_while(|c| c.is_ascii_digit()).count();
        let (na, nb) = (digits(a), digits(b));
        let strip = |s: &'_ [u8]| -> usize { s.iter().take_while(|c| **c == b'0').count() };
        let (da, db) = (&a[strip(&a[..na])..na], &b[strip(&b[..nb])..nb]);
        match da.len().cmp(&db.len()).then_with(|| da.cmp(db)) {
            Ordering::Equal => {}
            unequal => return unequal,
        }
        a = &a[na..];
        b = &b[nb..];
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let (ea, ua, ra) = self.parts();
        let (eb, ub, rb) = other.parts();
        ea.cmp(&eb).then_with(|| compare_part(ua, ub)).then_with(|| compare_part(ra, rb))
    }
}
impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Version {}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v(s: &str) -> Version {
        Version::parse(s).unwrap()
    }

    #[test]
    fn the_order_is_debians() {
        let table = [
            ("1.0", "<", "1.1"),
            ("1.9", "<", "1.10"),
            ("1.0", "=", "1.00"),
            ("0:1.0", "=", "1.0"),
            ("1.0", "=", "1.0-0"),
            ("1:0.1", ">", "9.9"),
            ("1.0~rc1", "<", "1.0"),
            ("1.0~~", "<", "1.0~"),
            ("1.0~~a", "<", "1.0~"),
            ("1.0~", "<", "1.0-1"),
            ("1.0-1", "<", "1.0-1+b1"),
            ("1.0-1~bpo12+1", "<", "1.0-1"),
            ("1.0a", ">", "1.0"),
            ("1.0a", "<", "1.0+"),
            ("1.0+dfsg", ">", "1.0"),
            ("2.36-9+deb12u9", "<", "2.36-9+deb12u10"),
            ("1-1-1", ">", "1-1"),
            ("1.2.3-4.1", ">", "1.2.3-4"),
            ("99999999999999999999998", "<", "99999999999999999999999"),
            ("000000000000000000000001", "=", "1"),
            ("a", "<", "b"),
            ("A", "<", "a"),
            ("1.0-a", ">", "1.0-1"),
        ];
        for (a, op, b) in table {
            let want = match op {
                "<" => Ordering::Less,
                ">" => Ordering::Greater,
                _ => Ordering::Equal,
            };
            assert_eq!(v(a).cmp(&v(b)), want, "{a} {op} {b}");
            assert_eq!(v(b).cmp(&v(a)), want.reverse(), "{b} and {a}");
        }
    }

    #[test]
    fn bad_versions_are_refused() {
        for bad in ["", " ", "1 0", "a:1", ":1", "1:", "-1", "1_0", "1.0\n", "ü", "9999999999:1"] {
            assert!(Version::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in "[0-9a-c.~+-]{0,8}", b in "[0-9a-c.~+-]{0,8}", c in "[0-9a-c.~+-]{0,8}") {
            let (a, b, c) = (v(&format!("0{a}")), v(&format!("0{b}")), v(&format!("0{c}")));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a.cmp(&a), Ordering::Equal);
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
        }
    }
}
