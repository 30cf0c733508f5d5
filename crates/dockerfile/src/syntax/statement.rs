//! One logical line as keyword, flags and arguments, split by the rules of its instruction.
//!
//! The result holds what BuildKit's parser would hold for the same line; [`crate::instruction`] gives it
//! meaning.

use super::lexer::{self, JsonArray};
use super::logical::{Cut, Logical};
use crate::error::ErrorKind;
use crate::instruction::{Escape, Form, Heredoc, Lines, Spec, Word};
use diagnostic::TextRange;

/// An instruction before its meaning is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The first word as written.
    pub keyword: Word,
    /// Flags in front of the arguments, without quotes and escapes.
    pub flags: Vec<Word>,
    /// Arguments. For ENV and LABEL three a pair: key, value, and `=` or nothing. For ONBUILD they are in
    /// `sub`. Unknown instructions have one empty argument.
    pub args: Vec<Word>,
    /// Whether the arguments were a JSON array of strings.
    pub json: bool,
    /// The logical line: continuations joined, comments in between dropped, leading blanks stripped.
    pub original: String,
    /// Heredocs in order.
    pub heredocs: Vec<Heredoc>,
    /// Comment lines above, without `#`.
    pub comments: Vec<String>,
    /// Lines from the first to the last, heredocs included.
    pub lines: Lines,
    /// Bytes from the keyword to the end of the last line, without its line ending.
    pub range: TextRange,
    /// What ONBUILD triggers.
    pub sub: Option<Box<Statement>>,
}

impl Statement {
    /// All arguments with those of a nested instruction, as BuildKit lists them.
    pub fn flat_args(&self) -> Vec<&str> {
        let mut out = Vec::new();
        let mut next = Some(self);
        while let Some(statement) = next {
            out.extend(statement.args.iter().map(Word::as_str));
            next = statement.sub.as_deref();
            out.extend(next.map(|sub| sub.keyword.as_str()));
        }
        out
    }

    /// Whether `<<` words of this line open heredocs.
    pub(crate) fn takes_heredocs(&self) -> bool {
        let own = |statement: &Self| {
            !statement.json && Spec::find(&statement.keyword.value).is_some_and(|spec| spec.heredocs)
        };
        match &self.sub {
            Some(sub) => sub.sub.is_none() && own(sub),
            None => own(self),
        }
    }
}

/// Longest chain of `ONBUILD ONBUILD …` that is taken apart; it is an error from the second on anyway.
const MAX_NESTING: usize = 16;

/// An error with the place it is about.
pub(crate) type Failure = (ErrorKind, TextRange);

pub(crate) fn read(logical: &Logical, escape: Escape) -> Result<Statement, Failure> {
    read_at(logical, logical.cut(), escape, 0)
}

