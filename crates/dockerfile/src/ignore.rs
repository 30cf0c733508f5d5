//! Ignore files and `--exclude`: reading patterns, and matching paths against them.
//!
//! Behaviour is that of moby's pattern matcher: patterns in order, the last one that says something counts,
//! `!` takes back, a folder that matches takes all below with it, `**` crosses folders. Regular expressions are
//! built from patterns with the quirks the original has. Matching is linear in the path for each pattern.
//! Not here: where the file is, and walking folders.

use crate::glob;
use regex::{Regex, RegexBuilder};
use std::borrow::Cow;

/// Longest line of an ignore file.
pub const MAX_LINE_BYTES: usize = 65_535;
/// A compiled pattern may not grow beyond this.
const MAX_REGEX_BYTES: usize = 2 << 20;

/// Why patterns can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IgnoreError {
    /// A pattern has a syntax error.
    #[error("syntax error in pattern")]
    BadPattern {
        /// The pattern.
        pattern: String,
    },
    /// `!` and nothing else.
    #[error("illegal exclusion pattern: \"!\"")]
    LoneBang,
    /// A line of the ignore file is too long.
    #[error("ignore file line greater than max allowed size of {max}")]
    LineTooLong {
        /// The limit.
        max: usize,
        /// The line, counted from 1.
        line: usize,
    },
}

impl IgnoreError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::BadPattern { pattern } => format!("see the pattern `{pattern}`"),
            Self::LoneBang => "write the pattern straight behind `!`".into(),
            Self::LineTooLong { line, .. } => format!("break up line {line}"),
        })
    }
}

/// The patterns of an ignore file: comments (`#` in the first column) and blank lines dropped, paths cleaned,
/// a leading `/` stripped, also behind `!`.
///
/// # Errors
/// A line is longer than [`MAX_LINE_BYTES`].
pub fn read(text: &str) -> Result<Vec<String>, IgnoreError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut patterns = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        if line.len() > MAX_LINE_BYTES {
            return Err(IgnoreError::LineTooLong { max: MAX_LINE_BYTES, line: index + 1 });
        }
        if line.starts_with('#') {
            continue;
        }
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let (bang, path) = match line.strip_prefix('!') {
            Some(path) => ("!", path.trim()),
            None => ("", line),
        };
        let mut path = if path.is_empty() { String::new() } else { clean(path) };
        if path.len() > 1 && path.starts_with('/') {
            path.remove(0);
        }
        patterns.push(format!("{bang}{path}"));
    }
    Ok(patterns)
}

/// The shortest path that means the same, by text alone: Go's `filepath.Clean`.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => drop(parts.pop()),
                _ if rooted => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// Whether a pattern takes away or gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Ignore,
    Keep,
}

#[derive(Clone, Debug)]
enum Kind {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Regex(Regex),
}

#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    sign: Sign,
    kind: Kind,
}

/// A list of patterns, ready to be matched.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    patterns: Vec<Pattern>,
    keeps: bool,
}

/// What is known of a folder, for matching what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderState {
    /// For each pattern whether it matched the folder or one above; empty at the root.
    matched: Vec<bool>,
}

