//! A text with its lines, and positions in it as the protocol counts them.
//!
//! Lines end at `\n`, `\r\n` and `\r`, as the protocol has it; columns count bytes, UTF-16 units or
//! characters, as client and server agreed. A position outside of the text is brought inside.

use diagnostic::TextRange;
use serde_json::{Value, json};

/// What columns count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Bytes.
    Utf8,
    /// UTF-16 units: what every client understands.
    #[default]
    Utf16,
    /// Characters.
    Utf32,
}

impl Encoding {
    /// As the protocol calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "utf-8",
            Self::Utf16 => "utf-16",
            Self::Utf32 => "utf-32",
        }
    }

    fn width(self, c: char) -> usize {
        match self {
            Self::Utf8 => c.len_utf8(),
            Self::Utf16 => c.len_utf16(),
            Self::Utf32 => 1,
        }
    }

    /// Length of a text.
    pub fn len(self, text: &str) -> usize {
        match self {
            Self::Utf8 => text.len(),
            _ if text.is_ascii() => text.len(),
            _ => text.chars().map(|c| self.width(c)).sum(),
        }
    }
}

/// A 0-based line and column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column, in units of the encoding.
    pub character: u32,
}

impl Position {
    /// Reads one.
    pub fn read(value: &Value) -> Option<Self> {
        // A number too large for 32 bits means the end.
        let number = |name: &str| {
            value.get(name).and_then(Value::as_u64).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
        };
        Some(Self { line: number("line")?, character: number("character")? })
    }

    /// As JSON.
    pub fn json(self) -> Value {
        json!({"line": self.line, "character": self.character})
    }
}

/// A text and where its lines start.
#[derive(Clone, Debug)]
pub struct Text {
    text: String,
    starts: Vec<u32>,
    ascii: bool,
    encoding: Encoding,
}

impl Text {
    /// A text; behind 4 GiB it is cut off.
    pub fn new(text: impl Into<String>, encoding: Encoding) -> Self {
        let mut text = text.into();
        if text.len() >= u32::MAX as usize {
            let end = floor(&text, u32::MAX as usize - 1);
            text.truncate(end);
        }
        let mut out = Self { ascii: text.is_ascii(), text, starts: vec![0], encoding };
        out.index();
        out
    }

    fn index(&mut self) {
        self.starts.truncate(1);
        let bytes = self.text.as_bytes();
        for (at, byte) in bytes.iter().enumerate() {
            if *byte == b'\n' || (*byte == b'\r' && bytes.get(at + 1) != Some(&b'\n')) {
                self.starts.push(at as u32 + 1);
            }
        }
        self.ascii = self.text.is_ascii();
    }

    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How many lines there are; a final line ending opens one.
    pub fn line_count(&self) -> u32 {
        self.starts.len() as u32
    }

    /// Bytes of a line without its ending.
    pub fn line(&self, line: u32) -> TextRange {
        let end = self.text.len() as u32;
        let Some(start) = self.starts.get(line as usize) else { return TextRange::empty(end) };
        let next = self.starts.get(line as usize + 1).copied().unwrap_or(end);
        let text = &self.text[*start as usize..next as usize];
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        TextRange::new(*start, start + text.len() as u32)
    }

    /// The byte at a position.
    pub fn offset(&self, position: Position) -> u32 {
        let line = self.line(position.line);
        if self.ascii || self.encoding == Encoding::Utf8 {
            let at = line.start.saturating_add(position.character).min(line.end);
            return floor(&self.text, at as usize) as u32;
        }
        let mut left = position.character as usize;
        let mut at = line.start;
        for c in self.text[line.as_usize()].chars() {
            let width = self.encoding.width(c);
            if width > left {
                break;
            }
            left -= width;
            at += c.len_utf8() as u32;
        }
        at
    }

    /// The position of a byte.
    pub fn position(&self, offset: u32) -> Position {
        let offset = floor(&self.text, offset as usize) as u32;
        let line = self.starts.partition_point(|start| *start <= offset).max(1) - 1;
        let before = &self.text[self.starts[line] as usize..offset as usize];
        let character = if self.ascii { before.len() } else { self.encoding.len(before) };
        Position { line: line as u32, character: character as u32 }
    }

    /// A range as JSON.
    pub fn range(&self, range: TextRange) -> Value {
        json!({"start": self.position(range.start).json(), "end": self.position(range.end).json()})
    }

    /// The bytes of a range in JSON.
    pub fn bytes(&self, range: &Value) -> Option<TextRange> {
        let start = self.offset(Position::read(range.get("start")?)?);
        let end = self.offset(Position::read(range.get("end")?)?);
        Some(TextRange::new(start, end))
    }

    /// Puts a text in the place of a range.
    pub fn replace(&mut self, range: TextRange, with: &str) {
        self.text.replace_range(range.as_usize(), with);
        self.index();
    }
}

/// The nearest boundary of a character that is not behind `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_counted_as_agreed() {
        let source = "aé😀z\r\n\u{feff}b\rc";
        for (encoding, columns) in
            [(Encoding::Utf8, [0, 1, 3, 7]), (Encoding::Utf16, [0, 1, 2, 4]), (Encoding::Utf32, [0, 1, 2, 3])]
        {
            let text = Text::new(source, encoding);
            assert_eq!(text.line_count(), 3);
            for ((at, _), column) in source.char_indices().zip(columns) {
                let position = Position { line: 0, character: column };
                assert_eq!(text.position(at as u32), position, "{encoding:?}");
                assert_eq!(text.offset(position), at as u32, "{encoding:?}");
            }
            assert_eq!(text.offset(Position { line: 0, character: 99 }), 8, "the end of the line");
            assert_eq!(text.offset(Position { line: 9, character: 0 }), source.len() as u32);
            assert_eq!(text.position(99).line, 2);
        }
        // Inside of a pair of surrogates is before it.
        assert_eq!(Text::new(source, Encoding::Utf16).offset(Position { line: 0, character: 3 }), 3);
    }
}
