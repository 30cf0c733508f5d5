//! Words: quotes, expansions, substitutions.

use super::{MAX_DEPTH, Parser, is_meta, parse_part};
use crate::shell::ast::{List, Param, Part, PartKind, Span, Word};

/// Up to where nested backticks are read, each of which costs a copy of the text in front of it.
const MAX_COPIED: usize = 1 << 16;

impl Parser<'_> {
    pub(super) fn word(&mut self) -> Option<Word> {
        let start = self.at;
        let mut parts = Vec::new();
        let mut literal_start = self.at;
        macro_rules! flush {
            () => {
                if literal_start < self.at {
                    let text = self.text[literal_start..self.at].to_owned();
                    parts.push(Part {
                        kind: PartKind::Literal(text),
                        span: Span::new(literal_start, self.at),
                    });
                }
            };
        }
        while !self.done() {
            let byte = self.peek();
            match byte {
                b'<' | b'>' if self.peek_at(1) == b'(' && self.at == start => {
                    let from = self.at;
                    self.at += 2;
                    let list = self.list(&[]);
                    if self.peek() == b')' {
                        self.at += 1
                    } else {
                        self.fail()
                    }
                    parts.push(Part { kind: PartKind::Process(list), span: Span::new(from, self.at) });
                    literal_start = self.at;
                }
                // Extended globs keep their parentheses.
                b'(' if self.at > start
                    && matches!(self.bytes[self.at - 1], b'?' | b'*' | b'+' | b'@' | b'!') =>
                {
                    let mut depth = 0usize;
                    while !self.done() {
                        match self.peek() {
                            b'(' => depth += 1,
                            b')' => depth -= 1,
                            _ => {}
                        }
                        self.at += 1;
                        if depth == 0 {
                            break;
                        }
                    }
                }
                byte if is_meta(byte) => break,
                b'\\' => {
                    flush!();
                    let from = self.at;
                    self.at += 1;
                    let c = self.text[self.at..].chars().next();
                    self.at += c.map_or(0, char::len_utf8);
                    if let Some(c) = c.filter(|c| *c != '\n') {
                        parts.push(Part { kind: PartKind::Escaped(c), span: Span::new(from, self.at) });
                    }
                    literal_start = self.at;
                }
                b'\'' | b'"' | b'`' => {
                    flush!();
                    let part = self.quoted(byte);
                    parts.push(part);
                    literal_start = self.at;
                }
                b'$' => {
                    let save = self.at;
                    flush!();
                    match self.dollar(false) {
                        Some(part) => {
                            parts.push(part);
                            literal_start = self.at;
                        }
                        None => {
                            literal_start = save;
                            self.at = save + 1;
                        }
                    }
                }
                _ => self.at += self.text[self.at..].chars().next().map_or(1, char::len_utf8),
            }
        }
        flush!();
        (self.at > start).then(|| Word { parts, span: Span::new(start, self.at) })
    }

    fn quoted(&mut self, quote: u8) -> Part {
        let start = self.at;
        self.at += 1;
        let kind = match quote {
            b'\'' => {
                let from = self.at;
                let end = self.text[from..].find('\'');
                self.at = end.map_or(self.bytes.len(), |end| from + end);
                let text = self.text[from..self.at].to_owned();
                match end {
                    Some(_) => self.at += 1,
                    None => self.error = self.error.or(Some(start as u32)),
                }
                PartKind::Single(text)
            }
            b'`' => self.backtick(start),
            _ => {
                let parts = self.double(start);
                PartKind::Double(parts)
            }
        };
        Part { kind, span: Span::new(start, self.at) }
    }

    fn double(&mut self, start: usize) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut literal_start = self.at;
        macro_rules! flush {
            () => {
                if !literal.is_empty() {
                    let text = std::mem::take(&mut literal);
                    parts.push(Part {
                        kind: PartKind::Literal(text),
                        span: Span::new(literal_start, self.at),
                    });
                }
            };
        }
        while !self.done() {
            match self.peek() {
                b'"' => {
                    flush!();
                    self.at += 1;
                    return parts;
                }
                b'\\' => {
                    self.at += 1;
                    let Some(c) = self.text[self.at..].chars().next() else { break };
                    if !matches!(c, '$' | '`' | '"' | '\\' | '\n') {
                        literal.push('\\');
                    }
                    if c != '\n' {
                        literal.push(c);
                    }
                    self.at += c.len_utf8();
                }
                b'`' => {
                    flush!();
                    let part = self.quoted(b'`');
                    parts.push(part);
                    literal_start = self.at;
                }
                b'$' => {
                    flush!();
                    let save = self.at;
                    match self.dollar(true) {
                        Some(part) => parts.push(part),
                        None => {
                            self.at = save + 1;
                            literal.push('$');
                        }
                    }
                    literal_start = if literal.is_empty() { self.at } else { save };
                }
                _ => {
                    let Some(c) = self.text[self.at..].chars().next() else { break };
                    literal.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
        flush!();
        self.error = self.error.or(Some(start as u32));
        parts
    }

    fn backtick(&mut self, start: usize) -> PartKind {
        let from = self.at;
        while !self.done() && self.peek() != b'`' {
            self.at += if self.peek() == b'\\' { 2 } else { 1 };
        }
        self.at = self.at.min(self.bytes.len());
        while !self.text.is_char_boundary(self.at) {
            self.at += 1;
        }
        let end = self.at;
        if self.done() {
            self.error = self.error.or(Some(start as u32));
        } else {
            self.at += 1;
        }
        let inner = &self.text[from..end];
        let list = match self.depth < MAX_DEPTH {
            // Backticks of the next level. Offsets must stay, so that a blank takes the place of each backslash.
            true if from < MAX_COPIED && inner.contains("\\`") => {
                let text = format!("{}{}", &self.text[..from], inner.replace("\\`", " `"));
                parse_part(&text, from, end, self.depth + 1).list
            }
            true => parse_part(self.text, from, end, self.depth + 1).list,
            false => List::default(),
        };
        PartKind::Command { list, backtick: true }
    }

    /// What a `$` starts; `None` where it is plain text.
    fn dollar(&mut self, quoted: bool) -> Option<Part> {
        let start = self.at;
        let next = self.peek_at(1);
        let kind = match next {
            b'(' if self.peek_at(2) == b'(' && self.arith_end(self.at + 3).is_some() => {
                let end = self.arith_end(self.at + 3)?;
                self.at = end;
                PartKind::Arith(self.text[start + 3..end - 2].to_owned())
            }
            b'(' => {
                self.at += 2;
                let list = self.list(&[]);
                self.blanks_and_newlines();
                if self.peek() == b')' && !self.done() {
                    self.at += 1
                } else {
                    self.fail()
                }
                PartKind::Command { list, backtick: false }
            }
            b'{' => {
                self.at += 2;
                PartKind::Param(self.braced(start, quoted))
            }
            b'\'' if !quoted => {
                let from = self.at + 2;
                self.at = from;
                while !self.done() && self.peek() != b'\'' {
                    self.at += if self.peek() == b'\\' { 2 } else { 1 };
                }
                self.at = self.at.min(self.bytes.len());
                while !self.text.is_char_boundary(self.at) {
                    self.at += 1;
                }
                let text = self.text[from..self.at].to_owned();
                self.at = (self.at + 1).min(self.bytes.len());
                PartKind::DollarSingle(text)
            }
            b'"' if !quoted => {
                self.at += 2;
                PartKind::Double(self.double(start))
            }
            byte if byte.is_ascii_alphabetic() || byte == b'_' => {
                let length = self.bytes[start + 1..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
                    .count();
                self.at = start + 1 + length;
                PartKind::Param(Param { name: self.text[start + 1..self.at].to_owned(), ..Param::default() })
            }
            byte if byte.is_ascii_digit() || b"@*#?-$!".contains(&byte) => {
                self.at += 2;
                PartKind::Param(Param { name: char::from(byte).to_string(), ..Param::default() })
            }
            _ => return None,
        };
        Some(Part { kind, span: Span::new(start, self.at) })
    }

    /// Behind `${`.
    fn braced(&mut self, start: usize, quoted: bool) -> Param {
        let mut param = Param { braced: true, ..Param::default() };
        if self.peek() == b'#' && self.peek_at(1) != b'}' {
            param.length = true;
            self.at += 1;
        } else if self.peek() == b'!' && self.peek_at(1) != b'}' {
            param.indirect = true;
            self.at += 1;
        }
        let from = self.at;
        if self.peek().is_ascii_alphanumeric() || self.peek() == b'_' {
            while self.peek().is_ascii_alphanumeric() || self.peek() == b'_' {
                self.at += 1;
            }
        } else if !self.done() && self.peek() != b'}' {
            self.at += self.text[self.at..].chars().next().map_or(1, char::len_utf8);
        }
        param.name = self.text[from..self.at].to_owned();
        if self.peek() == b'[' {
            let end = self.text[self.at..].find(']').map_or(self.bytes.len(), |end| self.at + end + 1);
            param.index = Some(self.text[self.at..end].to_owned());
            self.at = end;
        }
        let rest = self.at;
        let mut depth = 0usize;
        while !self.done() {
            match self.peek() {
                b'\\' => self.at += 1,
                // Inside of double quotes a single one is plain text.
                b'\'' if !quoted => {
                    let end = self.text.get(self.at + 1..).and_then(|rest| rest.find('\''));
                    self.at += end.map_or(0, |end| end + 1);
                }
                b'"' => {
                    let end = self.text.get(self.at + 1..).and_then(|rest| rest.find('"'));
                    self.at += end.map_or(0, |end| end + 1);
                }
                b'{' if self.at > 0 && self.bytes[self.at - 1] == b'$' => depth += 1,
                b'}' if depth == 0 => {
                    param.rest = self.text[rest..self.at].to_owned();
                    self.at += 1;
                    return param;
                }
                b'}' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            while self.at < self.bytes.len() && !self.text.is_char_boundary(self.at) {
                self.at += 1;
            }
        }
        self.at = self.bytes.len();
        self.error = self.error.or(Some(start as u32));
        param
    }
}
