//! A parser of POSIX shell with the parts of bash that recipes use.
//!
//! It never fails: what can't be read ends the list it is in, and [`Parsed::error`] says where. Time is
//! linear but for nested backticks, whose depth is limited.

mod word;

use super::ast::{Arm, Assign, Command, Link, List, Part, PartKind, Redirect, Simple, Span, Word};

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 60;

/// A parsed text.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// What was read.
    pub list: List,
    /// Where reading stopped, if not at the end.
    pub error: Option<u32>,
    /// Comments.
    pub comments: Vec<Span>,
}

/// Parses a text.
pub fn parse(text: &str) -> Parsed {
    parse_part(text, 0, text.len(), 0)
}

fn parse_part(text: &str, start: usize, end: usize, depth: usize) -> Parsed {
    let mut parser = Parser {
        text: &text[..end],
        bytes: &text.as_bytes()[..end],
        at: start,
        depth,
        pending: Vec::new(),
        comments: Vec::new(),
        error: None,
    };
    let list = parser.list(&[]);
    parser.blanks_and_newlines();
    if parser.at < end && parser.error.is_none() {
        parser.error = Some(parser.at as u32);
    }
    Parsed { list, error: parser.error, comments: parser.comments }
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    /// Delimiters of heredocs whose bodies come behind the next newline, and whether tabs are stripped.
    pending: Vec<(String, bool)>,
    comments: Vec<Span>,
    error: Option<u32>,
}

const RESERVED_END: [&str; 9] = ["then", "do", "done", "fi", "elif", "else", "esac", "}", "in"];

