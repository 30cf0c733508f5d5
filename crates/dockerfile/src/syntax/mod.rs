//! From bytes to statements: physical lines, directives, comments, continuations, heredocs.
//!
//! Invariants: the tree tiles the text, whatever the text is; parsing never fails, and after a bad instruction
//! it goes on with the next; time is linear in the text. nom is used here and nowhere else.
//! Not here: what instructions mean ([`crate::instruction`]).

mod lexer;
mod logical;
mod statement;
mod tree;

pub use statement::Statement;
pub use tree::{Item, ItemKind, Token, TokenKind, Tree};

pub(crate) use statement::Failure;

use crate::error::{ErrorKind, Phase, RecipeError};
use crate::instruction::{Directives, Escape, Heredoc, Lines, Word};
use crate::word::{Escapes, Lexer, NoVariables, Quotes, Unset, WordError};
use diagnostic::{SourceFile, TextRange};
use logical::Logical;

/// Longest physical line without its `\n`, in bytes; the limit of BuildKit's scanner.
pub const MAX_LINE_BYTES: usize = 65_535;
/// Longest recipe, in bytes.
pub const MAX_FILE_BYTES: usize = 16 << 20;
/// Most errors that are kept.
pub const MAX_ERRORS: usize = 1_000;

/// Blank lines inside of an instruction; BuildKit warns that they will be errors one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmptyContinuation {
    /// The instruction's last line (without heredocs), which BuildKit names.
    pub line: u32,
    /// The instruction's logical line.
    pub original: String,
    /// The first of the blank lines.
    pub range: TextRange,
}

/// What the first pass gives.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub tree: Tree,
    pub directives: Directives,
    pub statements: Vec<Statement>,
    pub errors: Vec<RecipeError>,
    pub empty_continuations: Vec<EmptyContinuation>,
}

/// A word `N<<-NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeredocMark {
    pub name: String,
    pub fd: u64,
    pub chomp: bool,
    pub expand: bool,
}

/// The heredoc that a word stands for, if it is one.
pub(crate) fn heredoc_word(word: &str) -> Option<HeredocMark> {
    read_heredoc_word(word).ok().flatten()
}

fn read_heredoc_word(word: &str) -> Result<Option<HeredocMark>, WordError> {
    let Ok((_, (fd, chomp, delimiter))) = lexer::heredoc_mark(word) else { return Ok(None) };
    if delimiter.is_empty() {
        return Ok(None);
    }
    let lexer = Lexer { unset: Unset::Keep, ..Lexer::new('\\') };
    let words = lexer.words(delimiter, &NoVariables)?;
    let [name] = words.as_slice() else { return Ok(None) };
    let raw = Lexer { quotes: Quotes::Keep, ..lexer }.words(delimiter, &NoVariables)?;
    let quotes = |text: &str| text.bytes().filter(|byte| matches!(byte, b'\'' | b'"')).count();
    // Where no quote went away, none was there.
    let expand = raw.first().is_some_and(|raw| quotes(raw) == quotes(name));
    Ok(Some(HeredocMark {
        name: name.clone(),
        fd: fd.parse().unwrap_or(u64::MAX * u64::from(!fd.is_empty())),
        chomp,
        expand,
    }))
}

fn heredocs_of(line: &str) -> Result<Vec<HeredocMark>, WordError> {
    let lexer =
        Lexer { quotes: Quotes::Keep, escapes: Escapes::Keep, unset: Unset::Keep, ..Lexer::new('\\') };
    // A line that is no shell has no heredocs.
    let words = lexer.words(line, &NoVariables).unwrap_or_default();
    words.iter().filter_map(|word| read_heredoc_word(word).transpose()).collect()
}

pub(crate) fn parse(source: &SourceFile) -> Output {
    let text = source.text();
    let mut parser = Parser {
        text,
        rest: text,
        line: 0,
        logical: Logical::default(),
        comments: Vec::new(),
        directives: DirectiveReader::default(),
        out: Output::default(),
        escape: Escape::default(),
        stopped: None,
        stopped_inside: 0,
    };
    if text.is_empty() {
        parser.error(
            Phase::Parse,
            ErrorKind::EmptyFile,
            TextRange::default(),
            Lines { first: 1, last: 1 },
            0,
        );
        return parser.out;
    }
    if text.len() > MAX_FILE_BYTES {
        let range = TextRange::empty(MAX_FILE_BYTES as u32);
        let lines = Lines { first: 1, last: 1 };
        parser.error(Phase::Parse, ErrorKind::FileTooLarge { max: MAX_FILE_BYTES }, range, lines, 0);
        parser.skip_rest();
        return parser.out;
    }
    parser.run();
    let mut out = parser.out;
    out.directives = detect_directives(source, parser.escape);
    out
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    /// Lines read so far.
    line: u32,
    logical: Logical,
    comments: Vec<String>,
    directives: DirectiveReader,
    out: Output,
    escape: Escape,
    /// The line that was too long, and its range.
    stopped: Option<(u32, TextRange)>,
    /// That line would have continued an instruction; BuildKit's scanner then counts one line more.
    stopped_inside: u32,
}

