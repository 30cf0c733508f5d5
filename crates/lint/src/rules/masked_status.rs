//! SC2155: declare and assign separately.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "masked-status",
    aliases: &["SC2155"],
    group: Group::Shell,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Declare and assign separately",
    why: "`export x=$(…)` always succeeds, whatever the substitution does.",
    bad: r#"FROM debian:12
RUN export V="$(cat /version)" && echo "$V"
"#,
    good: r#"FROM debian:12
RUN V="$(cat /version)" && export V && echo "$V"
"#,
    check,
};

use crate::shell::ast::{self, PartKind, Visitor};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (_, _, script) in cx.runs().filter(|(_, _, script)| script.kind.is_posix()) {
        let mut walk = Walk(Vec::new());
        script.visit(&mut walk);
        for span in walk.0 {
            out.report(
                script.range(span),
                "the status of the substitution is lost: assign first, then declare",
            );
        }
    }
}

struct Walk(Vec<ast::Span>);

impl Visitor for Walk {
    fn simple(&mut self, simple: &ast::Simple) {
        let name = simple.words.first().and_then(ast::Word::bare).unwrap_or_default();
        if !matches!(name, "export" | "declare" | "local" | "readonly" | "typeset") {
            return;
        }
        for word in simple.words.iter().skip(1) {
            let assigns = word.text().split_once('=').is_some_and(|(name, _)| {
                !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
            });
            let runs = crate::shell::parts(word)
                .iter()
                .any(|(part, _)| matches!(part.kind, PartKind::Command { .. }));
            if assigns && runs {
                self.0.push(word.span);
            }
        }
    }
}