fn read_at(logical: &Logical, line: Cut<'_>, escape: Escape, depth: usize) -> Result<Statement, Failure> {
    let place = |cut: Cut<'_>| logical.range(cut.at, cut.end());
    let word = |cut: Cut<'_>| Word::new(cut.text.to_owned(), place(cut));
    let (keyword, rest) = line.trim().split_once_blank();
    let mut flags = Vec::new();
    let rest = match rest {
        Some(rest) => take_flags(rest, escape, |value, from, to| {
            flags.push(Word::new(value, logical.range(from, to)));
        }),
        None => line.from(line.text.len()),
    };
    let rest = rest.trim();

    let mut json = false;
    let mut sub = None;
    let mut list = || -> Result<Option<Vec<Word>>, Failure> {
        match lexer::json_array(rest.text) {
            JsonArray::No => Ok(None),
            JsonArray::Mixed => Err((ErrorKind::JsonNotStrings, place(rest))),
            JsonArray::Strings(strings) => {
                json = true;
                let words = strings
                    .into_iter()
                    .map(|(value, from, to)| Word::new(value, logical.range(rest.at + from, rest.at + to)));
                Ok(Some(words.collect()))
            }
        }
    };
    let split = |rest: Cut<'_>| match rest.text.is_empty() {
        true => Vec::new(),
        false => rest.split_blanks().map(word).collect(),
    };
    let whole = |rest: Cut<'_>| match rest.text.is_empty() {
        true => Vec::new(),
        false => vec![word(rest)],
    };
    let spec = Spec::find(keyword.text);
    let args = match spec.map(|spec| spec.form) {
        None => vec![Word::new(String::new(), place(rest))],
        Some(Form::Words) => split(rest),
        Some(Form::Line) => whole(rest),
        Some(Form::Command) => match list()? {
            Some(words) => words,
            None => whole(rest),
        },
        Some(Form::List) => match list()? {
            Some(words) => words,
            None => split(rest),
        },
        Some(Form::Names) => {
            quoted_words(rest, escape).into_iter().map(|(value, cut)| Word::new(value, place(cut))).collect()
        }
        Some(Form::Pairs) => pairs(logical, rest, escape, spec.map_or("", |spec| spec.name))?,
        Some(Form::Healthcheck) => {
            // BuildKit looks at bytes here: a character is cut where a byte of it is a blank of Latin-1.
            let is_space = |byte: u8| char::from(byte).is_whitespace();
            let end = rest.text.bytes().position(is_space).unwrap_or(rest.text.len());
            let kept = (0..=end).rev().find(|at| rest.text.is_char_boundary(*at)).unwrap_or(0);
            let damaged = "\u{fffd}".repeat(end - kept);
            let after = boundary(rest.text, end);
            let tail = &rest.text[after..];
            let blanks = tail.bytes().take_while(|byte| is_space(*byte)).count();
            let command = rest.from(after + blanks);
            let mut args = whole(rest.between(0, kept));
            match args.first_mut() {
                Some(kind) => kind.value.push_str(&damaged),
                None if !damaged.is_empty() => args.push(Word::new(damaged, place(rest))),
                None => {}
            }
            if !args.is_empty() {
                args.extend(match lexer::json_array(command.text) {
                    JsonArray::No => whole(command),
                    JsonArray::Mixed => return Err((ErrorKind::JsonNotStrings, place(command))),
                    JsonArray::Strings(strings) => {
                        json = true;
                        let at = command.at;
                        strings
                            .into_iter()
                            .map(|(value, from, to)| Word::new(value, logical.range(at + from, at + to)))
                            .collect()
                    }
                });
            }
            args
        }
        Some(Form::Instruction) if rest.text.is_empty() => Vec::new(),
        Some(Form::Instruction) if depth >= MAX_NESTING => whole(rest),
        Some(Form::Instruction) => {
            sub = Some(Box::new(read_at(logical, rest, escape, depth + 1)?));
            Vec::new()
        }
    };
    let whole_line = line.trim();
    Ok(Statement {
        keyword: word(keyword),
        flags,
        args,
        json,
        original: line.text.to_owned(),
        heredocs: Vec::new(),
        comments: Vec::new(),
        lines: Lines { first: 0, last: 0 },
        range: place(whole_line),
        sub,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Spaces,
    Word,
    Quote,
}

/// Takes words that start with `--` off the front; quotes and escapes go. `--` alone ends them.
///
/// BuildKit walks bytes here and takes each for a character of its own, so that `é` in a flag becomes `Ã©`;
/// this does the same, as the value is what a build would use.
fn take_flags<'a>(line: Cut<'a>, escape: Escape, mut flag: impl FnMut(String, usize, usize)) -> Cut<'a> {
    let bytes = line.text.as_bytes();
    let escape = escape.as_char() as u8;
    let is_space = |byte: u8| char::from(byte).is_whitespace();
    let mut word = String::new();
    let (mut phase, mut quote, mut blank_ok, mut start) = (Phase::Spaces, 0, false, 0);
    let mut pos = 0;
    while pos < bytes.len() {
        let mut byte = bytes[pos];
        if phase == Phase::Spaces {
            if is_space(byte) {
                pos += 1;
                continue;
            }
            if byte != b'-' || bytes.get(pos + 1) != Some(&b'-') {
                // Only inside a character that starts outside of a flag could this be no boundary.
                return line.from(boundary(line.text, pos));
            }
            phase = Phase::Word;
            start = pos;
        }
        let closing = if phase == Phase::Quote { byte == quote } else { false };
        if phase == Phase::Word && is_space(byte) {
            phase = Phase::Spaces;
            if word == "--" {
                return line.from(boundary(line.text, pos));
            }
            if blank_ok || !word.is_empty() {
                flag(std::mem::take(&mut word), line.at + start, line.at + boundary(line.text, pos));
            }
            word.clear();
            blank_ok = false;
        } else if closing {
            phase = Phase::Word;
        } else if phase == Phase::Word && (byte == b'\'' || byte == b'"') {
            (quote, blank_ok, phase) = (byte, true, Phase::Quote);
        } else {
            if byte == escape {
                if pos + 1 == bytes.len() {
                    phase = Phase::Word;
                    break;
                }
                pos += 1;
                byte = bytes[pos];
            }
            word.push(char::from(byte));
        }
        pos += 1;
    }
    if phase != Phase::Spaces && word != "--" && (blank_ok || !word.is_empty()) {
        flag(word, line.at + start, line.end());
    }
    line.from(line.text.len())
}

fn boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

