//! One look for all recipes.
//!
//! Instructions are in capitals with one blank behind; arguments that are mere words are separated by one
//! blank and continued with four; blanks at the end of lines and blank lines inside of instructions go; of
//! blank lines in a row one stays; the file ends with one newline. Shell text, quoted text, heredocs and
//! comments keep every character that could matter. The result passes [`crate::gate`] or is not given.

use crate::gate::{self, Refusal};
use diagnostic::SourceFile;
use dockerfile::syntax::{Item, ItemKind, Token, TokenKind};
use dockerfile::{Form, Parsed, Spec};
use std::collections::BTreeSet;

/// A formatted recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formatted {
    /// The text.
    pub text: String,
    /// First lines of instructions that were left alone because they would have changed.
    pub kept: Vec<u32>,
}

/// Formats a recipe.
///
/// # Errors
/// The recipe has errors, is not UTF-8, or the result would not pass the gate.
pub fn format(parsed: &Parsed) -> Result<Formatted, Refusal> {
    if !parsed.source.is_utf8() {
        return Err(Refusal::NotUtf8);
    }
    if parsed.has_errors() {
        return Err(Refusal::Errors);
    }
    let mut skip = BTreeSet::new();
    let mut text = print(parsed, &skip);
    if proven(parsed, &text).is_err() {
        // Leave alone what can't be formatted.
        for (index, item) in parsed.tree.items().iter().enumerate() {
            if !matches!(item.kind, ItemKind::Blank) {
                let all: BTreeSet<usize> =
                    (0..parsed.tree.items().len()).filter(|other| *other != index).collect();
                if proven(parsed, &print(parsed, &all)).is_err() {
                    skip.insert(index);
                }
            }
        }
        text = print(parsed, &skip);
        proven(parsed, &text)?;
    }
    let items = parsed.tree.items();
    let kept = skip
        .iter()
        .filter_map(|index| items.get(*index))
        .map(|item| parsed.source.line_of(item.range.start))
        .collect();
    Ok(Formatted { text, kept })
}

fn proven(parsed: &Parsed, text: &str) -> Result<(), Refusal> {
    let next = dockerfile::parse(SourceFile::new(parsed.source.name(), text));
    gate::same(parsed, &next, &BTreeSet::new())?;
    // An item that was left alone stays as it is the second time too.
    match print(&next, &BTreeSet::new()) == text || print(parsed, &all_items(parsed)) == text {
        true => Ok(()),
        false => {
            let again =
                dockerfile::parse(SourceFile::new(parsed.source.name(), print(&next, &BTreeSet::new())));
            match gate::same(&next, &again, &BTreeSet::new()) {
                Ok(()) => Err(Refusal::NotIdempotent),
                // What would change it again is refused again, so that it stays.
                Err(_) => Ok(()),
            }
        }
    }
}

fn all_items(parsed: &Parsed) -> BTreeSet<usize> {
    (0..parsed.tree.items().len()).collect()
}

fn print(parsed: &Parsed, skip: &BTreeSet<usize>) -> String {
    let text = parsed.source.text();
    let newline =
        if text.contains("\r\n") && !text.replace("\r\n", "").contains('\n') { "\r\n" } else { "\n" };
    let mut out = String::with_capacity(text.len());
    let mut blank = false;
    for (index, item) in parsed.tree.items().iter().enumerate() {
        let raw = text.get(item.range.as_usize()).unwrap_or_default();
        match item.kind {
            ItemKind::Blank => {
                blank = true;
                continue;
            }
            _ if blank => {
                // At the start a blank line can keep a comment from being a directive.
                if !out.is_empty() || matches!(item.kind, ItemKind::Comment) {
                    out.push_str(newline);
                }
                blank = false;
            }
            _ => {}
        }
        match item.kind {
            _ if skip.contains(&index) => out.push_str(raw),
            ItemKind::Comment => {
                let comment = raw.trim_end();
                // Blanks in front keep `check=` from being read; such a comment stays as it is.
                let bare = comment.trim_start();
                out.push_str(if bare.contains("check") { comment } else { bare });
                out.push_str(newline);
            }
            ItemKind::Instruction(number) => {
                let form = parsed
                    .statements
                    .get(number as usize)
                    .and_then(|node| Spec::find(&node.keyword.value))
                    .map(|spec| spec.form);
                instruction(parsed, item, form, newline, &mut out);
            }
            ItemKind::Directive => {
                out.push_str(raw.trim_end());
                out.push_str(newline);
            }
            _ => out.push_str(raw),
        }
        if !out.is_empty() && !out.ends_with('\n') && !matches!(item.kind, ItemKind::Bom | ItemKind::Unread) {
            out.push_str(newline);
        }
    }
    out
}

