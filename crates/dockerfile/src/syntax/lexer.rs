//! The smallest pieces, as nom parsers: physical lines, directives, heredoc marks, JSON arrays.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while_m_n, take_while1};
use nom::character::complete::{char, digit0, digit1, one_of};
use nom::combinator::{opt, recognize};
use nom::sequence::pair;
use nom::{IResult, Parser};

/// One physical line: its content without the line ending, and the line ending (`\n` with all the `\r` and
/// `\n` that come straight before it; empty at the end of the file).
pub(crate) fn physical_line(input: &str) -> IResult<&str, (&str, &str)> {
    let (rest, line) = recognize(pair(take_while(|c| c != '\n'), opt(char('\n')))).parse(input)?;
    let content = line.trim_end_matches(['\r', '\n']);
    Ok((rest, (content, &line[content.len()..])))
}

/// A run of white space or a run of anything else; fails at the end.
pub(crate) fn blank_or_word(input: &str) -> IResult<&str, &str> {
    alt((take_while1(char::is_whitespace), take_while1(|c: char| !c.is_whitespace()))).parse(input)
}

/// The part of a directive behind `#` and blanks: `key = value`, both without outer blanks.
pub(crate) fn directive(input: &str) -> IResult<&str, (&str, &str)> {
    let (rest, key) = recognize(pair(
        take_while_m_n(1, 1, |c: char| c.is_ascii_alphabetic()),
        take_while(|c: char| c.is_ascii_alphanumeric()),
    ))
    .parse(input)?;
    let (rest, _) = pair(take_while(is_regex_space), char('=')).parse(rest)?;
    let trimmed = rest.trim_matches(is_regex_space);
    // Of nothing but blanks the last one is the value, as a value can't be empty.
    match (trimmed.is_empty(), rest.char_indices().next_back()) {
        (false, _) => Ok(("", (key, trimmed))),
        (true, Some((last, _))) => Ok(("", (key, &rest[last..]))),
        (true, None) => Err(nom::Err::Error(nom::error::Error::new(rest, nom::error::ErrorKind::Eof))),
    }
}

/// What `\s` means in Go's regular expressions.
const fn is_regex_space(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\x0c' | '\r' | ' ')
}

/// The parts of a word `N<<-NAME`: number, whether tabs are chomped, delimiter as written.
pub(crate) fn heredoc_mark(input: &str) -> IResult<&str, (&str, bool, &str)> {
    let (rest, (fd, _, dash)) = (digit0, tag("<<"), opt(char('-'))).parse(input)?;
    let (rest, _) = take_while(is_regex_space)(rest)?;
    let (rest, name) = take_while(|c| c != '<')(rest)?;
    match rest.is_empty() {
        true => Ok((rest, (fd, dash.is_some(), name))),
        false => Err(nom::Err::Error(nom::error::Error::new(rest, nom::error::ErrorKind::Eof))),
    }
}

/// What a text that may be a JSON array is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JsonArray {
    /// Strings with their byte ranges, quotes inside.
    Strings(Vec<(String, usize, usize)>),
    /// Valid JSON with something else than strings in it.
    Mixed,
    /// No JSON array.
    No,
}

/// Deeper arrays and objects are no JSON for Go either.
const MAX_JSON_DEPTH: usize = 10_000;

/// Reads a text as Go's encoding/json would read it into a list; white space may stand around.
pub(crate) fn json_array(input: &str) -> JsonArray {
    let start = input.trim_start();
    if !start.starts_with('[') {
        return JsonArray::No;
    }
    JsonReader { input, rest: start }.read().unwrap_or(JsonArray::No)
}

struct JsonReader<'a> {
    input: &'a str,
    rest: &'a str,
}

impl<'a> JsonReader<'a> {
    fn lex<T>(
        &mut self,
        mut parser: impl Parser<&'a str, Output = T, Error = nom::error::Error<&'a str>>,
    ) -> Option<T> {
        let (rest, value) = parser.parse(self.rest).ok()?;
        self.rest = rest;
        Some(value)
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn at(&self) -> usize {
        self.input.len() - self.rest.len()
    }

    /// No recursion: a stack of open brackets stands for it.
    fn read(&mut self) -> Option<JsonArray> {
        let mut strings = Vec::new();
        let mut mixed = false;
        let mut open: Vec<u8> = Vec::new();
        'value: loop {
            self.blanks();
            match self.rest.bytes().next()? {
                b'[' => {
                    mixed |= !open.is_empty();
                    self.rest = &self.rest[1..];
                    open.push(b'[');
                    self.blanks();
                    if !self.rest.starts_with(']') {
                        if open.len() > MAX_JSON_DEPTH {
                            return None;
                        }
                        continue 'value;
                    }
                }
                b'{' => {
                    mixed = true;
                    self.rest = &self.rest[1..];
                    open.push(b'{');
                    self.blanks();
                    if !self.rest.starts_with('}') {
                        if open.len() > MAX_JSON_DEPTH {
                            return None;
                        }
                        self.key()?;
                        continue 'value;
                    }
                }
                b'"' => {
                    let from = self.at();
                    let value = self.string()?;
                    strings.push((value, from, self.at()));
                }
                _ => {
                    mixed = true;
                    self.scalar()?;
                }
            }
            // Behind a value, or at the bracket that closes an empty one.
            loop {
                self.blanks();
                match (self.rest.bytes().next(), open.last()) {
                    (None, None) if mixed => return Some(JsonArray::Mixed),
                    (None, None) => return Some(JsonArray::Strings(strings)),
                    (Some(b','), Some(bracket)) => {
                        let object = *bracket == b'{';
                        self.rest = &self.rest[1..];
                        if object {
                            self.blanks();
                            self.key()?;
                        }
                        continue 'value;
                    }
                    (Some(b']'), Some(b'[')) | (Some(b'}'), Some(b'{')) => {
                        self.rest = &self.rest[1..];
                        open.pop();
                    }
                    _ => return None,
                }
            }
        }
    }

