//! SC3009: pOSIX sh has no brace expansion.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "posix-braces",
    aliases: &["SC3009"],
    group: Group::Shell,
    severity: Severity::Warning,
    default: Default::On,
    summary: "POSIX sh has no brace expansion",
    why: "In dash `{a,b}` is plain text. Set SHELL to bash, or write the words out.",
    bad: r#"FROM debian:12
RUN mkdir -p /a/{b,c}
"#,
    good: r#"FROM debian:12
RUN mkdir -p /a/b /a/c
"#,
    check,
};

use crate::shell::ast::{self, PartKind, Visitor};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (_, _, script) in cx.runs().filter(|(_, _, script)| script.kind.is_strict()) {
        let mut walk = Walk(Vec::new());
        script.visit(&mut walk);
        for span in walk.0 {
            out.report(script.range(span), "sh has no brace expansion");
        }
    }
}

struct Walk(Vec<ast::Span>);

/// Whether a word's unquoted text has `{…,…}` or `{a..b}`.
fn has_braces(word: &ast::Word) -> bool {
    let (mut depth, mut comma, mut dots) = (0usize, false, false);
    for part in &word.parts {
        let PartKind::Literal(text) = &part.kind else { continue };
        let bytes = text.as_bytes();
        for (at, c) in bytes.iter().enumerate() {
            match c {
                b'{' => {
                    if depth == 0 {
                        (comma, dots) = (false, false);
                    }
                    depth += 1;
                }
                b'}' if depth > 0 => {
                    depth -= 1;
                    if comma || dots {
                        return true;
                    }
                }
                b',' if depth > 0 => comma = true,
                b'.' if depth > 0 && bytes.get(at + 1) == Some(&b'.') => dots = true,
                _ => {}
            }
        }
    }
    false
}

impl Visitor for Walk {
    fn simple(&mut self, simple: &ast::Simple) {
        self.0.extend(simple.words.iter().filter(|word| has_braces(word)).map(|word| word.span));
    }

    fn command(&mut self, command: &ast::Command) {
        if let ast::Command::For { words: Some(words), .. } = command {
            self.0.extend(words.iter().filter(|word| has_braces(word)).map(|word| word.span));
        }
    }
}
