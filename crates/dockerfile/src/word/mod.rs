//! Expansion of variables in words, in the manner of a shell.
//!
//! Facts: BuildKit's shell lexer. Forms: `$v ${v} ${v:-w} ${v-w} ${v:+w} ${v+w} ${v:?m} ${v?m} ${v#p} ${v##p}
//! ${v%p} ${v%%p} ${v/p/r} ${v//p/r}`; words inside nest. Positional and special parameters (`$1 $@ $?`) are
//! names like any other. Not here: where variables come from, and which instruction expands what.
//!
//! Time is linear in the word and in what its variables hold, and both the result and the nesting have limits.

mod pattern;
mod quote;

pub use quote::quote;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Variables by name.
pub trait Variables {
    /// The value; `None` where it is not set.
    fn get(&self, name: &str) -> Option<Cow<'_, str>>;
}

/// No variables at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoVariables;

impl Variables for NoVariables {
    fn get(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

impl Variables for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        Self::get(self, name).map(|value| Cow::Borrowed(value.as_str()))
    }
}

impl<S: std::hash::BuildHasher> Variables for HashMap<String, String, S> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        Self::get(self, name).map(|value| Cow::Borrowed(value.as_str()))
    }
}

impl<T: Variables + ?Sized> Variables for &T {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        (**self).get(name)
    }
}

/// What becomes of quotes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Quotes {
    /// They quote, and are gone from the result.
    #[default]
    Remove,
    /// They quote, and stay.
    Keep,
    /// They are characters like any other.
    Literal,
}

/// What becomes of the escape character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Escapes {
    /// It escapes, and is gone from the result.
    #[default]
    Remove,
    /// It escapes, and stays.
    Keep,
}

/// What becomes of variables that are not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Unset {
    /// Nothing is put in their place.
    #[default]
    Empty,
    /// They stay as they are written.
    Keep,
}

/// How to expand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lexer {
    /// The escape character.
    pub escape: char,
    /// Quotes.
    pub quotes: Quotes,
    /// Escapes.
    pub escapes: Escapes,
    /// Unset variables.
    pub unset: Unset,
    /// Most bytes a result may have.
    pub max_bytes: usize,
}

/// Most bytes of an expanded word.
pub const MAX_WORD_BYTES: usize = 1 << 20;
/// Most bytes of an expanded heredoc body.
pub const MAX_BODY_BYTES: usize = 32 << 20;
/// Deepest `${a:-${b:-…}}`.
pub const MAX_DEPTH: usize = 200;

/// An expanded word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The text.
    pub text: String,
    /// Variables that were asked for and set.
    pub used: BTreeSet<String>,
    /// Variables that were asked for and not set.
    pub unset: BTreeSet<String>,
}

/// Why a word can't be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {}: {kind}", quote(.word))]
pub struct WordError {
    /// The whole word, shortened where it is very long.
    pub word: String,
    /// What is wrong with it.
    pub kind: WordErrorKind,
}

/// What is wrong with a word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WordErrorKind {
    /// `'` without its end.
    #[error("unexpected end of statement while looking for matching single-quote")]
    SingleQuote,
    /// `"` without its end.
    #[error("unexpected end of statement while looking for matching double-quote")]
    DoubleQuote,
    /// `${` without its end.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${v/p` without the second slash.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}` and the like.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// `${v!}` and the like.
    #[error("unsupported modifier ({modifier}) in substitution")]
    UnsupportedModifier {
        /// As written.
        modifier: String,
    },
    /// `${v?message}` of a variable that is not set or empty.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the recipe says about it.
        message: String,
    },
    /// A pattern that is none.
    #[error("invalid pattern ({pattern}) in substitution: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        reason: String,
    },
    /// The result is too long.
    #[error("expansion is longer than {max} bytes")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// `${a:-${b:-…}}` too often.
    #[error("substitutions are nested more than {max} deep")]
    TooDeep {
        /// The limit.
        max: usize,
    },
}

impl WordError {
    /// What to do about it, where that is not plain from the message.
    pub fn hint(&self) -> Option<String> {
        Some(match self.kind {
            WordErrorKind::SingleQuote | WordErrorKind::DoubleQuote => {
                "close the quote, or put an escape character in front of it".into()
            }
            WordErrorKind::BadSubstitution | WordErrorKind::UnsupportedModifier { .. } => {
                "write `$NAME` or `${NAME}`; put an escape character in front of a `$` that is meant literally".into()
            }
            _ => return None,
        })
    }
}

