//! Wildcards of COPY and ADD sources: Go's `filepath.Match`, and a form with `**` for `--parents`.
//!
//! `*` and `?` do not match `/`; a class such as `[^a-z]` may; `\` escapes. Names are bytes: what is not UTF-8
//! is matched byte by byte. Time is at most the product of both lengths.

/// The pattern has a syntax error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// Whether the text holds a wildcard that is not escaped.
pub fn has_wildcard(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// Whether the whole name matches the pattern.
///
/// # Errors
/// The pattern has a syntax error in the part that was needed: like in Go, what follows the first mismatch
/// and a later `*` is not looked at.
pub fn matches(pattern: &str, name: impl AsRef<[u8]>) -> Result<bool, BadPattern> {
    let mut pattern = pattern.as_bytes();
    let mut name = name.as_ref();
    'chunks: while !pattern.is_empty() {
        let (star, chunk, rest) = next_chunk(pattern);
        pattern = rest;
        if star && chunk.is_empty() {
            return Ok(!name.contains(&b'/'));
        }
        if let Some(after) = match_chunk(chunk, name)?
            && (after.is_empty() || !pattern.is_empty())
        {
            name = after;
            continue;
        }
        if star {
            for skip in 1..=name.len() {
                if name[skip - 1] == b'/' {
                    break;
                }
                if let Some(after) = match_chunk(chunk, &name[skip..])?
                    && (after.is_empty() || !pattern.is_empty())
                {
                    name = after;
                    continue 'chunks;
                }
            }
        }
        return Ok(false);
    }
    Ok(name.is_empty())
}

/// Whether the whole pattern is well-formed.
///
/// # Errors
/// It is not.
pub fn validate(pattern: &str) -> Result<(), BadPattern> {
    let mut pattern = pattern.as_bytes();
    while !pattern.is_empty() {
        let (_, chunk, rest) = next_chunk(pattern);
        match_chunk(chunk, b"")?;
        pattern = rest;
    }
    Ok(())
}

/// As [`matches`], but a `**` that stands alone between slashes matches any number of folders, also none.
///
/// # Errors
/// As [`matches`].
pub fn matches_deep(pattern: &str, name: impl AsRef<[u8]>) -> Result<bool, BadPattern> {
    let parts: Vec<&[u8]> = name.as_ref().split(|byte| *byte == b'/').collect();
    // reachable[i]: the pattern so far matches the first i parts.
    let mut reachable = vec![false; parts.len() + 1];
    reachable[0] = true;
    for component in pattern.split('/') {
        if component == "**" {
            let first = reachable.iter().position(|reached| *reached).unwrap_or(reachable.len());
            reachable[first..].fill(true);
            continue;
        }
        matches(component, "")?;
        let mut next = vec![false; parts.len() + 1];
        for (index, part) in parts.iter().enumerate() {
            next[index + 1] = reachable[index] && matches(component, part)?;
        }
        reachable = next;
    }
    Ok(reachable[parts.len()])
}

/// Leading stars, what is up to the next star, and the rest.
fn next_chunk(pattern: &[u8]) -> (bool, &[u8], &[u8]) {
    let stars = pattern.iter().take_while(|byte| **byte == b'*').count();
    let pattern = &pattern[stars..];
    let (mut at, mut in_class) = (0, false);
    while let Some(byte) = pattern.get(at) {
        match byte {
            b'\\' if at + 1 < pattern.len() => at += 1,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'*' if !in_class => break,
            _ => {}
        }
        at += 1;
    }
    (stars > 0, &pattern[..at], &pattern[at..])
}

/// Matches a chunk without stars at the start of `name`: what is left of the name, or `None`.
fn match_chunk<'a>(mut chunk: &[u8], mut name: &'a [u8]) -> Result<Option<&'a [u8]>, BadPattern> {
    // After a mismatch the rest is still read, to find syntax errors.
    let mut failed = false;
    while let Some(&byte) = chunk.first() {
        failed |= name.is_empty();
        match byte {
            b'[' => {
                let mut c = 0;
                if !failed {
                    let length;
                    (c, length) = decode(name);
                    name = &name[length..];
                }
                chunk = &chunk[1..];
                let negated = chunk.first() == Some(&b'^');
                if negated {
                    chunk = &chunk[1..];
                }
                let (mut found, mut ranges) = (false, 0);
                loop {
                    if ranges > 0 && chunk.first() == Some(&b']') {
                        chunk = &chunk[1..];
                        break;
                    }
                    let low;
                    (low, chunk) = class_char(chunk)?;
                    let mut high = low;
                    if chunk.first() == Some(&b'-') {
                        (high, chunk) = class_char(&chunk[1..])?;
                    }
                    found |= low <= c && c <= high;
                    ranges += 1;
                }
                failed |= found == negated;
            }
            b'?' => {
                if !failed {
                    failed = name[0] == b'/';
                    name = &name[decode(name).1..];
                }
                chunk = &chunk[1..];
            }
            _ => {
                let mut literal = byte;
                if byte == b'\\' {
                    chunk = &chunk[1..];
                    literal = *chunk.first().ok_or(BadPattern)?;
                }
                if !failed {
                    failed = literal != name[0];
                    name = &name[1..];
                }
                chunk = &chunk[1..];
            }
        }
    }
    Ok((!failed).then_some(name))
}