const fn is_meta(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')')
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl<'a> Parser<'a> {
    fn peek(&self) -> u8 {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn starts(&self, text: &str) -> bool {
        self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(text.as_bytes()))
    }

    fn done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn fail(&mut self) {
        self.error.get_or_insert(self.at as u32);
    }

    fn blanks(&mut self) {
        loop {
            match self.peek() {
                b' ' | b'\t' | b'\r' if !self.done() => self.at += 1,
                b'\\' if self.peek_at(1) == b'\n' => self.at += 2,
                b'#' if !self.done() => {
                    let start = self.at;
                    while !self.done() && self.peek() != b'\n' {
                        self.at += 1;
                    }
                    self.comments.push(Span::new(start, self.at));
                }
                _ => return,
            }
        }
    }

    fn blanks_and_newlines(&mut self) {
        loop {
            self.blanks();
            if self.done() || self.peek() != b'\n' {
                return;
            }
            self.newline();
        }
    }

    /// Passes a newline and the heredocs behind it.
    fn newline(&mut self) {
        self.at += 1;
        for (delimiter, strip) in std::mem::take(&mut self.pending) {
            while !self.done() {
                let rest = &self.text[self.at..];
                let line = rest.split('\n').next().unwrap_or(rest);
                let content = if strip { line.trim_start_matches('\t') } else { line };
                let last = content == delimiter;
                self.at = (self.at + line.len() + 1).min(self.bytes.len());
                if last {
                    // The newline behind the delimiter ends the command.
                    break;
                }
            }
        }
    }

    /// The reserved word or plain text that starts here, not taken.
    fn keyword(&self) -> &'a str {
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        let end = rest.iter().position(|byte| is_meta(*byte)).unwrap_or(rest.len());
        self.text.get(self.at..self.at + end).unwrap_or("")
    }

    fn take(&mut self, word: &str) -> bool {
        if self.keyword() == word {
            self.at += word.len();
            return true;
        }
        false
    }

    fn expect(&mut self, word: &str) {
        self.blanks_and_newlines();
        if !self.take(word) {
            self.fail();
        }
    }

    /// Commands up to a word of `stops`, `)` or the end.
    fn list(&mut self, stops: &[&str]) -> List {
        let mut list = List::default();
        self.depth += 1;
        while self.depth < MAX_DEPTH && self.error.is_none() {
            self.blanks_and_newlines();
            if self.done()
                || matches!(self.peek(), b')')
                || stops.contains(&self.keyword())
                || self.starts(";;")
            {
                break;
            }
            let before = self.at;
            let Some(command) = self.and_or() else {
                self.fail();
                break;
            };
            self.blanks();
            let background = self.peek() == b'&' && self.peek_at(1) != b'&';
            list.items.push((command, background));
            if background || (self.peek() == b';' && self.peek_at(1) != b';') {
                self.at += 1;
            } else if !self.done()
                && !matches!(self.peek(), b'\n' | b')')
                && !self.starts(";;")
                && !stops.contains(&self.keyword())
            {
                self.fail();
            }
            if self.at == before {
                self.fail();
            }
        }
        if self.depth >= MAX_DEPTH {
            self.fail();
            self.at = self.bytes.len();
        }
        self.depth -= 1;
        list
    }

    fn and_or(&mut self) -> Option<Command> {
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            self.blanks();
            let link = match () {
                () if self.starts("&&") => Link::And,
                () if self.starts("||") => Link::Or,
                () => break,
            };
            self.at += 2;
            self.blanks_and_newlines();
            let Some(next) = self.pipeline() else {
                self.fail();
                break;
            };
            rest.push((link, next));
        }
        Some(if rest.is_empty() { first } else { Command::AndOr(Box::new(first), rest) })
    }

    fn pipeline(&mut self) -> Option<Command> {
        self.blanks();
        let start = self.at;
        if self.keyword() == "!" {
            self.at += 1;
            let inner = self.pipeline()?;
            return Some(Command::Not(Box::new(inner), Span::new(start, self.at)));
        }
        if self.keyword() == "time" {
            self.at += 4;
            self.blanks();
            if self.take("-p") {
                self.blanks();
            }
        }
        let mut commands = vec![self.command()?];
        loop {
            self.blanks();
            if self.peek() != b'|' || self.peek_at(1) == b'|' {
                break;
            }
            self.at += if self.peek_at(1) == b'&' { 2 } else { 1 };
            self.blanks_and_newlines();
            let Some(next) = self.command() else {
                self.fail();
                break;
            };
            commands.push(next);
        }
        match commands.len() {
            1 => commands.pop(),
            _ => Some(Command::Pipeline(commands)),
        }
    }

    fn command(&mut self) -> Option<Command> {
        self.blanks();
        if self.starts("((") {
            let start = self.at;
            if let Some(end) = self.arith_end(self.at + 2) {
                self.at = end;
                return Some(Command::Arith(Span::new(start, end)));
            }
        }
        if self.peek() == b'(' {
            self.at += 1;
            let list = self.list(&[]);
            self.blanks_and_newlines();
            if self.peek() == b')' {
                self.at += 1
            } else {
                self.fail()
            }
            return Some(Command::Subshell(list, self.redirects()));
        }
        match self.keyword() {
            "{" => {
                self.at += 1;
                let list = self.list(&["}"]);
                self.expect("}");
                Some(Command::Block(list, self.redirects()))
            }
            "if" => {
                self.at += 2;
                let mut arms = Vec::new();
                let mut otherwise = None;
                loop {
                    let condition = self.list(&["then"]);
                    self.expect("then");
                    let body = self.list(&["elif", "else", "fi"]);
                    arms.push((condition, body));
                    self.blanks_and_newlines();
                    if self.error.is_none() && self.take("elif") {
                        continue;
                    }
                    if self.take("else") {
                        otherwise = Some(self.list(&["fi"]));
                    }
                    self.expect("fi");
                    break;
                }
                let redirects = self.redirects();
                Some(with_redirects(Command::If(arms, otherwise), redirects))
            }
            word @ ("while" | "until") => {
                self.at += word.len();
                let condition = self.list(&["do"]);
                self.expect("do");
                let body = self.list(&["done"]);
                self.expect("done");
                let redirects = self.redirects();
                Some(with_redirects(Command::Loop(condition, body), redirects))
            }
            word @ ("for" | "select") => {
                self.at += word.len();
                self.for_loop()
            }
            "case" => {
                self.at += 4;
                self.case()
            }
            "function" => {
                self.at += 8;
                self.blanks();
                let name = self.keyword().to_owned();
                self.at += name.len();
                self.blanks();
                if self.starts("()") {
                    self.at += 2;
                }
                self.blanks_and_newlines();
                let body = self.command()?;
                Some(Command::Function(name, Box::new(body)))
            }
            "[[" => {
                let start = self.at;
                self.at += 2;
                self.test(start)
            }
            word if RESERVED_END.contains(&word) && word != "in" => None,
            word => {
                // A function: NAME ( ) body.
                if is_name(&word.replace(['-', '.', ':'], "_")) {
                    let save = self.at;
                    self.at += word.len();
                    self.blanks();
                    if self.peek() == b'(' {
                        self.at += 1;
                        self.blanks();
                        if self.peek() == b')' {
                            self.at += 1;
                            self.blanks_and_newlines();
                            let body = self.command()?;
                            return Some(Command::Function(word.to_owned(), Box::new(body)));
                        }
                    }
                    self.at = save;
                }
                self.simple()
            }
        }
    }

    fn for_loop(&mut self) -> Option<Command> {
        self.blanks();
        let mut name = String::new();
        let mut words = None;
        if self.starts("((") {
            self.at = self.arith_end(self.at + 2)?;
            words = Some(Vec::new());
        } else {
            name = self.keyword().to_owned();
            self.at += name.len();
            self.blanks_and_newlines();
            if self.take("in") {
                let mut list = Vec::new();
                loop {
                    self.blanks();
                    if self.done() || matches!(self.peek(), b';' | b'\n') {
                        break;
                    }
                    let Some(word) = self.word() else { break };
                    list.push(word);
                }
                words = Some(list);
            }
        }
        self.blanks();
        if self.peek() == b';' {
            self.at += 1;
        }
        self.blanks_and_newlines();
        let end = if self.take("{") {
            "}"
        } else {
            self.expect("do");
            "done"
        };
        let body = self.list(&[end]);
        self.expect(end);
        let redirects = self.redirects();
        Some(with_redirects(Command::For { name, words, body }, redirects))
    }

    fn case(&mut self) -> Option<Command> {
        self.blanks();
        let word = self.word()?;
        self.expect("in");
        let mut arms = Vec::new();
        loop {
            self.blanks_and_newlines();
            if self.done() {
                self.fail();
            }
            if self.error.is_some() || self.take("esac") {
                break;
            }
            if self.peek() == b'(' {
                self.at += 1;
            }
            let mut patterns = Vec::new();
            loop {
                self.blanks();
                patterns.push(self.word()?);
                self.blanks();
                if self.peek() != b'|' {
                    break;
                }
                self.at += 1;
            }
            if self.peek() != b')' {
                self.fail();
                break;
            }
            self.at += 1;
            let body = self.list(&["esac"]);
            arms.push(Arm { patterns, body });
            self.blanks_and_newlines();
            if self.starts(";;&") {
                self.at += 3;
            } else if self.starts(";;") || self.starts(";&") {
                self.at += 2;
            }
        }
        let redirects = self.redirects();
        Some(with_redirects(Command::Case(word, arms), redirects))
    }

    fn test(&mut self, start: usize) -> Option<Command> {
        let mut words = Vec::new();
        loop {
            self.blanks_and_newlines();
            if self.done() {
                self.fail();
                break;
            }
            if self.take("]]") {
                break;
            }
            let from = self.at;
            let op = ["&&", "||", "(", ")", "<", ">", "|"].into_iter().find(|op| self.starts(op));
            if let Some(op) = op {
                self.at += op.len();
                let span = Span::new(from, self.at);
                let part = Part { kind: PartKind::Literal(op.to_owned()), span };
                words.push(Word { parts: vec![part], span });
                continue;
            }
            match self.word() {
                Some(word) => words.push(word),
                None => {
                    self.at += 1;
                }
            }
        }
        Some(Command::Test(words, Span::new(start, self.at)))
    }

    fn redirects(&mut self) -> Vec<Redirect> {
        let mut out = Vec::new();
        loop {
            self.blanks();
            match self.redirect() {
                Some(redirect) => out.push(redirect),
                None => return out,
            }
        }
    }

    fn redirect(&mut self) -> Option<Redirect> {
        let start = self.at;
        let digits = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let ops = ["<<<", "<<-", "&>>", "<<", ">>", "<&", ">&", "<>", ">|", "&>", "<", ">"];
        let rest = &self.text[self.at + digits..];
        let op = ops.into_iter().find(|op| rest.starts_with(op))?;
        if (op == "<" || op == ">") && rest[1..].starts_with('(') {
            return None;
        }
        if op.starts_with('&') && digits > 0 {
            return None;
        }
        let fd = (digits > 0).then(|| self.text[start..start + digits].to_owned());
        self.at += digits + op.len();
        self.blanks();
        let target = self.word().unwrap_or_else(|| {
            self.fail();
            Word::default()
        });
        if op == "<<" || op == "<<-" {
            self.pending.push((target.text(), op == "<<-"));
        }
        Some(Redirect { op: op.to_owned(), fd, target, span: Span::new(start, self.at) })
    }

    fn simple(&mut self) -> Option<Command> {
        let start = self.at;
        let mut simple = Simple::default();
        let mut end = start;
        loop {
            self.blanks();
            if self.done() {
                break;
            }
            if let Some(redirect) = self.redirect() {
                simple.redirects.push(redirect);
                end = self.at;
                continue;
            }
            if is_meta(self.peek()) && !self.starts("<(") && !self.starts(">(") {
                break;
            }
            if simple.words.is_empty()
                && let Some(assign) = self.assign(&mut simple.elements)
            {
                simple.assigns.push(assign);
                end = self.at;
                continue;
            }
            let Some(word) = self.word() else { break };
            end = self.at;
            let declares =
                simple.words.first().and_then(Word::bare).is_some_and(|name| {
                    matches!(name, "export" | "declare" | "local" | "readonly" | "typeset")
                });
            simple.words.push(word);
            if declares && self.peek() == b'(' && self.bytes.get(self.at - 1) == Some(&b'=') {
                self.array(&mut simple.elements);
                end = self.at;
            }
        }
        simple.span = Span::new(start, end);
        let empty = simple.words.is_empty() && simple.assigns.is_empty() && simple.redirects.is_empty();
        (!empty).then_some(Command::Simple(simple))
    }

    fn assign(&mut self, elements: &mut Vec<Word>) -> Option<Assign> {
        let start = self.at;
        let rest = &self.bytes[start..];
        let mut length =
            rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        let name = self.text.get(start..start + length)?;
        if !is_name(name) {
            return None;
        }
        if rest.get(length) == Some(&b'[') {
            length += rest[length..].iter().position(|byte| *byte == b']')? + 1;
        }
        let element = length > name.len();
        let append = rest.get(length) == Some(&b'+') && rest.get(length + 1) == Some(&b'=');
        if !append && rest.get(length) != Some(&b'=') {
            return None;
        }
        self.at = start + length + if append { 2 } else { 1 };
        let name = name.to_owned();
        let list = self.peek() == b'(';
        let value_start = self.at;
        let value = if list {
            self.array(elements);
            Word { parts: Vec::new(), span: Span::new(value_start, self.at) }
        } else if self.done() || is_meta(self.peek()) {
            Word { parts: Vec::new(), span: Span::new(self.at, self.at) }
        } else {
            self.word().unwrap_or_default()
        };
        let array = list || element;
        Some(Assign { name, value, append, array, span: Span::new(start, self.at) })
    }

    /// The words of `(…)`, which go to `elements`.
    fn array(&mut self, elements: &mut Vec<Word>) {
        self.at += 1;
        loop {
            self.blanks_and_newlines();
            if self.done() {
                return self.fail();
            }
            if self.peek() == b')' {
                self.at += 1;
                return;
            }
            match self.word() {
                Some(word) => elements.push(word),
                None => self.at += 1,
            }
        }
    }

    /// The end behind `))` of an arithmetic text that starts at `from`.
    fn arith_end(&self, from: usize) -> Option<usize> {
        let mut depth = 0usize;
        let mut at = from;
        while at < self.bytes.len() {
            match self.bytes[at] {
                b'(' => depth += 1,
                b')' if depth > 0 => depth -= 1,
                b')' => return (self.bytes.get(at + 1) == Some(&b')')).then_some(at + 2),
                b'\'' | b'"' => return None,
                _ => {}
            }
            at += 1;
        }
        None
    }
}

fn with_redirects(command: Command, redirects: Vec<Redirect>) -> Command {
    match redirects.is_empty() {
        true => command,
        false => Command::Block(List { items: vec![(command, false)] }, redirects),
    }
}

#[cfg(test)]
mod tests;
