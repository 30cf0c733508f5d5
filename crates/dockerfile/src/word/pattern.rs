//! Patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*`, `?`, and `\` in front of either.

use super::WordErrorKind;
use regex::{Regex, RegexBuilder};
use std::sync::OnceLock;

/// Which of several matches at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Shortest,
    Longest,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Anchor {
    Start,
    None,
}

/// Compiled patterns may not grow beyond this.
const MAX_REGEX_BYTES: usize = 4 << 20;

fn compile(pattern: &str, length: Length, anchor: Anchor) -> Result<Regex, WordErrorKind> {
    let invalid = |reason: String| WordErrorKind::Pattern { pattern: pattern.to_owned(), reason };
    let mut out = String::with_capacity(pattern.len() + 8);
    if anchor == Anchor::Start {
        out.push('^');
    }
    let pattern_chars = pattern.strip_prefix('\u{feff}').unwrap_or(pattern);
    let mut chars = pattern_chars.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => out.push_str(if length == Length::Longest { ".*" } else { ".*?" }),
            '?' => out.push('.'),
            '\\' => match chars.peek() {
                // The escape was needed inside of `${}`; it is no part of the pattern.
                Some('}' | '/') => {}
                Some('*' | '?' | '\\') => {
                    out.push('\\');
                    out.extend(chars.next());
                }
                next => {
                    let next = next.copied().unwrap_or(char::REPLACEMENT_CHARACTER);
                    return Err(invalid(format!("invalid escape '\\{next}'")));
                }
            },
            c => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    RegexBuilder::new(&out)
        .size_limit(MAX_REGEX_BYTES)
        .dfa_size_limit(MAX_REGEX_BYTES)
        .build()
        .map_err(|_| invalid("pattern is too large".to_owned()))
}

pub(super) fn trim_prefix(pattern: &str, value: &str, length: Length) -> Result<String, WordErrorKind> {
    let regex = compile(pattern, length, Anchor::Start)?;
    Ok(regex.find(value).map_or(value, |found| &value[found.end()..]).to_owned())
}

/// The shortest match at the end is the shortest match at the start of everything reversed.
pub(super) fn trim_suffix(pattern: &str, value: &str, length: Length) -> Result<String, WordErrorKind> {
    let reversed: String = value.chars().rev().collect();
    let rest = trim_prefix(&reverse_pattern(pattern), &reversed, length)?;
    Ok(rest.chars().rev().collect())
}

/// Reverses, but keeps each `\` in front of what it escapes.
fn reverse_pattern(pattern: &str) -> String {
    let chars: Vec<char> = pattern.chars().collect();
    let mut groups: Vec<&[char]> = Vec::with_capacity(chars.len());
    let mut rest = chars.as_slice();
    while !rest.is_empty() {
        let take = if rest[0] == '\\' && rest.len() > 1 { 2 } else { 1 };
        let (group, after) = rest.split_at(take);
        groups.push(group);
        rest = after;
    }
    groups.into_iter().rev().flatten().collect()
}

pub(super) fn replace_first(pattern: &str, value: &str, with: &str) -> Result<String, WordErrorKind> {
    let regex = compile(pattern, Length::Longest, Anchor::None)?;
    Ok(match regex.find(value) {
        Some(found) => [&value[..found.start()], with, &value[found.end()..]].concat(),
        None => value.to_owned(),
    })
}

/// In `with`, `$name` means a group of the match as it does in Go; as no pattern has groups, all but `$0` is
/// empty.
pub(super) fn replace_all(
    pattern: &str,
    value: &str,
    with: &str,
    max: usize,
) -> Result<String, WordErrorKind> {
    let regex = compile(pattern, Length::Longest, Anchor::None)?;
    let mut out = String::new();
    let mut done = 0;
    for found in regex.captures_iter(value) {
        let Some(whole) = found.get(0) else { continue };
        out.push_str(&value[done..whole.start()]);
        found.expand(with, &mut out);
        done = whole.end();
        if out.len() > max {
            return Err(WordErrorKind::TooLong { max });
        }
    }
    out.push_str(&value[done..]);
    Ok(out)
}

/// Whether a character is a decimal digit (category Nd).
pub(super) fn is_decimal(c: char) -> bool {
    static DIGIT: OnceLock<Option<Regex>> = OnceLock::new();
    let digit = DIGIT.get_or_init(|| Regex::new(r"^\d$").ok());
    digit.as_ref().is_some_and(|digit| digit.is_match(c.encode_utf8(&mut [0; 4])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reversing_keeps_escapes() {
        assert_eq!(reverse_pattern(r"a\*c"), r"c\*a");
        assert_eq!(reverse_pattern(r"\\a"), r"a\\");
        assert_eq!(reverse_pattern(r"ab\"), r"\ba");
    }

    #[test]
    fn digits_of_every_script() {
        assert!(is_decimal('٣') && !is_decimal('Ⅷ') && !is_decimal('½'));
    }
}
