//! A named text with an index of its lines.

use std::ops::Range;

/// A half-open range of bytes of a [`SourceFile`]'s text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TextRange {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte; never smaller than `start`.
    pub end: u32,
}

impl TextRange {
    /// A range; `end` is raised to `start` where it is smaller.
    pub const fn new(start: u32, end: u32) -> Self {
        Self { start, end: if end < start { start } else { end } }
    }

    /// An empty range at `at`.
    pub const fn empty(at: u32) -> Self {
        Self { start: at, end: at }
    }

    /// Length in bytes.
    pub const fn len(self) -> u32 {
        self.end - self.start
    }

    /// Whether it holds no byte.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether `offset` lies inside (the end is outside).
    pub const fn contains(self, offset: u32) -> bool {
        self.start <= offset && offset < self.end
    }

    /// Whether `other` lies wholly inside.
    pub const fn contains_range(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// The smallest range that holds both.
    pub fn cover(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// As a range to index with.
    pub const fn as_usize(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A place as people count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// 1-based line.
    pub line: u32,
    /// 1-based column, counted in characters.
    pub column: u32,
}

/// A named text. Bytes that are not UTF-8 appear in the text as one U+FFFD each and are kept aside, so that
/// [`SourceFile::to_bytes`] gives back what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    name: String,
    text: String,
    line_starts: Vec<u32>,
    invalid: Vec<(u32, u8)>,
}

impl SourceFile {
    /// A file from text. Text behind the first 4 GiB is cut off: offsets are 32 bits wide.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self::build(name.into(), text.into(), Vec::new())
    }

    /// A file from bytes that may not be UTF-8.
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Self {
        let mut text = String::with_capacity(bytes.len());
        let mut invalid = Vec::new();
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            for byte in chunk.invalid() {
                invalid.push((u32::try_from(text.len()).unwrap_or(u32::MAX), *byte));
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        Self::build(name.into(), text, invalid)
    }

    fn build(name: String, mut text: String, mut invalid: Vec<(u32, u8)>) -> Self {
        if text.len() >= u32::MAX as usize {
            let mut cut = u32::MAX as usize - 1;
            while !text.is_char_boundary(cut) {
                cut -= 1;
            }
            text.truncate(cut);
            invalid.retain(|(at, _)| (*at as usize) < cut);
        }
        let mut line_starts = vec![0];
        for (at, byte) in text.bytes().enumerate() {
            if byte == b'\n' {
                line_starts.push(at as u32 + 1);
            }
        }
        Self { name, text, line_starts, invalid }
    }

    /// The name to show, such as `Dockerfile`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The bytes the file was made of.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.text.len());
        let mut done = 0;
        for (at, byte) in &self.invalid {
            let at = *at as usize;
            bytes.extend_from_slice(&self.text.as_bytes()[done..at]);
            bytes.push(*byte);
            done = at + char::REPLACEMENT_CHARACTER.len_utf8();
        }
        bytes.extend_from_slice(&self.text.as_bytes()[done..]);
        bytes
    }

    /// Whether every byte was UTF-8.
    pub fn is_utf8(&self) -> bool {
        self.invalid.is_empty()
    }

    /// How many bytes of the original file `range` stands for.
    pub fn byte_len(&self, range: TextRange) -> usize {
        let range = self.clamp(range);
        let from = self.invalid.partition_point(|(at, _)| *at < range.start);
        let to = self.invalid.partition_point(|(at, _)| *at < range.end);
        range.len() as usize - (to - from) * (char::REPLACEMENT_CHARACTER.len_utf8() - 1)
    }

    /// The part of the text inside `range`, which is first brought inside the text and onto characters.
    pub fn slice(&self, range: TextRange) -> &str {
        &self.text[self.clamp(range).as_usize()]
    }

    /// How many lines there are; a final newline opens no line of its own, an empty text has one line.
    pub fn line_count(&self) -> u32 {
        let starts = self.line_starts.len() as u32;
        match self.text.ends_with('\n') {
            true => starts - 1,
            false => starts,
        }
    }

    /// Where `offset` is, counted from 1. Offsets behind the end are taken as the end.
    pub fn position(&self, offset: u32) -> Position {
        let offset = self.floor(offset);
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_starts[line - 1];
        let column = self.text[start as usize..offset as usize].chars().count() as u32 + 1;
        Position { line: line as u32, column }
    }

    /// The 1-based line that `offset` is in.
    pub fn line_of(&self, offset: u32) -> u32 {
        self.line_starts.partition_point(|start| *start <= offset).max(1) as u32
    }

    /// The range of 1-based `line` without its line ending; an empty range for lines there are not.
    pub fn line_range(&self, line: u32) -> TextRange {
        let full = self.full_line_range(line);
        let text = self.slice(full);
        let trimmed = text.strip_suffix('\n').unwrap_or(text);
        let trimmed = trimmed.strip_suffix('\r').unwrap_or(trimmed);
        TextRange::new(full.start, full.start + trimmed.len() as u32)
    }

    /// The range of 1-based `line` with its line ending.
    pub fn full_line_range(&self, line: u32) -> TextRange {
        let end = self.text.len() as u32;
        let index = line.saturating_sub(1) as usize;
        match self.line_starts.get(index) {
            Some(start) => TextRange::new(*start, self.line_starts.get(index + 1).copied().unwrap_or(end)),
            None => TextRange::empty(end),
        }
    }

    /// The text of 1-based `line` without its line ending.
    pub fn line_text(&self, line: u32) -> &str {
        self.slice(self.line_range(line))
    }

    fn clamp(&self, range: TextRange) -> TextRange {
        TextRange::new(self.floor(range.start), self.floor(range.end))
    }

    fn floor(&self, offset: u32) -> u32 {
        let mut at = (offset as usize).min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive() {
        let bytes = b"a\xff\xfeb\n\xc3\xa9\xe2\x82";
        let file = SourceFile::from_bytes("f", bytes);
        assert_eq!(file.to_bytes(), bytes);
        assert_eq!(file.text(), "a\u{fffd}\u{fffd}b\né\u{fffd}\u{fffd}");
        assert!(!file.is_utf8());
        assert_eq!(file.byte_len(TextRange::new(0, file.text().len() as u32)), bytes.len());
        // A real U+FFFD is no damage.
        let real = SourceFile::from_bytes("f", "\u{fffd}".as_bytes());
        assert!(real.is_utf8());
        assert_eq!(real.to_bytes(), "\u{fffd}".as_bytes());
    }

    #[test]
    fn positions_count_characters() {
        let file = SourceFile::new("f", "é\r\nxÿz\n");
        assert_eq!(file.position(0), Position { line: 1, column: 1 });
        assert_eq!(file.position(2), Position { line: 1, column: 2 });
        assert_eq!(file.position(7), Position { line: 2, column: 3 });
        assert_eq!(file.position(6), Position { line: 2, column: 2 });
        assert_eq!(file.position(999), Position { line: 3, column: 1 });
        assert_eq!(file.line_count(), 2);
        assert_eq!(file.line_text(1), "é");
        assert_eq!(file.line_text(2), "xÿz");
        assert_eq!(file.line_text(9), "");
        assert_eq!(SourceFile::new("f", "").line_count(), 1);
    }

    #[test]
    fn ranges() {
        let range = TextRange::new(3, 1);
        assert!(range.is_empty());
        assert_eq!(TextRange::new(1, 3).cover(TextRange::new(5, 6)), TextRange::new(1, 6));
        assert!(TextRange::new(1, 4).contains(3) && !TextRange::new(1, 4).contains(4));
    }
}