impl Matcher {
    /// Compiles patterns, each with or without `!` in front. Blank ones are dropped, the rest is cleaned.
    ///
    /// # Errors
    /// A pattern has a syntax error.
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, IgnoreError> {
        let mut out = Self::default();
        for pattern in patterns {
            let pattern = pattern.as_ref().trim();
            if pattern.is_empty() {
                continue;
            }
            let cleaned = clean(pattern);
            let (sign, text) = match cleaned.strip_prefix('!') {
                Some("") => return Err(IgnoreError::LoneBang),
                Some(rest) => (Sign::Keep, rest.to_owned()),
                None => (Sign::Ignore, cleaned),
            };
            let bad = || IgnoreError::BadPattern { pattern: text.clone() };
            glob::matches(&text, ".").map_err(|_| bad())?;
            let kind = compile(&text).ok_or_else(bad)?;
            out.keeps |= sign == Sign::Keep;
            out.patterns.push(Pattern { text, sign, kind });
        }
        Ok(out)
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether the path, or a folder above it, is ignored. The path is relative, with `/` between.
    pub fn matches_or_parent(&self, path: &str) -> bool {
        let mut matched = false;
        for pattern in &self.patterns {
            if (pattern.sign == Sign::Keep) != matched {
                continue;
            }
            if pattern.matches_or_parent(path) {
                matched = pattern.sign == Sign::Ignore;
            }
        }
        matched
    }

    /// Whether the path is ignored, for a walk: `parent` is the state of the folder it is in
    /// ([`FolderState::default`] at the root). Gives the state of the path, should it be a folder.
    pub fn matches_in(&self, path: &str, parent: &FolderState) -> (bool, FolderState) {
        let mut matched = false;
        let mut state = FolderState { matched: vec![false; self.patterns.len()] };
        for (index, pattern) in self.patterns.iter().enumerate() {
            let mut found = parent.matched.get(index).copied().unwrap_or(false);
            if !found {
                if (pattern.sign == Sign::Keep) != matched {
                    continue;
                }
                found = match parent.matched.is_empty() {
                    true => pattern.matches_or_parent(path),
                    false => pattern.matches(path),
                };
            }
            state.matched[index] = found;
            if found {
                matched = pattern.sign == Sign::Ignore;
            }
        }
        (matched, state)
    }

    /// Whether a walk may leave out an ignored folder: no `!` pattern can match anything below it.
    pub fn can_skip(&self, folder: &str) -> bool {
        !self.keeps
            || !self
                .patterns
                .iter()
                .any(|pattern| pattern.sign == Sign::Keep && pattern.may_match_below(folder))
    }
}

impl Pattern {
    fn matches(&self, path: &str) -> bool {
        match &self.kind {
            Kind::Exact(text) => path == text,
            Kind::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Kind::Suffix(suffix) => {
                path.ends_with(suffix.as_str()) || suffix.strip_prefix('/').is_some_and(|rest| path == rest)
            }
            Kind::Regex(regex) => regex.is_match(path),
        }
    }

    fn matches_or_parent(&self, path: &str) -> bool {
        self.matches(path) || path.match_indices('/').any(|(at, _)| self.matches(&path[..at]))
    }

