//! SC2046: Command substitutions should be quoted.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "quote-command",
    aliases: &["SC2046"],
    group: Group::Shell,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Command substitutions should be quoted",
    why: "Without quotes the output is split at blanks and its wildcards are expanded.",
    bad: r#"FROM alpine:3.20
RUN ls /lib/modules/$(uname -r)
"#,
    good: r#"FROM alpine:3.20
RUN ls "/lib/modules/$(uname -r)"
"#,
    check,
};

use crate::shell::Kind;
use crate::shell::ast::{self, PartKind, Visitor};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (_, _, script) in cx.runs().filter(|(_, _, script)| script.kind.is_posix()) {
        let mut walk = Walk { kind: script.kind, found: Vec::new() };
        script.visit(&mut walk);
        for span in walk.found {
            let finding = out.report(script.range(span), "this substitution should be quoted");
            if script.mapped.is_whole(span) {
                let text = cx.source().slice(script.range(span)).to_owned();
                if !text.contains('`') {
                    finding.fix(Fix::replace(
                        "quote it",
                        Applicability::Unsafe,
                        script.range(span),
                        format!("\"{text}\""),
                    ));
                }
            }
        }
    }
}

struct Walk {
    kind: Kind,
    found: Vec<ast::Span>,
}

impl Walk {
    fn look(&mut self, word: &ast::Word) {
        for part in &word.parts {
            let PartKind::Command { list, .. } = &part.kind else { continue };
            let name = match list.items.as_slice() {
                [(ast::Command::Simple(simple), _)] => simple.words.first().and_then(ast::Word::literal),
                _ => None,
            };
            // What is meant to be split.
            if !list.items.is_empty() && !matches!(name.as_deref(), Some("seq" | "pgrep")) {
                self.found.push(part.span);
            }
        }
    }
}

impl Visitor for Walk {
    fn simple(&mut self, simple: &ast::Simple) {
        let declares = crate::shell::declares(simple);
        for word in crate::shell::split_words(simple) {
            if !(declares && crate::shell::is_assignment(word) && !self.kind.is_strict()) {
                self.look(word);
            }
        }
        simple.targets().for_each(|word| self.look(word));
    }

    fn command(&mut self, command: &ast::Command) {
        if matches!(command, ast::Command::Block(..) | ast::Command::Subshell(..)) {
            command.own_words().into_iter().for_each(|word| self.look(word));
        }
    }
}
