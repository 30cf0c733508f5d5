//! Colours: what each piece of a recipe is.

use super::View;
use crate::index::{Doubt, Role, StageRole};
use diagnostic::TextRange;
use dockerfile::Instruction;
use dockerfile::syntax::{ItemKind, TokenKind};
use serde_json::{Value, json};

/// The kinds, by number.
pub const TYPES: [&str; 9] =
    ["keyword", "comment", "macro", "parameter", "variable", "class", "string", "operator", "property"];
/// The modifiers, by bit.
pub const MODIFIERS: [&str; 2] = ["declaration", "deprecated"];

const KEYWORD: u32 = 0;
const COMMENT: u32 = 1;
const MACRO: u32 = 2;
const PARAMETER: u32 = 3;
const VARIABLE: u32 = 4;
const CLASS: u32 = 5;
const STRING: u32 = 6;
const OPERATOR: u32 = 7;
const PROPERTY: u32 = 8;

const DECLARATION: u32 = 1;
const DEPRECATED: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    range: TextRange,
    kind: u32,
    modifiers: u32,
}

/// The legend.
pub fn legend() -> Value {
    json!({"tokenTypes": TYPES, "tokenModifiers": MODIFIERS})
}

/// Tokens as the protocol has them, of all or of a range.
pub fn encoded(view: &View<'_>, within: Option<TextRange>) -> Vec<u32> {
    let encoding_of = |range: TextRange| {
        let start = view.text.position(range.start);
        let end = view.text.position(range.end);
        (start, end)
    };
    let mut out = Vec::new();
    let mut last = crate::text::Position::default();
    for token in tokens(view, within) {
        let (start, end) = encoding_of(token.range);
        let line = start.line - last.line;
        let column = if line == 0 { start.character - last.character } else { start.character };
        out.extend([line, column, end.character - start.character, token.kind, token.modifiers]);
        last = start;
    }
    out
}

fn tokens(view: &View<'_>, within: Option<TextRange>) -> Vec<Token> {
    let inside = |range: TextRange| within.is_none_or(|all| range.start < all.end && all.start < range.end);
    let parsed = &view.analysis.parsed;
    // What says the most comes first; the rest fills the gaps.
    let mut strong: Vec<Token> = Vec::new();
    let index = &view.analysis.index;
    for one in index.variables.iter().filter(|one| inside(one.range)) {
        if matches!(one.doubt, Some(Doubt::Split | Doubt::Foreign | Doubt::Quoted))
            || one.role == Role::Comment
        {
            continue;
        }
        let modifiers = if one.role.declares() { DECLARATION } else { 0 };
        strong.push(Token { range: one.range, kind: VARIABLE, modifiers });
    }
    for one in index.stages.iter().filter(|one| inside(one.range) && one.role != StageRole::Comment) {
        let modifiers = if one.role == StageRole::Name { DECLARATION } else { 0 };
        if one.plain {
            strong.push(Token { range: one.range, kind: CLASS, modifiers });
        }
    }
    strong.sort_by_key(|token| token.range);
    strong.dedup_by_key(|token| token.range);
    let mut weak: Vec<Token> = Vec::new();
    for item in parsed.tree.items().iter().filter(|item| inside(item.range)) {
        for token in parsed.tree.tokens_of(item) {
            let kind = match (token.kind, item.kind) {
                (TokenKind::Comment, ItemKind::Directive) => MACRO,
                (TokenKind::Comment, _) => COMMENT,
                (TokenKind::Keyword, _) => KEYWORD,
                (TokenKind::Flag, _) => PARAMETER,
                (TokenKind::HeredocEnd, _) => OPERATOR,
                (TokenKind::Continuation, _) => OPERATOR,
                _ => continue,
            };
            let deprecated = kind == KEYWORD && view.slice(token.range).eq_ignore_ascii_case("maintainer");
            let modifiers = if deprecated { DEPRECATED } else { 0 };
            let range = match kind {
                OPERATOR => trimmed(view, token.range),
                _ => token.range,
            };
            weak.push(Token { range, kind, modifiers });
        }
    }
    for stage in &parsed.recipe.stages {
        let from = &stage.from.node;
        weak.extend(from.as_keyword.iter().map(|word| Token {
            range: word.range,
            kind: KEYWORD,
            modifiers: 0,
        }));
        weak.push(Token { range: from.base.range, kind: STRING, modifiers: 0 });
        for node in &stage.instructions {
            match &node.node {
                Instruction::Label(label) => weak.extend(label.pairs.iter().filter_map(|pair| {
                    let range = TextRange::new(pair.range.start, pair.range.start + pair.key.len() as u32);
                    (view.slice(range) == pair.key).then_some(Token { range, kind: PROPERTY, modifiers: 0 })
                })),
                Instruction::Onbuild(_) => {
                    let statements = &parsed.statements;
                    let at = statements.partition_point(|one| one.range.start < node.range.start);
                    let sub = statements.get(at).and_then(|statement| statement.sub.as_deref());
                    weak.extend(sub.map(|sub| Token {
                        range: sub.keyword.range,
                        kind: KEYWORD,
                        modifiers: 0,
                    }));
                }
                _ => {}
            }
        }
    }
    weak.retain(|token| inside(token.range));
    weak.sort_by_key(|token| token.range);
    let mut out = merged(&strong, &weak);
    out.retain(|token| !token.range.is_empty() && inside(token.range));
    split_lines(view, out)
}

fn trimmed(view: &View<'_>, range: TextRange) -> TextRange {
    let text = view.slice(range);
    let start = range.start + (text.len() - text.trim_start().len()) as u32;
    TextRange::new(start, start + text.trim().len() as u32)
}

/// Both lists in order without overlaps: what is weak gives way.
fn merged(strong: &[Token], weak: &[Token]) -> Vec<Token> {
    let mut out: Vec<Token> = Vec::with_capacity(strong.len() + weak.len());
    let mut done = 0;
    let mut taken = Vec::new();
    for token in strong {
        if token.range.start >= done {
            taken.push(*token);
            done = token.range.end;
        }
    }
    let mut done = 0;
    for token in weak {
        let mut start = token.range.start.max(done);
        let first = taken.partition_point(|strong| strong.range.end <= start);
        for strong in &taken[first..] {
            if strong.range.start >= token.range.end {
                break;
            }
            if start < strong.range.start {
                out.push(Token { range: TextRange::new(start, strong.range.start), ..*token });
            }
            start = start.max(strong.range.end);
        }
        if start < token.range.end {
            out.push(Token { range: TextRange::new(start, token.range.end), ..*token });
        }
        done = done.max(token.range.end);
    }
    out.extend(taken);
    out.sort_by_key(|token| token.range);
    out
}

/// Tokens of one line each, as clients want them.
fn split_lines(view: &View<'_>, tokens: Vec<Token>) -> Vec<Token> {
    let mut out = Vec::with_capacity(tokens.len());
    for token in tokens {
        let (first, last) =
            (view.text.position(token.range.start).line, view.text.position(token.range.end).line);
        if first == last {
            out.push(token);
            continue;
        }
        for line in first..=last {
            let line = view.text.line(line);
            let range = TextRange::new(token.range.start.max(line.start), token.range.end.min(line.end));
            if range.start < range.end && line.contains_range(range) {
                out.push(Token { range, ..token });
            }
        }
    }
    out
}