    fn key(&mut self) -> Option<()> {
        self.string()?;
        self.blanks();
        self.lex(char(':')).map(drop)
    }

    fn scalar(&mut self) -> Option<()> {
        if self.lex(alt((tag("true"), tag("false"), tag("null")))).is_some() {
            return Some(());
        }
        let number = self.lex(recognize((
            opt(char('-')),
            alt((tag("0"), recognize(pair(one_of("123456789"), digit0)))),
            opt(pair(char('.'), digit1)),
            opt((one_of("eE"), opt(one_of("+-")), digit1)),
        )))?;
        // Go refuses numbers that no float holds, and with them the array.
        number.parse::<f64>().ok().filter(|number| number.is_finite()).map(drop)
    }

    fn string(&mut self) -> Option<String> {
        self.lex(char('"'))?;
        let mut out = String::new();
        loop {
            let plain = self.lex(take_while(|c| c != '"' && c != '\\' && c >= ' '))?;
            out.push_str(plain);
            let mut chars = self.rest.chars();
            match chars.next()? {
                '"' => {
                    self.rest = chars.as_str();
                    return Some(out);
                }
                '\\' => {
                    let escape = chars.next()?;
                    self.rest = chars.as_str();
                    match escape {
                        '"' | '\\' | '/' => out.push(escape),
                        'b' => out.push('\u{8}'),
                        'f' => out.push('\u{c}'),
                        'n' => out.push('\n'),
                        'r' => out.push('\r'),
                        't' => out.push('\t'),
                        'u' => {
                            let unit = self.hex4()?;
                            out.push(self.surrogates(unit));
                        }
                        _ => return None,
                    }
                }
                _ => return None,
            }
        }
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.lex(take_while_m_n(4, 4, |c: char| c.is_ascii_hexdigit()))?;
        u32::from_str_radix(digits, 16).ok()
    }

    /// A pair of surrogates is one character; a lone one is U+FFFD.
    fn surrogates(&mut self, unit: u32) -> char {
        if let Some(c) = char::from_u32(unit) {
            return c;
        }
        let before = self.rest;
        if unit < 0xdc00
            && let Some(rest) = self.rest.strip_prefix("\\u")
        {
            self.rest = rest;
            if let Some(low @ 0xdc00..=0xdfff) = self.hex4() {
                let code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                return char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
            }
            self.rest = before;
        }
        char::REPLACEMENT_CHARACTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(text: &str) -> Option<Vec<String>> {
        match json_array(text) {
            JsonArray::Strings(list) => Some(list.into_iter().map(|(value, ..)| value).collect()),
            _ => None,
        }
    }

    #[test]
    fn lines() {
        assert_eq!(physical_line("a\r\r\nb"), Ok(("b", ("a", "\r\r\n"))));
        assert_eq!(physical_line("a\r"), Ok(("", ("a", "\r"))));
        assert_eq!(physical_line(""), Ok(("", ("", ""))));
    }

    #[test]
    fn directives() {
        assert_eq!(directive("escape = ` "), Ok(("", ("escape", "`"))));
        assert_eq!(directive("a1=b = c\t"), Ok(("", ("a1", "b = c"))));
        assert_eq!(directive("escape=\t "), Ok(("", ("escape", " "))));
        assert!(directive("escape=").is_err() && directive("escape").is_err());
        assert!(directive("1a=b").is_err() && directive("a b=c").is_err());
    }

    #[test]
    fn heredoc_marks() {
        assert_eq!(heredoc_mark("3<<-EOF"), Ok(("", ("3", true, "EOF"))));
        assert_eq!(heredoc_mark("<< 'x y'"), Ok(("", ("", false, "'x y'"))));
        assert!(
            heredoc_mark("a<<EOF").is_err() && heredoc_mark("<<<x").is_err() && heredoc_mark("<<a<").is_err()
        );
    }

    #[test]
    fn arrays() {
        assert_eq!(strings(" [ ] "), Some(vec![]));
        assert_eq!(
            strings(r#"["a","\u00e9\n\ud83d\ude00\ud800x"]"#),
            Some(vec!["a".into(), "é\n😀\u{fffd}x".into()])
        );
        assert_eq!(json_array(r#"["a", 1]"#), JsonArray::Mixed);
        assert_eq!(json_array(r#"["a", {"b": [null, -1.5e3]}]"#), JsonArray::Mixed);
        for bad in [
            "",
            "[",
            "['a']",
            "[\"a\",]",
            "[,]",
            "[\"a\"] x",
            "[01]",
            "[1e999]",
            "[\"\\x\"]",
            "[\"\t\"]",
            "[{1:2}]",
            "[}",
            "[\"a\" \"b\"]",
            "[{\"a\":}]",
            "{}",
        ] {
            assert_eq!(json_array(bad), JsonArray::No, "{bad}");
        }
        assert_eq!(json_array(&format!("{}{}", "[".repeat(9000), "]".repeat(9000))), JsonArray::Mixed);
        assert_eq!(json_array(&format!("{}{}", "[".repeat(20_000), "]".repeat(20_000))), JsonArray::No);
        assert_eq!(json_array("  [\"ab\"]"), JsonArray::Strings(vec![("ab".into(), 3, 7)]));
    }
}
