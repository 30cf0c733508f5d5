//! Relations between packages: `a (>= 1) | b, c:any`.
//!
//! Source: Debian policy 7.1. Architecture lists in brackets and build profiles appear in source
//! packages only and are refused here.

use crate::version::Version;
use std::cmp::Ordering;
use std::fmt;

/// `<<`, `<=`, `=`, `>=` or `>>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Earlier,
    EarlierOrEqual,
    Equal,
    LaterOrEqual,
    Later,
}

impl Comparison {
    /// Whether `have` stands in this relation to `want`.
    pub fn holds(self, have: &Version, want: &Version) -> bool {
        let order = have.cmp(want);
        match self {
            Comparison::Earlier => order == Ordering::Less,
            Comparison::EarlierOrEqual => order != Ordering::Greater,
            Comparison::Equal => order == Ordering::Equal,
            Comparison::LaterOrEqual => order != Ordering::Less,
            Comparison::Later => order == Ordering::Greater,
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Comparison::Earlier => "<<",
            Comparison::EarlierOrEqual => "<=",
            Comparison::Equal => "=",
            Comparison::LaterOrEqual => ">=",
            Comparison::Later => ">>",
        })
    }
}

/// One package, perhaps with a version bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation<'a> {
    pub name: &'a str,
    pub bound: Option<(Comparison, Version)>,
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        match &self.bound {
            Some((op, version)) => write!(f, " ({op} {version})"),
            None => Ok(()),
        }
    }
}

/// Alternatives, of which one must hold.
pub type Group<'a> = Vec<Relation<'a>>;

/// A name as Debian policy 5.6.7 allows it, so that it is also safe as a part of a file name. Upper-case
/// letters pass, since some foreign archives have them.
pub fn is_package_name(name: &str) -> bool {
    name.len() <= 128
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

fn parse_one(text: &str) -> Result<Relation<'_>, String> {
    let text = text.trim();
    let fail = || format!("`{}` is no package relation", text.chars().take(80).collect::<String>());
    let (name, rest) = match text.find([' ', '\t', '\n', '(']) {
        Some(n) => (&text[..n], text[n..].trim()),
        None => (text, ""),
    };
    let name = name.split_once(':').map_or(name, |(name, _architecture)| name);
    if !is_package_name(name) {
        return Err(fail());
    }
    if rest.is_empty() {
        return Ok(Relation { name, bound: None });
    }
    let inner = rest.strip_prefix('(').and_then(|r| r.strip_suffix(')')).ok_or_else(fail)?.trim();
    let end = inner.find(|c: char| !"<>=".contains(c)).ok_or_else(fail)?;
    let op = match &inner[..end] {
        "<<" => Comparison::Earlier,
        // The single forms are deprecated and mean "or equal".
        "<=" | "<" => Comparison::EarlierOrEqual,
        "=" => Comparison::Equal,
        ">=" | ">" => Comparison::LaterOrEqual,
        ">>" => Comparison::Later,
        _ => return Err(fail()),
    };
    let version = Version::parse(inner[end..].trim()).map_err(|e| e.to_string())?;
    Ok(Relation { name, bound: Some((op, version)) })
}

/// Parses a `Depends`-like field. An empty field has no groups.
pub fn parse_relations(field: &str) -> Result<Vec<Group<'_>>, String> {
    field
        .split(',')
        .filter(|g| !g.trim().is_empty())
        .map(|group| group.split('|').map(parse_one).collect::<Result<Group<'_>, String>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_parse() {
        let got = parse_relations("a, b (>= 1:2~) | c:any,\n d(<<3), perl:any (= 5)").unwrap();
        let text: Vec<Vec<String>> =
            got.iter().map(|g| g.iter().map(ToString::to_string).collect()).collect();
        assert_eq!(
            text,
            [
                vec!["a".to_string()],
                vec!["b (>= 1:2~)".into(), "c".into()],
                vec!["d (<< 3)".into()],
                vec!["perl (= 5)".into()]
            ]
        );
        assert!(parse_relations("").unwrap().is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["a b", "a (", "a (1)", "a (== 1)", "a (>= )", "|", "../x", "a [amd64]", "${x}", "a (>= 1"]
        {
            assert!(parse_relations(bad).is_err(), "{bad}");
        }
    }
}
