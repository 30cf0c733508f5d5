//! The lossless tree: items that tile the text, each made of tokens that tile the item.

use diagnostic::TextRange;

/// What one token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// The byte order mark at the very start.
    Bom,
    /// White space inside a line.
    Blank,
    /// A line ending.
    Newline,
    /// A comment from `#` to the end of its line.
    Comment,
    /// The keyword of an instruction.
    Keyword,
    /// (Part of) a flag.
    Flag,
    /// A run of anything else in an instruction.
    Word,
    /// The escape character that continues a line, with the blanks behind it.
    Continuation,
    /// The lines of a heredoc.
    HeredocBody,
    /// The line that ends a heredoc.
    HeredocEnd,
    /// What was not read at all, because a limit was reached.
    Unread,
}

/// A token. Text: `source.slice(token.range)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Its bytes.
    pub range: TextRange,
}

/// What one item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ItemKind {
    /// A byte order mark.
    Bom,
    /// An empty line or one of white space.
    Blank,
    /// A comment line outside of instructions.
    Comment,
    /// `# syntax=`, `# escape=` or `# check=`.
    Directive,
    /// An instruction with all its lines; the number is its index in [`super::Parsed::statements`].
    Instruction(u32),
    /// An instruction that could not be split into arguments.
    Broken,
    /// The rest of the file behind a limit.
    Unread,
}

/// A line, or several that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// Its bytes, the line endings included.
    pub range: TextRange,
    /// Its tokens in [`Tree::tokens`].
    tokens: (u32, u32),
}

/// The whole text as items. Every byte is in exactly one item and exactly one token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    items: Vec<Item>,
    tokens: Vec<Token>,
}

impl Tree {
    /// The items in order.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// All tokens in order.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// The tokens of one item.
    pub fn tokens_of(&self, item: &Item) -> &[Token] {
        self.tokens.get(item.tokens.0 as usize..item.tokens.1 as usize).unwrap_or_default()
    }

    /// The text, put together from the tokens: always the text that was parsed.
    pub fn print(&self, text: &str) -> String {
        self.tokens.iter().filter_map(|token| text.get(token.range.as_usize())).collect()
    }

    /// A listing of items and tokens, for tests and `--debug`.
    pub fn dump(&self, text: &str) -> String {
        use std::fmt::Write;
        let mut out = String::new();
        for item in &self.items {
            let _ = writeln!(out, "{:?} {}..{}", item.kind, item.range.start, item.range.end);
            for token in self.tokens_of(item) {
                let _ = writeln!(
                    out,
                    "  {:?} {:?}",
                    token.kind,
                    text.get(token.range.as_usize()).unwrap_or_default()
                );
            }
        }
        out
    }

    pub(crate) fn start_item(&self) -> u32 {
        self.tokens.len() as u32
    }

    pub(crate) fn token(&mut self, kind: TokenKind, start: u32, end: u32) {
        if start < end {
            self.tokens.push(Token { kind, range: TextRange::new(start, end) });
        }
    }

    pub(crate) fn end_item(&mut self, kind: ItemKind, first_token: u32) {
        let end = self.tokens.len() as u32;
        if let (Some(first), Some(last)) = (self.tokens.get(first_token as usize), self.tokens.last()) {
            let range = first.range.cover(last.range);
            self.items.push(Item { kind, range, tokens: (first_token, end) });
        }
    }

    /// Gives a kind to the words from `first_token` on that lie inside `range`.
    pub(crate) fn mark(&mut self, first_token: u32, range: TextRange, kind: TokenKind) {
        let tail = self.tokens.get_mut(first_token as usize..).unwrap_or_default();
        let from = tail.partition_point(|token| token.range.start < range.start);
        for token in tail[from..].iter_mut().take_while(|token| token.range.end <= range.end) {
            if token.kind == TokenKind::Word {
                token.kind = kind;
            }
        }
    }
}
