//! The text that a shell gets from a RUN, and the way from it back to the recipe.

use super::ast::Span;
use diagnostic::TextRange;
use dockerfile::{Escape, Heredoc};

/// A text put together from pieces of the recipe.
#[derive(Clone, Debug, Default)]
pub struct Mapped {
    /// What the shell reads.
    pub text: String,
    /// (offset in `text`, offset in the recipe), sorted.
    pieces: Vec<(u32, u32)>,
}

impl Mapped {
    fn push(&mut self, text: &str, source: u32) {
        self.pieces.push((self.text.len() as u32, source));
        self.text.push_str(text);
    }

    /// The logical line inside `range` of the recipe: continuations joined, comment and blank lines dropped.
    pub fn logical(source: &str, range: TextRange, escape: Escape) -> Self {
        let mut out = Self::default();
        let Some(text) = source.get(range.as_usize()) else { return out };
        let mut at = range.start;
        let mut first = true;
        for line in text.split_inclusive('\n') {
            let start = at;
            at += line.len() as u32;
            let content = line.strip_suffix('\n').unwrap_or(line);
            let content = content.strip_suffix('\r').unwrap_or(content);
            let trimmed = content.trim_start();
            if !first && (trimmed.is_empty() || trimmed.starts_with('#')) {
                continue;
            }
            first = false;
            let body = content.trim_end_matches([' ', '\t']);
            let joined =
                body.strip_suffix(escape.as_char()).filter(|before| !before.ends_with(escape.as_char()));
            // Only the last line does not continue.
            out.push(joined.filter(|_| line.ends_with('\n')).unwrap_or(content), start);
        }
        out
    }

    /// The body of a heredoc, tabs stripped where it asks for it.
    pub fn body(source: &str, heredoc: &Heredoc) -> Self {
        let mut out = Self::default();
        out.push_body(source, heredoc);
        out
    }

    fn push_body(&mut self, source: &str, heredoc: &Heredoc) {
        let Some(text) = source.get(heredoc.body_range.as_usize()) else { return };
        let mut at = heredoc.body_range.start;
        for line in text.split_inclusive('\n') {
            let kept = if heredoc.chomp { line.trim_start_matches('\t') } else { line };
            self.push(kept, at + (line.len() - kept.len()) as u32);
            at += line.len() as u32;
        }
    }

    /// Adds a heredoc that the shell itself reads.
    pub fn append(&mut self, source: &str, heredoc: &Heredoc) {
        self.push("\n", heredoc.body_range.start);
        let whole = Heredoc { chomp: false, ..heredoc.clone() };
        self.push_body(source, &whole);
        self.push(&heredoc.name, heredoc.body_range.end);
    }

    /// Where `span` stands in the recipe. Continuations between its ends are inside.
    pub fn range(&self, span: Span) -> TextRange {
        let start = self.offset(span.start);
        match span.end > span.start {
            true => TextRange::new(start, self.offset(span.end - 1) + 1),
            false => TextRange::empty(start),
        }
    }

    /// Where one byte stands in the recipe.
    pub fn offset(&self, at: u32) -> u32 {
        let index = self.pieces.partition_point(|(from, _)| *from <= at);
        match index.checked_sub(1).and_then(|index| self.pieces.get(index)) {
            Some((from, source)) => source + (at - from),
            None => 0,
        }
    }

    /// Whether the recipe has the same bytes at `span`, so that they can be edited there.
    pub fn is_whole(&self, span: Span) -> bool {
        let range = self.range(span);
        range.len() == span.end - span.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuations_are_joined() {
        let source = "RUN a \\\n # c\n\n  b \\  \n&& c\nRUN d\n";
        let mapped = Mapped::logical(source, TextRange::new(4, 27), Escape::Backslash);
        assert_eq!(mapped.text, "a   b && c");
        let at = mapped.text.find('b').unwrap_or_default();
        let range = mapped.range(Span::new(at, at + 1));
        assert_eq!(source.get(range.as_usize()), Some("b"));
        let range = mapped.range(Span::new(0, at + 1));
        assert_eq!(source.get(range.as_usize()), Some("a \\\n # c\n\n  b"));
        assert!(!mapped.is_whole(Span::new(0, at + 1)));
    }
}
