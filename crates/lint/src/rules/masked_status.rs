//! SC2155: Declare and assign separately.

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
        let mut walk = Walk::default();
        script.visit(&mut walk);
        for (_, span) in walk.found.iter().filter(|(command, _)| !walk.constants.contains(command)) {
            out.report(
                script.range(*span),
                "the status of the substitution is lost: assign first, then declare",
            );
        }
    }
}

#[derive(Default)]
struct Walk {
    /// Commands that declare constants of a function, which can't be declared before they are set.
    constants: Vec<ast::Span>,
    /// The command and its assignment.
    found: Vec<(ast::Span, ast::Span)>,
}

impl Visitor for Walk {
    fn command(&mut self, command: &ast::Command) {
        if let ast::Command::Function(_, body) = command {
            let mut constants = Constants(Vec::new());
            body.visit(&mut constants);
            self.constants.extend(constants.0);
        }
    }

    fn simple(&mut self, simple: &ast::Simple) {
        if !crate::shell::declares(simple) {
            return;
        }
        for word in simple.words.iter().skip(1) {
            let runs = crate::shell::parts(word)
                .iter()
                .any(|(part, _)| matches!(part.kind, PartKind::Command { .. }));
            if crate::shell::is_assignment(word) && runs {
                self.found.push((simple.span, word.span));
            }
        }
    }
}

struct Constants(Vec<ast::Span>);

impl Visitor for Constants {
    fn simple(&mut self, simple: &ast::Simple) {
        let constant =
            |word: &ast::Word| word.bare().is_some_and(|flags| flags.starts_with('-') && flags.contains('r'));
        if crate::shell::declares(simple) && simple.words.iter().any(constant) {
            self.0.push(simple.span);
        }
    }
}
