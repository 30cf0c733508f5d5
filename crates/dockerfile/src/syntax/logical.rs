//! A logical line: physical lines joined at continuations, and the way back to the source.

use diagnostic::TextRange;

/// The text BuildKit would see for one instruction, and where each piece of it stands in the source.
#[derive(Debug, Default)]
pub(crate) struct Logical {
    pub text: String,
    /// (offset in `text`, offset in the source), sorted by both; never empty once something was pushed.
    pieces: Vec<(u32, u32)>,
}

impl Logical {
    pub fn clear(&mut self) {
        self.text.clear();
        self.pieces.clear();
    }

    pub fn push(&mut self, text: &str, source: u32) {
        self.pieces.push((self.text.len() as u32, source));
        self.text.push_str(text);
    }

    /// The source range of `from..to`. Pieces between the two are covered with what separates them.
    pub fn range(&self, from: usize, to: usize) -> TextRange {
        let (from, to) = (from as u32, (to as u32).max(from as u32));
        let start = self.map(from, from);
        match to == from {
            true => TextRange::empty(start),
            false => TextRange::new(start, self.map(to, to - 1)),
        }
    }

    /// Maps `offset`, seen from the piece that holds the byte at `witness`.
    fn map(&self, offset: u32, witness: u32) -> u32 {
        let index = self.pieces.partition_point(|(at, _)| *at <= witness);
        match index.checked_sub(1).and_then(|index| self.pieces.get(index)) {
            Some((at, source)) => source + (offset - at),
            None => 0,
        }
    }

    pub fn cut(&self) -> Cut<'_> {
        Cut { text: &self.text, at: 0 }
    }
}

/// A part of a logical line that knows where it starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut<'a> {
    pub text: &'a str,
    pub at: usize,
}

impl<'a> Cut<'a> {
    pub fn from(self, start: usize) -> Self {
        Self { text: &self.text[start..], at: self.at + start }
    }

    pub fn between(self, start: usize, end: usize) -> Self {
        Self { text: &self.text[start..end], at: self.at + start }
    }

    pub fn trim_start(self) -> Self {
        let text = self.text.trim_start();
        Self { text, at: self.at + self.text.len() - text.len() }
    }

    pub fn trim(self) -> Self {
        let cut = self.trim_start();
        Self { text: cut.text.trim_end(), at: cut.at }
    }

    /// Splits at the first run of blanks (not every white space: newlines and wide blanks stay).
    pub fn split_once_blank(self) -> (Self, Option<Self>) {
        let bytes = self.text.as_bytes();
        let Some(end) = bytes.iter().position(|byte| is_blank(*byte)) else { return (self, None) };
        let rest =
            bytes[end..].iter().position(|byte| !is_blank(*byte)).map_or(bytes.len(), |skip| end + skip);
        (self.between(0, end), Some(self.from(rest)))
    }

    /// Splits at every run of blanks; empty parts at the ends are kept, as a regular expression's split does.
    pub fn split_blanks(self) -> impl Iterator<Item = Self> + use<'a> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let (first, more) = rest.take()?.split_once_blank();
            rest = more;
            Some(first)
        })
    }

    pub fn end(self) -> usize {
        self.at + self.text.len()
    }
}

/// What separates words: `[\t\v\f\r ]`.
pub(crate) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x0b | 0x0c | b'\r' | b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_back() {
        let mut logical = Logical::default();
        logical.push("RUN a ", 10);
        logical.push("b c", 30);
        assert_eq!(logical.range(4, 5), TextRange::new(14, 15));
        assert_eq!(logical.range(4, 7), TextRange::new(14, 31));
        assert_eq!(logical.range(6, 9), TextRange::new(30, 33));
        assert_eq!(logical.range(4, 6), TextRange::new(14, 16));
        assert_eq!(logical.range(9, 9), TextRange::empty(33));
    }

    #[test]
    fn splits_as_a_regex_would() {
        let parts = |text| -> Vec<&str> { Cut { text, at: 0 }.split_blanks().map(|cut| cut.text).collect() };
        assert_eq!(parts("a \t b\u{a0}c"), ["a", "b\u{a0}c"]);
        assert_eq!(parts("a "), ["a", ""]);
        assert_eq!(parts(""), [""]);
    }
}