impl Lexer {
    /// For arguments: quotes and escapes work and vanish, unset variables are empty.
    pub const fn new(escape: char) -> Self {
        Self {
            escape,
            quotes: Quotes::Remove,
            escapes: Escapes::Remove,
            unset: Unset::Empty,
            max_bytes: MAX_WORD_BYTES,
        }
    }

    /// For the bodies of COPY and ADD heredocs: quotes mean nothing, and `\` escapes whatever the recipe's
    /// escape character is.
    pub const fn for_body() -> Self {
        Self { quotes: Quotes::Literal, max_bytes: MAX_BODY_BYTES, ..Self::new('\\') }
    }

    /// Expands a word to one text.
    ///
    /// # Errors
    /// The word has a syntax error, a variable that must be set is not, or a limit is reached.
    pub fn expand(&self, word: &str, variables: &impl Variables) -> Result<Expansion, WordError> {
        let mut run = Run::new(self, word, variables);
        let text = run.top(word)?;
        Ok(Expansion { text, used: run.used, unset: run.not_set })
    }

    /// Expands a word and splits the result at white space that is not quoted.
    ///
    /// As in BuildKit, a nested substitution (`${v:-w}`) drops what stood before it in the same word.
    ///
    /// # Errors
    /// As [`Lexer::expand`].
    pub fn words(&self, word: &str, variables: &impl Variables) -> Result<Vec<String>, WordError> {
        let mut run = Run::new(self, word, variables);
        run.top(word)?;
        Ok(run.words)
    }
}

struct Run<'a, V> {
    lexer: Lexer,
    raw_escapes: bool,
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    variables: &'a V,
    /// The word that is being put together; shared with nested substitutions.
    buffer: String,
    words: Vec<String>,
    used: BTreeSet<String>,
    not_set: BTreeSet<String>,
    depth: usize,
}

type Fallible<T> = Result<T, WordErrorKind>;

/// Words of one level.
#[derive(Default)]
struct Words {
    list: Vec<String>,
    inside: bool,
}

impl Words {
    fn char(&mut self, buffer: &mut String, c: char) {
        if !c.is_whitespace() {
            buffer.push(c);
            self.inside = true;
        } else if self.inside && !buffer.is_empty() {
            self.list.push(std::mem::take(buffer));
            self.inside = false;
        }
    }

    fn raw(&mut self, buffer: &mut String, text: &str) {
        buffer.push_str(text);
        self.inside = true;
    }

    fn finish(mut self, buffer: &mut String) -> Vec<String> {
        if !buffer.is_empty() {
            self.list.push(std::mem::take(buffer));
        }
        self.list
    }
}

impl<'a, V: Variables> Run<'a, V> {
    fn new(lexer: &Lexer, word: &'a str, variables: &'a V) -> Self {
        Self {
            lexer: *lexer,
            raw_escapes: lexer.escapes == Escapes::Keep,
            // The scanner BuildKit uses drops a byte order mark.
            chars: word.strip_prefix('\u{feff}').unwrap_or(word).chars().peekable(),
            variables,
            buffer: String::new(),
            words: Vec::new(),
            used: BTreeSet::new(),
            not_set: BTreeSet::new(),
            depth: 0,
        }
    }

    fn top(&mut self, word: &str) -> Result<String, WordError> {
        match self.until(None) {
            Ok((text, words)) => {
                self.words = words;
                Ok(text)
            }
            Err(kind) => Err(WordError { word: shorten(word), kind }),
        }
    }

    fn check(&self, text: &str) -> Fallible<()> {
        match text.len() > self.lexer.max_bytes {
            true => Err(WordErrorKind::TooLong { max: self.lexer.max_bytes }),
            false => Ok(()),
        }
    }

    /// As [`Run::until`], with escapes kept or not.
    fn nested(&mut self, stop: char, raw_escapes: bool) -> Fallible<String> {
        if self.depth >= MAX_DEPTH {
            return Err(WordErrorKind::TooDeep { max: MAX_DEPTH });
        }
        self.depth += 1;
        let before = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let result = self.until(Some(stop));
        self.raw_escapes = before;
        self.depth -= 1;
        result.map(|(text, _)| text)
    }

