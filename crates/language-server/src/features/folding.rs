//! What can be folded, and what a selection grows to.

use super::View;
use diagnostic::TextRange;
use dockerfile::syntax::{ItemKind, TokenKind};
use serde_json::{Value, json};

/// Stages, instructions of several lines, heredocs, comments.
pub fn ranges(view: &View<'_>) -> Vec<Value> {
    let parsed = &view.analysis.parsed;
    let line = |at: u32| view.text.position(at).line;
    let mut out: Vec<(u32, u32, Option<&str>)> = Vec::new();
    for stage in &parsed.recipe.stages {
        let range = stage.range();
        out.push((line(range.start), line(range.end), Some("region")));
    }
    for statement in &parsed.statements {
        out.push((line(statement.range.start), line(statement.range.end), None));
        if let [first, .., last] = statement.heredocs.as_slice() {
            // Each body by itself too.
            for heredoc in [first, last] {
                let start = line(heredoc.body_range.start);
                out.push((start, line(heredoc.body_range.end), None));
            }
        }
    }
    let mut block: Option<TextRange> = None;
    for item in parsed.tree.items() {
        let text = item.range;
        block = match (item.kind, block) {
            (ItemKind::Comment, Some(range)) => Some(range.cover(text)),
            (ItemKind::Comment, None) => Some(text),
            (_, Some(range)) => {
                out.push((line(range.start), line(range.end.saturating_sub(1)), Some("comment")));
                None
            }
            (_, None) => None,
        };
    }
    if let Some(range) = block {
        out.push((line(range.start), line(range.end.saturating_sub(1)), Some("comment")));
    }
    out.retain(|(start, end, _)| start < end);
    out.sort();
    out.dedup();
    out.into_iter()
        .map(|(start, end, kind)| {
            let mut fold = json!({"startLine": start, "endLine": end});
            if let Some(kind) = kind {
                fold["kind"] = kind.into();
            }
            fold
        })
        .collect()
}

/// From a place outwards: word, argument, instruction, stage, all.
pub fn selection(view: &View<'_>, offset: u32) -> Value {
    let parsed = &view.analysis.parsed;
    let holds = |range: TextRange| range.start <= offset && offset <= range.end;
    let mut chain = vec![TextRange::new(0, view.text.as_str().len() as u32)];
    chain.extend(parsed.recipe.stages.iter().map(dockerfile::Stage::range).filter(|range| holds(*range)));
    let statements = parsed.statements.iter().filter(|one| holds(one.range));
    for statement in statements {
        chain.push(statement.range);
        chain.extend(statement.heredocs.iter().map(|one| one.body_range).filter(|range| holds(*range)));
        let words = statement.flags.iter().chain(&statement.args).chain([&statement.keyword]);
        chain.extend(words.map(|word| word.range).filter(|range| holds(*range) && !range.is_empty()));
    }
    let items = parsed.tree.items();
    let at = items.partition_point(|item| item.range.end <= offset);
    if let Some(item) = items.get(at) {
        let tokens = parsed.tree.tokens_of(item).iter();
        chain.extend(
            tokens
                .filter(|token| {
                    !matches!(token.kind, TokenKind::Blank | TokenKind::Newline | TokenKind::HeredocBody)
                })
                .map(|token| token.range)
                .filter(|range| holds(*range)),
        );
    }
    match view.analysis.index.at(offset) {
        Some(crate::index::Found::Variable(one)) => chain.push(one.range),
        Some(crate::index::Found::Stage(one)) => chain.push(one.range),
        None => {}
    }
    // The largest first; each must hold the next.
    chain.sort_by_key(|range| std::cmp::Reverse(range.len()));
    let mut kept: Vec<TextRange> = Vec::new();
    for range in chain {
        if kept.last().is_none_or(|last| *last != range && last.contains_range(range)) {
            kept.push(range);
        }
    }
    let mut out = Value::Null;
    for range in kept {
        let mut next = json!({"range": view.text.range(range)});
        if !out.is_null() {
            next["parent"] = out;
        }
        out = next;
    }
    out
}