fn instruction(parsed: &Parsed, item: &Item, form: Option<Form>, newline: &str, out: &mut String) {
    let text = parsed.source.text();
    let slice = |token: &Token| text.get(token.range.as_usize()).unwrap_or_default();
    let tokens = parsed.tree.tokens_of(item);
    let ItemKind::Instruction(number) = item.kind else { return };
    let Some(statement) = parsed.statements.get(number as usize) else { return };
    let raw = text.get(item.range.as_usize()).unwrap_or_default();
    let plain = !raw.contains(['"', '\'', '`']) && !statement.json;
    let loose = match form {
        Some(Form::Words | Form::List | Form::Names) => plain,
        Some(Form::Pairs) => plain && statement.args.get(2).is_some_and(|sign| sign.value == "="),
        _ => false,
    };
    // Flags may always be moved.
    let args_start = statement.flags.last().map_or(statement.keyword.range.end, |flag| flag.range.end);
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    let mut continued = false;
    for token in tokens {
        let piece = slice(token);
        let free = loose || token.range.end <= args_start;
        match token.kind {
            TokenKind::Keyword => line.push_str(&piece.to_ascii_uppercase()),
            TokenKind::Blank => {
                let at_start = line.is_empty();
                let after_keyword = token.range.start == statement.keyword.range.end;
                let before_args = token.range.start == args_start;
                if at_start && !continued {
                    // Indentation of the first line.
                } else if at_start {
                    line.push_str(if free { "    " } else { piece });
                } else if free || after_keyword || before_args {
                    line.push(' ');
                } else {
                    line.push_str(piece);
                }
            }
            TokenKind::Continuation => {
                if (loose || token.range.start < args_start) && !line.trim().is_empty() {
                    line.truncate(line.trim_end().len());
                    line.push(' ');
                }
                line.push_str(piece.trim_end());
                continued = true;
            }
            TokenKind::Newline => {
                let is_body = token.range.start >= heredoc_start(statement);
                if is_body || !line.trim().is_empty() {
                    if !is_body && !line.is_empty() {
                        line.truncate(line.trim_end().len());
                    }
                    lines.push(std::mem::take(&mut line));
                }
                line.clear();
                // A word at the start of a continued line of mere words is indented.
                continue;
            }
            TokenKind::Comment => {
                if line.trim().is_empty() && loose {
                    line = "    ".to_owned();
                }
                line.push_str(piece.trim_end());
            }
            TokenKind::HeredocBody => {
                line.push_str(piece);
                // The body has its own line endings.
                if let Some(body) = line.strip_suffix('\n') {
                    let body = body.strip_suffix('\r').unwrap_or(body).to_owned();
                    lines.push(body);
                    line.clear();
                }
            }
            _ => {
                if line.is_empty() && continued && loose && !matches!(token.kind, TokenKind::HeredocEnd) {
                    line.push_str("    ");
                }
                line.push_str(piece);
            }
        }
    }
    if !line.trim().is_empty() {
        line.truncate(line.trim_end().len());
        lines.push(line);
    }
    for line in &lines {
        out.push_str(line);
        out.push_str(newline);
    }
}

/// Where the first heredoc's lines start; behind everything where there is none.
fn heredoc_start(statement: &dockerfile::syntax::Statement) -> u32 {
    statement.heredocs.first().map_or(u32::MAX, |heredoc| heredoc.body_range.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(text: &str) -> String {
        let parsed = dockerfile::parse(SourceFile::new("Dockerfile", text));
        format(&parsed).map(|formatted| formatted.text).unwrap_or_else(|refusal| refusal.to_string())
    }

    #[test]
    fn looks() {
        assert_eq!(formatted("\n\nfrom   a  as b  \n\n\n\nrun  x  y \n"), "FROM a as b\n\nRUN x  y\n");
        assert_eq!(formatted("FROM a\nENV A=1 \\\n\n  # c\nB=2\n"), "FROM a\nENV A=1 \\\n    # c\n    B=2\n");
        assert_eq!(
            formatted("FROM a\nRUN a && \\   \n\n   b   \\\n\tc"),
            "FROM a\nRUN a && \\\n   b   \\\n\tc\n"
        );
        assert_eq!(
            formatted("FROM a\nCOPY  a   b\nCOPY \"a  b\"   c\n"),
            "FROM a\nCOPY a b\nCOPY \"a  b\"   c\n"
        );
        assert_eq!(formatted("FROM a\nRUN <<E\n a  \n\n  b\nE\n\n"), "FROM a\nRUN <<E\n a  \n\n  b\nE\n");
        assert_eq!(formatted("\n# escape=`\nFROM a\n"), "\n# escape=`\nFROM a\n");
    }
}