    /// Reads up to and with `stop`, or to the end where there is none.
    fn until(&mut self, stop: Option<char>) -> Fallible<(String, Vec<String>)> {
        let mut result = String::new();
        self.buffer.clear();
        let mut words = Words::default();
        while let Some(&c) = self.chars.peek() {
            self.check(&result)?;
            if Some(c) == stop {
                self.chars.next();
                return Ok((result, words.finish(&mut self.buffer)));
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    result.push_str(&value);
                    for c in value.chars() {
                        words.char(&mut self.buffer, c);
                    }
                    continue;
                }
                '<' => {
                    let mark = self.heredoc();
                    result.push_str(&mark);
                    words.raw(&mut self.buffer, &mark);
                    continue;
                }
                '\'' | '"' if self.lexer.quotes != Quotes::Literal => {
                    let text = if c == '"' { self.double_quote()? } else { self.single_quote()? };
                    result.push_str(&text);
                    words.raw(&mut self.buffer, &text);
                    continue;
                }
                _ => {}
            }
            self.chars.next();
            if c != self.lexer.escape {
                words.char(&mut self.buffer, c);
                result.push(c);
                continue;
            }
            if self.raw_escapes {
                words.raw(&mut self.buffer, c.encode_utf8(&mut [0; 4]));
                result.push(c);
            }
            let Some(next) = self.chars.next() else { break };
            words.raw(&mut self.buffer, next.encode_utf8(&mut [0; 4]));
            result.push(next);
        }
        self.check(&result)?;
        match stop {
            None => Ok((result, words.finish(&mut self.buffer))),
            // The caller knows which of the two it was looking for.
            Some(_) => Err(WordErrorKind::MissingBrace),
        }
    }

    fn keep_quote(&self, out: &mut String, c: char) {
        if self.lexer.quotes == Quotes::Keep {
            out.push(c);
        }
    }

    fn single_quote(&mut self) -> Fallible<String> {
        self.chars.next();
        let mut out = String::new();
        self.keep_quote(&mut out, '\'');
        loop {
            match self.chars.next() {
                None => return Err(WordErrorKind::SingleQuote),
                Some('\'') => {
                    self.keep_quote(&mut out, '\'');
                    return Ok(out);
                }
                Some(c) => out.push(c),
            }
        }
    }

    fn double_quote(&mut self) -> Fallible<String> {
        self.chars.next();
        let mut out = String::new();
        self.keep_quote(&mut out, '"');
        loop {
            match self.chars.peek().copied() {
                None => return Err(WordErrorKind::DoubleQuote),
                Some('"') => {
                    self.chars.next();
                    self.keep_quote(&mut out, '"');
                    return Ok(out);
                }
                Some('$') => {
                    let value = self.dollar()?;
                    out.push_str(&value);
                    self.check(&out)?;
                }
                Some(c) => {
                    self.chars.next();
                    let mut c = c;
                    if c == self.lexer.escape {
                        if self.raw_escapes {
                            out.push(c);
                        }
                        match self.chars.peek() {
                            None => continue,
                            Some(&next) if next == '"' || next == '$' || next == self.lexer.escape => {
                                self.chars.next();
                                c = next;
                            }
                            Some(_) => {}
                        }
                    }
                    out.push(c);
                }
            }
        }
    }

    fn lookup(&mut self, name: &str) -> Option<String> {
        match self.variables.get(name) {
            Some(value) => {
                if !self.used.contains(name) {
                    self.used.insert(name.to_owned());
                }
                Some(value.into_owned())
            }
            None => {
                if !self.not_set.contains(name) {
                    self.not_set.insert(name.to_owned());
                }
                None
            }
        }
    }

    fn dollar(&mut self) -> Fallible<String> {
        self.chars.next();
        let keep = self.lexer.unset == Unset::Keep;
        if self.chars.peek() != Some(&'{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.lookup(&name) {
                None if keep => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.chars.next();
        match self.chars.peek() {
            None => return Err(WordErrorKind::MissingBrace),
            Some('{' | '}' | ':') => return Err(WordErrorKind::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.chars.next() {
            Some('}') => Ok(match self.lookup(&name) {
                None if keep => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some('/') => self.replace(&name),
            Some(':') => {
                let next = self.chars.next();
                let modifier = format!(":{}", shown(next));
                match next {
                    Some('#' | '%') => Err(WordErrorKind::UnsupportedModifier { modifier }),
                    next => self.modify(&name, next, &modifier, Null::IsUnset),
                }
            }
            next @ Some('+' | '-' | '?' | '#' | '%') => self.modify(&name, next, &shown(next), Null::IsSet),
            next => Err(WordErrorKind::UnsupportedModifier { modifier: shown(next) }),
        }
    }

    /// An error inside is blamed on the missing brace where the word ends there.
    fn blame(&mut self, error: WordErrorKind, missing: WordErrorKind) -> WordErrorKind {
        match (&error, self.chars.peek()) {
            (WordErrorKind::TooDeep { .. } | WordErrorKind::TooLong { .. }, _) => error,
            (_, None) => missing,
            (_, Some(_)) => error,
        }
    }

    fn modify(&mut self, name: &str, sign: Option<char>, modifier: &str, null: Null) -> Fallible<String> {
        let raw = matches!(sign, Some('#' | '%'));
        let word = match self.nested('}', raw) {
            Ok(word) => word,
            Err(error) => return Err(self.blame(error, WordErrorKind::MissingBrace)),
        };
        let value = self.lookup(name);
        if value.is_none() && self.lexer.unset == Unset::Keep {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        }
        let useful = value.as_ref().is_some_and(|value| null == Null::IsSet || !value.is_empty());
        let message = |default: &str| if word.is_empty() { default.to_owned() } else { word.clone() };
        match sign {
            Some('-') if useful => Ok(value.unwrap_or_default()),
            Some('-') => Ok(word),
            Some('+') if useful => Ok(word),
            Some('+') => Ok(String::new()),
            Some('?') => match value {
                Some(value) if useful => Ok(value),
                Some(_) => Err(WordErrorKind::Required {
                    name: name.to_owned(),
                    message: message("is not allowed to be empty"),
                }),
                None => Err(WordErrorKind::Required {
                    name: name.to_owned(),
                    message: message("is not allowed to be unset"),
                }),
            },
            Some(sign @ ('#' | '%')) => {
                let value = value.unwrap_or_default();
                let (pattern, length) = match word.strip_prefix(sign) {
                    Some(pattern) => (pattern, pattern::Length::Longest),
                    None => (word.as_str(), pattern::Length::Shortest),
                };
                match sign {
                    '#' => pattern::trim_prefix(pattern, &value, length),
                    _ => pattern::trim_suffix(pattern, &value, length),
                }
            }
            _ => Err(WordErrorKind::UnsupportedModifier { modifier: modifier.to_owned() }),
        }
    }

    fn replace(&mut self, name: &str) -> Fallible<String> {
        let all = self.chars.next_if_eq(&'/').is_some();
        let pattern = match self.nested('/', true) {
            Ok(pattern) => pattern,
            Err(error) => return Err(self.blame(error, WordErrorKind::MissingSlash)),
        };
        let replacement = match self.nested('}', true) {
            Ok(replacement) => replacement,
            Err(error) => return Err(self.blame(error, WordErrorKind::MissingBrace)),
        };
        let value = self.lookup(name);
        if value.is_none() && self.lexer.unset == Unset::Keep {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let value = value.unwrap_or_default();
        match all {
            true => pattern::replace_all(&pattern, &value, &replacement, self.lexer.max_bytes),
            false => pattern::replace_first(&pattern, &value, &replacement),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.chars.peek() {
            Some(c) if is_digit(*c) => {
                while let Some(c) = self.chars.next_if(|c| is_digit(*c)) {
                    name.push(c);
                }
                return name;
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                name.extend(self.chars.next());
                return name;
            }
            _ => {}
        }
        while let Some(c) = self.chars.next_if(|c| *c == '_' || is_letter(*c) || is_digit(*c)) {
            name.push(c);
        }
        name
    }

    /// `<<` takes the blanks behind it into the word.
    fn heredoc(&mut self) -> String {
        self.chars.next();
        let mut mark = "<".to_owned();
        if self.chars.next_if_eq(&'<').is_some() {
            mark.push('<');
            while let Some(c) = self.chars.next_if(|c| matches!(c, '\t' | '\r' | ' ')) {
                mark.push(c);
            }
        }
        mark
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Null {
    IsSet,
    IsUnset,
}

/// A letter of any script. Combining marks count here and not in BuildKit.
fn is_letter(c: char) -> bool {
    c.is_alphabetic() && !c.is_numeric()
}

/// A decimal digit of any script.
fn is_digit(c: char) -> bool {
    c.is_ascii_digit() || (!c.is_ascii() && c.is_numeric() && pattern::is_decimal(c))
}

/// The end of the word shows as U+FFFD, as in BuildKit's messages.
fn shown(c: Option<char>) -> String {
    c.unwrap_or(char::REPLACEMENT_CHARACTER).to_string()
}

fn shorten(word: &str) -> String {
    const MAX: usize = 4096;
    match word.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests;