/// A physical line.
#[derive(Clone, Copy)]
struct Physical<'a> {
    /// Without the line ending.
    content: &'a str,
    start: u32,
    /// Where the line ending starts.
    ending: u32,
    end: u32,
}

/// The content of a continued line and where its continuation starts.
fn continuation(content: &str, escape: Escape) -> Option<usize> {
    let escape = escape.as_char();
    let before = content.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!before.ends_with(escape)).then_some(before.len())
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

impl<'a> Parser<'a> {
    fn at(&self) -> u32 {
        (self.text.len() - self.rest.len()) as u32
    }

    /// The next physical line; `None` at the end and at a line that is too long.
    fn next_line(&mut self) -> Option<Physical<'a>> {
        if self.rest.is_empty() || self.stopped.is_some() {
            return None;
        }
        let start = self.at();
        let (rest, (content, ending)) = lexer::physical_line(self.rest).ok()?;
        let length = content.len() + ending.strip_suffix('\n').unwrap_or(ending).len();
        if length > MAX_LINE_BYTES {
            self.stopped = Some((self.line + 1, TextRange::new(start, start + content.len() as u32)));
            return None;
        }
        self.rest = rest;
        self.line += 1;
        let ending = start + content.len() as u32;
        Some(Physical { content, start, ending, end: self.at() })
    }

    fn error(&mut self, phase: Phase, kind: ErrorKind, range: TextRange, lines: Lines, buildkit_line: u32) {
        if self.out.errors.len() < MAX_ERRORS {
            self.out.errors.push(RecipeError { kind, phase, range, lines, buildkit_line, related: None });
        }
    }

    fn skip_rest(&mut self) {
        let first = self.out.tree.start_item();
        self.out.tree.token(TokenKind::Unread, self.at(), self.text.len() as u32);
        self.out.tree.end_item(ItemKind::Unread, first);
        self.rest = "";
    }

    fn run(&mut self) {
        if let Some(rest) = self.rest.strip_prefix('\u{feff}') {
            let first = self.out.tree.start_item();
            self.out.tree.token(TokenKind::Bom, 0, (self.text.len() - rest.len()) as u32);
            self.out.tree.end_item(ItemKind::Bom, first);
            self.rest = rest;
            // The mark alone is a line too.
            self.line = u32::from(rest.is_empty());
        }
        while let Some(line) = self.next_line() {
            self.line_outside(line);
        }
        let before_errors = self.out.errors.len();
        if self.out.statements.is_empty() && before_errors == 0 {
            let range = TextRange::empty(self.text.len() as u32);
            let last = self.line.max(1);
            self.error(
                Phase::Parse,
                ErrorKind::NoInstructions,
                range,
                Lines { first: last, last },
                self.line,
            );
        }
        if let Some((line, range)) = self.stopped.take() {
            let kind = ErrorKind::LineTooLong { max: MAX_LINE_BYTES };
            let named = line - 1 + self.stopped_inside;
            self.error(Phase::Parse, kind, range, Lines { first: line, last: line }, named);
            self.skip_rest();
        }
    }

    /// A line that no instruction has begun yet.
    fn line_outside(&mut self, line: Physical<'a>) {
        let number = Lines { first: self.line, last: self.line };
        let trimmed = line.content.trim_start();
        let first = self.out.tree.start_item();
        let indent = line.start + (line.content.len() - trimmed.len()) as u32;
        if trimmed.starts_with('#') {
            // With blanks in front, the mark itself stays in the comment: BuildKit drops one character.
            let mut chars = line.content.chars();
            chars.next();
            let comment = chars.as_str().trim();
            let range = TextRange::new(indent, line.ending);
            let is_directive = self.directive(trimmed, range, number);
            if comment.is_empty() {
                self.comments.clear();
            } else if !is_directive {
                self.comments.push(comment.to_owned());
            }
            self.out.tree.token(TokenKind::Blank, line.start, indent);
            self.out.tree.token(TokenKind::Comment, indent, line.ending);
            self.out.tree.token(TokenKind::Newline, line.ending, line.end);
            let kind = if is_directive { ItemKind::Directive } else { ItemKind::Comment };
            self.out.tree.end_item(kind, first);
            return;
        }
        self.directives.done = true;
        if trimmed.is_empty() {
            self.out.tree.token(TokenKind::Blank, line.start, line.ending);
            self.out.tree.token(TokenKind::Newline, line.ending, line.end);
            self.out.tree.end_item(ItemKind::Blank, first);
            return;
        }
        self.out.tree.token(TokenKind::Blank, line.start, indent);
        self.instruction(Physical { content: trimmed, start: indent, ..line }, first);
    }

    /// Adds a line's text to the logical line, and its tokens to the tree. Whether the next line belongs to it.
    fn add_line(&mut self, line: Physical<'a>) -> bool {
        let continues = continuation(line.content, self.escape);
        let text = &line.content[..continues.unwrap_or(line.content.len())];
        self.logical.push(text, line.start);
        let mut rest = text;
        let mut at = line.start;
        while let Ok((after, piece)) = lexer::blank_or_word(rest) {
            let end = at + piece.len() as u32;
            let kind =
                if piece.starts_with(char::is_whitespace) { TokenKind::Blank } else { TokenKind::Word };
            self.out.tree.token(kind, at, end);
            (rest, at) = (after, end);
        }
        self.out.tree.token(TokenKind::Continuation, at, line.ending);
        self.out.tree.token(TokenKind::Newline, line.ending, line.end);
        continues.is_some()
    }

    fn instruction(&mut self, line: Physical<'a>, first_token: u32) {
        let first_line = self.line;
        let mut end = line.ending;
        let mut blank: Option<TextRange> = None;
        self.logical.clear();
        let mut open = self.add_line(line);
        while open {
            let Some(next) = self.next_line() else {
                self.stopped_inside = u32::from(self.stopped.is_some());
                break;
            };
            if is_comment(next.content) {
                let indent = next.ending - next.content.trim_start().len() as u32;
                self.out.tree.token(TokenKind::Blank, next.start, indent);
                self.out.tree.token(TokenKind::Comment, indent, next.ending);
                self.out.tree.token(TokenKind::Newline, next.ending, next.end);
                continue;
            }
            if next.content.trim_start().is_empty() {
                blank.get_or_insert(TextRange::new(next.start, next.end));
                self.out.tree.token(TokenKind::Blank, next.start, next.ending);
                self.out.tree.token(TokenKind::Newline, next.ending, next.end);
                continue;
            }
            open = self.add_line(next);
            end = next.ending;
        }
        if let Some(range) = blank {
            let original = self.logical.text.clone();
            self.out.empty_continuations.push(EmptyContinuation { line: self.line, original, range });
        }
        let comments = std::mem::take(&mut self.comments);
        let mut statement = match statement::read(&self.logical, self.escape) {
            Ok(statement) => statement,
            Err((kind, range)) => {
                let lines = Lines { first: first_line, last: self.line };
                self.error(Phase::Parse, kind, range, lines, first_line);
                self.out.tree.end_item(ItemKind::Broken, first_token);
                return;
            }
        };
        self.out.tree.mark(first_token, statement.keyword.range, TokenKind::Keyword);
        for flag in &statement.flags {
            self.out.tree.mark(first_token, flag.range, TokenKind::Flag);
        }
        let mut failure = None;
        if statement.takes_heredocs() && self.logical.text.contains("<<") {
            match heredocs_of(&self.logical.text) {
                Ok(marks) => {
                    for mark in marks {
                        let name = mark.name.clone();
                        let (heredoc, terminated) = self.heredoc(mark);
                        end = heredoc.1;
                        statement.heredocs.push(heredoc.0);
                        if !terminated {
                            failure = Some(ErrorKind::UnterminatedHeredoc { name });
                            break;
                        }
                    }
                }
                Err(error) => failure = Some(ErrorKind::HeredocWord(error)),
            }
        }
        let lines = Lines { first: first_line, last: self.line };
        if let Some(kind) = failure {
            self.error(Phase::Parse, kind, statement.range, lines, first_line);
            self.out.tree.end_item(ItemKind::Broken, first_token);
            return;
        }
        statement.range = TextRange::new(line.start, end.max(statement.range.end));
        statement.lines = lines;
        statement.comments = comments;
        let index = self.out.statements.len() as u32;
        self.out.statements.push(statement);
        self.out.tree.end_item(ItemKind::Instruction(index), first_token);
    }

    /// Reads one body. The heredoc, where its last line's content ends, and whether its delimiter came.
    fn heredoc(&mut self, mark: HeredocMark) -> ((Heredoc, u32), bool) {
        let start = self.at();
        let mut body_end = start;
        let mut end = start;
        let mut terminated = false;
        while let Some(line) = self.next_line() {
            end = line.ending;
            let content = if mark.chomp { line.content.trim_start_matches('\t') } else { line.content };
            if content == mark.name {
                self.out.tree.token(TokenKind::HeredocBody, start, body_end);
                self.out.tree.token(TokenKind::HeredocEnd, line.start, line.ending);
                self.out.tree.token(TokenKind::Newline, line.ending, line.end);
                terminated = true;
                break;
            }
            body_end = line.end;
        }
        if !terminated {
            self.out.tree.token(TokenKind::HeredocBody, start, body_end);
        }
        let body_range = TextRange::new(start, body_end);
        let body = self.text[body_range.as_usize()].to_owned();
        let HeredocMark { name, fd, chomp, expand } = mark;
        ((Heredoc { name, fd, expand, chomp, body, body_range }, end), terminated)
    }

    /// Whether a comment line is a directive; sets the escape character.
    fn directive(&mut self, comment: &str, range: TextRange, lines: Lines) -> bool {
        match self.directives.read(comment, "#") {
            None => false,
            Some((key, Seen::Before(first))) => {
                let kind = ErrorKind::DuplicateDirective { name: key };
                self.error(Phase::Parse, kind, range, lines, lines.first - 1);
                if let Some(error) = self.out.errors.last_mut() {
                    error.related = Some((first, "first given here"));
                }
                false
            }
            Some((key, Seen::First(value))) => {
                self.directives.seen.push((key.clone(), range));
                match (key.as_str(), value.as_str()) {
                    ("escape", "\\") => self.escape = Escape::Backslash,
                    ("escape", "`") => self.escape = Escape::Backtick,
                    ("escape", _) => {
                        let kind = ErrorKind::InvalidEscape { value };
                        self.error(Phase::Parse, kind, range, lines, lines.first - 1);
                    }
                    _ => {}
                }
                true
            }
        }
    }
}