    /// Compares folder by folder up to the first part that may cross folders.
    fn may_match_below(&self, folder: &str) -> bool {
        let mut wanted = self.text.split('/');
        for part in folder.split('/') {
            match wanted.next() {
                None => return true,
                Some(pattern) if pattern.contains("**") || pattern.contains(['[', ']', '\\', '^']) => {
                    return true;
                }
                Some(pattern) => {
                    if glob::matches(pattern, part) == Ok(false) {
                        return false;
                    }
                }
            }
        }
        true
    }
}

/// Compiles a cleaned pattern; `None` where it makes no regular expression.
fn compile(pattern: &str) -> Option<Kind> {
    let (shape, text) = to_go_regex(pattern);
    Some(match shape {
        Shape::Exact => Kind::Exact(pattern.to_owned()),
        Shape::Prefix => Kind::Prefix(pattern[..pattern.len() - 2].to_owned()),
        Shape::Suffix => Kind::Suffix(pattern[2..].to_owned()),
        Shape::Regex => {
            let regex = RegexBuilder::new(&from_go_regex(&text)?)
                .size_limit(MAX_REGEX_BYTES)
                .dfa_size_limit(MAX_REGEX_BYTES)
                .build()
                .ok()?;
            Kind::Regex(regex)
        }
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Exact,
    Prefix,
    Suffix,
    Regex,
}

/// What the original makes of a pattern: its shape, and a regular expression in Go's syntax. It does not look
/// at classes, so that wildcards inside of brackets become text of the class.
fn to_go_regex(pattern: &str) -> (Shape, String) {
    let mut shape = Shape::Exact;
    let mut out = String::from("^");
    let mut chars = pattern.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '*' if chars.next_if(|(_, c)| *c == '*').is_some() => {
                // `**/` is `**`.
                chars.next_if(|(_, c)| *c == '/');
                if chars.peek().is_some() {
                    out.push_str("(.*/)?");
                    shape = Shape::Regex;
                } else if shape == Shape::Exact {
                    shape = Shape::Prefix;
                } else {
                    out.push_str(".*");
                    shape = Shape::Regex;
                }
                if at == 0 {
                    shape = Shape::Suffix;
                }
            }
            '*' => {
                out.push_str("[^/]*");
                shape = Shape::Regex;
            }
            '?' => {
                out.push_str("[^/]");
                shape = Shape::Regex;
            }
            '\\' => {
                out.push('\\');
                if let Some((_, next)) = chars.next() {
                    out.push(next);
                    shape = Shape::Regex;
                }
            }
            '[' | ']' => {
                out.push(c);
                shape = Shape::Regex;
            }
            // `^` is not among them.
            '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push('$');
    (shape, out)
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// The same expression in the syntax of our regular expressions; `None` where Go would refuse it.
fn from_go_regex(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 8);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push_str(&escaped(chars.next()?)?),
            '[' => class(&mut out, &mut chars)?,
            '^' | '$' | '.' | '*' | '?' | '(' | ')' => out.push(c),
            c => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    Some(out)
}

/// What an escaped character means in Go's regular expressions, in ours.
fn escaped(c: char) -> Option<Cow<'static, str>> {
    Some(Cow::Borrowed(match c {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => r"[\t\n\f\r ]",
        'S' => r"[^\t\n\f\r ]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        'b' => r"(?-u:\b)",
        'B' => r"(?-u:\B)",
        'A' => r"\A",
        'z' => r"\z",
        c => return literal(c).map(|c| Cow::Owned(regex::escape(c.encode_utf8(&mut [0; 4])))),
    }))
}

/// The one character that an escaped character stands for.
const fn literal(c: char) -> Option<char> {
    Some(match c {
        'a' => '\u{7}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => c,
        _ => return None,
    })
}

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

/// A class behind its `[`, up to and with its `]`.
fn class(out: &mut String, chars: &mut Chars<'_>) -> Option<()> {
    out.push('[');
    if chars.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    let mut first = true;
    loop {
        let c = chars.next()?;
        if c == ']' && !first {
            out.push(']');
            return Some(());
        }
        first = false;
        if c == '[' && chars.peek() == Some(&':') {
            let rest: String = chars.clone().collect();
            if let Some(end) = rest.find(":]") {
                let name = &rest[1..end.max(1)];
                POSIX.contains(&name.strip_prefix('^').unwrap_or(name)).then_some(())?;
                out.push_str("[:");
                out.push_str(name);
                out.push_str(":]");
                chars.nth(rest[..end + 2].chars().count() - 1);
                continue;
            }
        }
        if c == '\\' && matches!(chars.peek(), Some('d' | 'D' | 's' | 'S' | 'w' | 'W')) {
            out.push_str(&escaped(chars.next()?)?);
            continue;
        }
        let low = class_char(c, chars)?;
        push_class_char(out, low);
        let mut ahead = chars.clone();
        if ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']') {
            chars.next();
            let c = chars.next()?;
            let high = class_char(c, chars)?;
            (low <= high).then_some(())?;
            out.push('-');
            push_class_char(out, high);
        }
    }
}

fn class_char(c: char, chars: &mut Chars<'_>) -> Option<char> {
    match c {
        '\\' => literal(chars.next()?),
        c => Some(c),
    }
}

fn push_class_char(out: &mut String, c: char) {
    if c.is_ascii_punctuation() {
        out.push('\\');
    }
    out.push(c);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(patterns: &[&str], path: &str) -> bool {
        Matcher::new(patterns).is_ok_and(|matcher| matcher.matches_or_parent(path))
    }

    #[test]
    fn reading() {
        let text = "\u{feff}# c\n #x\n  /a/./b/ \r\n!/c/../d\n! e\n/\n\n!\n**/\n";
        assert_eq!(read(text), Ok(["#x", "a/b", "!d", "!e", "/", "!", "**"].map(str::to_owned).to_vec()));
        let long = "x".repeat(MAX_LINE_BYTES + 1);
        assert_eq!(read(&long), Err(IgnoreError::LineTooLong { max: MAX_LINE_BYTES, line: 1 }));
    }

    #[test]
    fn cleaning() {
        for (path, expected) in
            [("", "."), ("/", "/"), ("//a//b/..", "/a"), ("/..", "/"), ("../a/../..", "../.."), ("a/.", "a")]
        {
            assert_eq!(clean(path), expected);
        }
    }

    #[test]
    fn patterns() {
        for (pattern, path, expected) in [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir", false),
            ("dir/**", "dir/dir2/file", true),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/file", "dir/dir/file", true),
            ("**/file*txt", "dir/file.txt", true),
            ("**/**/*.txt", "dir2/file.txt", true),
            ("a**/*.txt", "a/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a[b-d]e", "abe", true),
            ("a[b-d]e", "aze", false),
            ("abc.def", "abcdef", false),
            ("abc.def", "abc.def", true),
            ("abc?def", "abcZdef", true),
            ("a\\*b", "a*b", true),
            ("a\\\\", "a\\", true),
            ("a\\\\*c", "a\\bc", true),
            ("**/foo/bar", "foo/bar", true),
            ("**foo", "xfoo", true),
            ("abc/**", "abc/def/ghi", true),
            ("**/.foo", ".foo", true),
            ("**/.foo", "bar.foo", false),
            ("a(b)c/def", "a(b)c/def/xyz", true),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            ("foo", "foo/bar", true),
            ("foo", "bar/foo", false),
            ("*/foo", "a/foo/b", true),
            (".", "a", false),
            ("a\\db", "a7b", true),
            ("a[[]b", "a[b", true),
            ("a[x&&y]b", "a&b", true),
            ("[^x]", "é", true),
            ("[?a/b[ab]", "[", false),
            ("[[:alpha:]]x", "qx", true),
            ("[a-]*", "-", false),
            ("[*]", "a/]", false),
            ("a^b*", "a^bc", false),
            ("a^b", "a^b", true),
        ] {
            assert_eq!(ignored(&[pattern], path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn later_patterns_win() {
        let patterns = ["*", "!src", "src/tmp", "!src/tmp/keep", "*.md", "!README*.md", "README-secret.md"];
        for (path, expected) in [
            ("a", true),
            ("src", false),
            ("src/x", false),
            ("src/tmp/x", true),
            ("src/tmp/keep/y", false),
            ("README.md", false),
            ("README-secret.md", true),
        ] {
            assert_eq!(ignored(&patterns, path), expected, "{path}");
        }
    }

    #[test]
    fn bad_patterns() {
        for pattern in ["[", "a[", "[a-]", "\\", "a\\m"] {
            let error = Matcher::new([pattern]).map(drop);
            assert_eq!(error, Err(IgnoreError::BadPattern { pattern: pattern.into() }), "{pattern}");
        }
        assert_eq!(Matcher::new(["!"]).map(drop), Err(IgnoreError::LoneBang));
    }

    #[test]
    fn walking_agrees_with_asking() {
        let patterns = ["a", "!a/b", "a/b/c*", "!**/keep", "d/**", "!d/e/f"];
        let matcher = Matcher::new(patterns).unwrap_or_default();
        for path in ["a", "a/x", "a/b", "a/b/cc", "a/b/cc/keep", "d", "d/e", "d/e/f", "d/e/f/g", "z/keep"] {
            let mut state = FolderState::default();
            let mut last = false;
            let mut at = 0;
            while at < path.len() {
                let end = path[at..].find('/').map_or(path.len(), |slash| at + slash);
                (last, state) = matcher.matches_in(&path[..end], &state);
                at = end + 1;
            }
            assert_eq!(last, matcher.matches_or_parent(path), "{path}");
        }
    }

    #[test]
    fn skipping() {
        let skip = |patterns: &[&str], folder: &str| Matcher::new(patterns).is_ok_and(|m| m.can_skip(folder));
        assert!(skip(&["a"], "a"));
        assert!(!skip(&["*", "!a/b/c"], "a"));
        assert!(!skip(&["*", "!a/b/c"], "a/b"));
        assert!(skip(&["*", "!a/b/c"], "x"));
        assert!(skip(&["*", "!a/b/c"], "a/x"));
        assert!(skip(&["*", "!*.md"], "x"));
        assert!(!skip(&["*", "!*.md"], "x.md"));
        assert!(!skip(&["*", "!**/x"], "anything"));
        assert!(!skip(&["*", "!a[/]b"], "a"));
    }

    #[test]
    fn many_wildcards_are_linear() {
        let pattern = "a*".repeat(500) + "b";
        assert!(!ignored(&[&pattern], &"a".repeat(20_000)));
        let deep = "**/".repeat(300) + "x";
        assert!(!ignored(&[&deep], &"a/".repeat(1000)));
    }
}