/// Splits at white space outside of quotes; quotes and escapes stay in the words.
pub(crate) fn quoted_words<'a>(line: Cut<'a>, escape: Escape) -> Vec<(String, Cut<'a>)> {
    let escape = escape.as_char();
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut phase, mut quote, mut blank_ok, mut start) = (Phase::Spaces, '\0', false, 0);
    let mut chars = line.text.char_indices().peekable();
    while let Some((pos, c)) = chars.next() {
        if phase == Phase::Spaces {
            if c.is_whitespace() {
                continue;
            }
            phase = Phase::Word;
            start = pos;
        }
        if phase == Phase::Word && c.is_whitespace() {
            phase = Phase::Spaces;
            if blank_ok || !word.is_empty() {
                words.push((std::mem::take(&mut word), line.between(start, pos)));
            }
            word.clear();
            blank_ok = false;
            continue;
        }
        let escapes = c == escape && (phase == Phase::Word || quote != '\'');
        if phase == Phase::Word && (c == '\'' || c == '"') {
            (quote, blank_ok, phase) = (c, true, Phase::Quote);
        } else if phase == Phase::Quote && c == quote {
            phase = Phase::Word;
        }
        if escapes {
            // At the end of the line an escape character is dropped.
            if let Some((_, next)) = chars.next() {
                word.push(c);
                word.push(next);
            }
        } else {
            word.push(c);
        }
    }
    if phase != Phase::Spaces && (blank_ok || !word.is_empty()) {
        words.push((word, line.from(start)));
    }
    words
}

/// `k=v …` or the legacy form `k rest of line`, as three words a pair.
fn pairs(logical: &Logical, rest: Cut<'_>, escape: Escape, name: &'static str) -> Result<Vec<Word>, Failure> {
    let place = |cut: Cut<'_>| logical.range(cut.at, cut.end());
    let words = quoted_words(rest, escape);
    let Some((first, _)) = words.first() else { return Ok(Vec::new()) };
    if !first.contains('=') {
        let (key, Some(value)) = rest.split_once_blank() else {
            return Err((ErrorKind::PairWithoutValue { instruction: name }, place(rest)));
        };
        return Ok([key, value, value.from(value.text.len())]
            .map(|cut| Word::new(cut.text.to_owned(), place(cut)))
            .into());
    }
    let mut out = Vec::with_capacity(words.len() * 3);
    for (word, cut) in words {
        let Some((key, value)) = word.split_once('=') else {
            return Err((ErrorKind::PairWithoutEquals { word }, place(cut)));
        };
        // An escape character at the end of the line was dropped from the word, not from the cut.
        let equals = cut.text.find('=').unwrap_or(0);
        let parts = [(key, 0, equals), (value, equals + 1, cut.text.len()), ("=", equals, equals + 1)];
        out.extend(parts.map(|(text, from, to)| {
            Word::new(text.to_owned(), logical.range(cut.at + from, cut.at + to.max(from)))
        }));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> (Vec<String>, &str) {
        let mut out = Vec::new();
        let rest = take_flags(Cut { text: line, at: 0 }, Escape::Backslash, |value, _, _| out.push(value));
        (out, rest.text)
    }

    fn words(line: &str) -> Vec<String> {
        quoted_words(Cut { text: line, at: 0 }, Escape::Backslash).into_iter().map(|(word, _)| word).collect()
    }

    #[test]
    fn flags_come_first() {
        assert_eq!(flags("--a --b=\"c d\" e --f"), (vec!["--a".into(), "--b=c d".into()], "e --f"));
        assert_eq!(flags("--a -- --b"), (vec!["--a".into()], " --b"));
        assert_eq!(flags("--a --"), (vec!["--a".into()], ""));
        assert_eq!(flags("- x"), (vec![], "- x"));
        assert_eq!(flags(r"--a=\ b\"), (vec!["--a= b".into()], ""));
        assert_eq!(flags("--a='"), (vec!["--a=".into()], ""));
        assert_eq!(flags("--a=é x").0, ["--a=Ã©"]);
        // The second byte of à is a blank of Latin-1.
        assert_eq!(flags("--à x"), (vec!["--Ã".into()], "x"));
    }

    #[test]
    fn words_keep_quotes() {
        assert_eq!(words(r#"a='b c' d="e \" f" g\ h"#), ["a='b c'", r#"d="e \" f""#, r"g\ h"]);
        assert_eq!(words(r"a\"), ["a"]);
        assert_eq!(words(r"''"), ["''"]);
        assert_eq!(words(r"'a\' b"), [r"'a\'", "b"]);
        assert_eq!(words("'open x"), ["'open x"]);
        assert_eq!(words("  "), Vec::<String>::new());
    }
}