/// One character of a class; something must follow it.
fn class_char(chunk: &[u8]) -> Result<(u32, &[u8]), BadPattern> {
    let chunk = match chunk.first() {
        None | Some(b'-' | b']') => return Err(BadPattern),
        Some(b'\\') => &chunk[1..],
        Some(_) => chunk,
    };
    if chunk.is_empty() {
        return Err(BadPattern);
    }
    let (c, length) = decode(chunk);
    if c == INVALID && length == 1 {
        return Err(BadPattern);
    }
    match chunk.get(length..) {
        Some(rest) if !rest.is_empty() => Ok((c, rest)),
        _ => Err(BadPattern),
    }
}

const INVALID: u32 = char::REPLACEMENT_CHARACTER as u32;

/// The first character and its length; a byte that starts none is U+FFFD of length 1. `bytes` is not empty.
fn decode(bytes: &[u8]) -> (u32, usize) {
    let head = &bytes[..bytes.len().min(4)];
    match head.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next()) {
        Some(c) => (c as u32, c.len_utf8()),
        None => (INVALID, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_patterns_are_validated() {
        for good in ["", "a", "*", "a*[b-c]?", "[[]", "\\*", "[^x]", "**"] {
            assert_eq!(validate(good), Ok(()), "{good}");
        }
        for bad in ["[", "[^]]", "a*[", "[]", "x[]", "a\\", "[a-", "*b*["] {
            assert_eq!(validate(bad), Err(BadPattern), "{bad}");
        }
    }

    #[test]
    fn as_go() {
        for (pattern, name, expected) in [
            ("abc", "abc", Ok(true)),
            ("*", "abc", Ok(true)),
            ("*c", "abc", Ok(true)),
            ("a*", "a/b", Ok(false)),
            ("a*/b", "abc/b", Ok(true)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", Ok(true)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", Ok(false)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Ok(false)),
            ("ab[c]", "abc", Ok(true)),
            ("ab[b-d]", "abc", Ok(true)),
            ("ab[^e-g]", "abc", Ok(true)),
            ("ab[^b-d]", "abc", Ok(false)),
            ("a\\*b", "a*b", Ok(true)),
            ("a\\*b", "ab", Ok(false)),
            ("a?b", "a☺b", Ok(true)),
            ("a[^a]b", "a☺b", Ok(true)),
            ("a???b", "a☺b", Ok(false)),
            ("[a-ζ]*", "α", Ok(true)),
            ("*[a-ζ]", "A", Ok(false)),
            ("a?b", "a/b", Ok(false)),
            ("a*b", "a/b", Ok(false)),
            ("[\\]a]", "]", Ok(true)),
            ("[x\\-]", "-", Ok(true)),
            ("[x\\-]", "z", Ok(false)),
            ("[]a]", "]", Err(BadPattern)),
            ("[-]", "-", Err(BadPattern)),
            ("[x-]", "x", Err(BadPattern)),
            ("[a-b-c]", "a", Err(BadPattern)),
            ("[", "a", Err(BadPattern)),
            ("[^bc", "a", Err(BadPattern)),
            ("a[", "ab", Err(BadPattern)),
            ("a[", "x", Err(BadPattern)),
            ("a/b[", "x", Err(BadPattern)),
            ("a*[", "x", Ok(false)),
            ("\\", "a", Err(BadPattern)),
            ("*x", "xxx", Ok(true)),
            ("", "", Ok(true)),
            ("*", "", Ok(true)),
            ("*", "a/", Ok(false)),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        assert_eq!(matches("a?c", b"a\xffc"), Ok(true));
        assert_eq!(matches("a?", b"a\xe2\x82"), Ok(false));
    }

    #[test]
    fn stars_are_not_exponential() {
        let pattern = "*a".repeat(2000);
        assert_eq!(matches(&pattern, "a".repeat(4000) + "b"), Ok(false));
    }

    #[test]
    fn deep() {
        for (pattern, name, expected) in [
            ("**/*.go", "a.go", true),
            ("**/*.go", "x/y/a.go", true),
            ("a/**", "a/b/c", true),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/b/d", false),
            ("a/*/c", "a/b/x/c", false),
            ("**/a/**/b", "x/a/y/z/b", true),
            ("a**", "a/b", false),
        ] {
            assert_eq!(matches_deep(pattern, name), Ok(expected), "{pattern} {name}");
        }
        assert_eq!(matches_deep("**/[", "x"), Err(BadPattern));
        assert_eq!(matches_deep(&"**/".repeat(3000), "a/".repeat(3000)), Ok(true));
    }

    #[test]
    fn wildcards() {
        assert!(has_wildcard("a*") && has_wildcard("[") && has_wildcard("\\\\?"));
        assert!(!has_wildcard("a\\*") && !has_wildcard("a]") && !has_wildcard("\\"));
    }
}