/// Reads directives until the first line that is none.
#[derive(Debug, Default)]
struct DirectiveReader {
    done: bool,
    seen: Vec<(String, TextRange)>,
}

enum Seen {
    First(String),
    Before(TextRange),
}

impl DirectiveReader {
    /// The directive in a line that starts with `mark`: its key in lower case and its value.
    fn read(&mut self, line: &str, mark: &str) -> Option<(String, Seen)> {
        if self.done {
            return None;
        }
        let found = line
            .strip_prefix(mark)
            .and_then(|rest| lexer::directive(rest.trim_start()).ok())
            .map(|(_, (key, value))| (key.to_ascii_lowercase(), value))
            .filter(|(key, _)| matches!(key.as_str(), "syntax" | "escape" | "check"));
        let Some((key, value)) = found else {
            self.done = true;
            return None;
        };
        let before = self.seen.iter().find(|(known, _)| *known == key).map(|(_, range)| *range);
        Some((key, before.map_or_else(|| Seen::First(value.to_owned()), Seen::Before)))
    }
}

/// `syntax` and `check` are looked for apart from everything else: a `#!` line may come before them, blanks
/// may not; `syntax` may also stand behind `//` or in a JSON object.
fn detect_directives(source: &SourceFile, escape: Escape) -> Directives {
    let text = source.text();
    let mut start = 0;
    if text.starts_with('\u{feff}') {
        start = '\u{feff}'.len_utf8();
    }
    if text[start..].starts_with("#!") {
        start = text[start..].find('\n').map_or(text.len(), |end| start + end + 1);
    }
    let mut directives = Directives { escape, ..Directives::default() };
    let mut find = |mark: &str| {
        let mut reader = DirectiveReader::default();
        let mut at = start;
        for line in text[start..].split_inclusive('\n') {
            let from = at;
            at += line.len();
            let content = line.strip_suffix('\n').unwrap_or(line);
            let content = content.strip_suffix('\r').unwrap_or(content);
            let Some((key, Seen::First(value))) = reader.read(content, mark) else { break };
            let range = TextRange::new(from as u32, (from + content.len()) as u32);
            reader.seen.push((key.clone(), range));
            let value = Word::new(value, range);
            match (key.as_str(), mark) {
                ("syntax", _) if directives.syntax.is_none() => directives.syntax = Some(value),
                ("check", "#") => directives.check = Some(value),
                _ => {}
            }
        }
        directives.syntax.is_none()
    };
    if find("#") && find("//") && text[start..].trim_start().starts_with('{') {
        let range = TextRange::new(start as u32, text.len() as u32);
        let value = serde_json::from_str::<serde_json::Value>(&text[start..]).ok();
        let syntax = value.as_ref().and_then(|value| value.get("syntax")).and_then(|value| value.as_str());
        directives.syntax = syntax.map(|syntax| Word::new(syntax.to_owned(), range));
    }
    directives
}

#[cfg(test)]
mod tests;
