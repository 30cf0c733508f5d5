//! The proof that a changed recipe says what the old one said, but for what was meant to change.
//!
//! A change passes only if the new text parses with the same errors, has the same directives and the same
//! instructions in the same order (those that were meant to change excepted), keeps every comment and every
//! `check=` option where it was, and breaks the shell text of no RUN.

use crate::suppress;
use dockerfile::syntax::{Statement, TokenKind};
use dockerfile::word::{Lexer, NoVariables, Unset};
use dockerfile::{Instruction, Parsed};
use std::collections::BTreeSet;

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The edits overlap or do not fit the text.
    #[error("the edits do not fit the text")]
    Edits,
    /// The file is not UTF-8, so that offsets would not be those of its bytes.
    #[error("the file is not UTF-8")]
    NotUtf8,
    /// The new text has other errors.
    #[error("the recipe would have other errors")]
    Errors,
    /// A directive would change.
    #[error("a directive would change")]
    Directives,
    /// There would be more or fewer instructions.
    #[error("the recipe would have {new} instructions instead of {old}")]
    Count {
        /// Before.
        old: usize,
        /// After.
        new: usize,
    },
    /// An instruction would change that should not.
    #[error("the instruction on line {line} would change")]
    Changed {
        /// Its first line in the old text.
        line: u32,
    },
    /// A comment would be lost or changed.
    #[error("a comment would be lost")]
    Comments,
    /// The shell could not read a RUN any more.
    #[error("the shell text on line {line} would be broken")]
    Shell {
        /// First line of the RUN in the old text.
        line: u32,
    },
    /// The finding would still be there.
    #[error("the finding would stay")]
    Useless,
    /// Doing it twice would change it again.
    #[error("the result would change again")]
    NotIdempotent,
}

/// Compares two recipes. Instructions whose index is in `touched` may differ in their arguments.
///
/// # Errors
/// What differs.
pub fn same(old: &Parsed, new: &Parsed, touched: &BTreeSet<usize>) -> Result<(), Refusal> {
    let kinds =
        |parsed: &Parsed| parsed.errors.iter().map(|error| error.kind.to_string()).collect::<Vec<_>>();
    if new.errors.len() > old.errors.len()
        || (new.errors.len() == old.errors.len() && kinds(old) != kinds(new))
    {
        return Err(Refusal::Errors);
    }
    let directives = |parsed: &Parsed| {
        let directives = &parsed.recipe.directives;
        let value = |word: &Option<dockerfile::Word>| word.as_ref().map(|word| word.value.clone());
        (value(&directives.syntax), value(&directives.check), directives.escape)
    };
    if directives(old) != directives(new) {
        return Err(Refusal::Directives);
    }
    if old.statements.len() != new.statements.len() {
        return Err(Refusal::Count { old: old.statements.len(), new: new.statements.len() });
    }
    for (index, (before, after)) in old.statements.iter().zip(&new.statements).enumerate() {
        let line = before.lines.first;
        if suppress::options_above(before) != suppress::options_above(after) {
            return Err(Refusal::Comments);
        }
        if touched.contains(&index) {
            if breaks_shell(old, new, before, after) {
                return Err(Refusal::Shell { line });
            }
            if changes_pairs(old, before, after) {
                return Err(Refusal::Changed { line });
            }
        } else if !equal(before, after) {
            return Err(Refusal::Changed { line });
        }
    }
    match comments(old) == comments(new) {
        true => Ok(()),
        false => Err(Refusal::Comments),
    }
}

/// Whether the names or values of an ENV or LABEL would be others, whichever way they are written.
fn changes_pairs(old: &Parsed, before: &Statement, after: &Statement) -> bool {
    let is_pairs = |statement: &Statement| {
        ["ENV", "LABEL"].iter().any(|name| statement.keyword.value.eq_ignore_ascii_case(name))
    };
    if !is_pairs(before) || !is_pairs(after) {
        return false;
    }
    let lexer = Lexer { unset: Unset::Keep, ..Lexer::new(old.recipe.directives.escape.as_char()) };
    let values = |statement: &Statement| -> Vec<Option<String>> {
        let words = statement.args.chunks(3).flat_map(|pair| pair.iter().take(2));
        words
            .map(|word| lexer.expand(&word.value, &NoVariables).ok().map(|expansion| expansion.text))
            .collect()
    };
    values(before) != values(after)
}

/// Whether two statements say the same to a builder.
fn equal(a: &Statement, b: &Statement) -> bool {
    let words = |words: &[dockerfile::Word]| words.iter().map(|word| word.value.clone()).collect::<Vec<_>>();
    let heredocs = |statement: &Statement| {
        let list = statement.heredocs.iter();
        list.map(|heredoc| {
            (heredoc.name.clone(), heredoc.fd, heredoc.expand, heredoc.chomp, heredoc.body.clone())
        })
        .collect::<Vec<_>>()
    };
    let subs = match (&a.sub, &b.sub) {
        (Some(a), Some(b)) => equal(a, b),
        (None, None) => true,
        _ => false,
    };
    a.keyword.value.eq_ignore_ascii_case(&b.keyword.value)
        && words(&a.flags) == words(&b.flags)
        && words(&a.args) == words(&b.args)
        && a.json == b.json
        && heredocs(a) == heredocs(b)
        && subs
}

/// All comments in order of the text, without `#` and outer blanks.
fn comments(parsed: &Parsed) -> Vec<&str> {
    let text = parsed.source.text();
    let tokens = parsed.tree.tokens().iter().filter(|token| token.kind == TokenKind::Comment);
    tokens
        .filter_map(|token| text.get(token.range.as_usize()))
        .map(|text| text.trim_start_matches('#').trim())
        .collect()
}

fn breaks_shell(old: &Parsed, new: &Parsed, before: &Statement, after: &Statement) -> bool {
    let script = |parsed: &Parsed, statement: &Statement| {
        let mut nodes = parsed.recipe.stages.iter().flat_map(|stage| &stage.instructions);
        let node = nodes.find(|node| node.lines.first == statement.lines.first)?;
        match &node.node {
            Instruction::Run(run) => match run.script() {
                dockerfile::Script::Shell(text) => Some(crate::shell::parser::parse(&text).error.is_some()),
                _ => None,
            },
            _ => None,
        }
    };
    script(old, before) == Some(false) && script(new, after) == Some(true)
}
