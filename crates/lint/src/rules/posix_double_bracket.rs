//! SC3010: POSIX sh has no [[ ]].

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "posix-double-bracket",
    aliases: &["SC3010"],
    group: Group::Shell,
    severity: Severity::Warning,
    default: Default::On,
    summary: "POSIX sh has no [[ ]]",
    why: "dash takes it for a command. Use [ ], or set SHELL to bash.",
    bad: r#"FROM debian:12
RUN [[ -f /a ]] && cat /a
"#,
    good: r#"FROM debian:12
RUN [ -f /a ] && cat /a
"#,
    check,
};

use crate::shell::ast::{self, Visitor};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (_, _, script) in cx.runs().filter(|(_, _, script)| script.kind.is_strict()) {
        let mut walk = Walk(Vec::new());
        script.visit(&mut walk);
        for span in walk.0 {
            out.report(script.range(span), "sh has no [[ ]]");
        }
    }
}

struct Walk(Vec<ast::Span>);

impl Visitor for Walk {
    fn command(&mut self, command: &ast::Command) {
        if let ast::Command::Test(_, span) = command {
            self.0.push(*span);
        }
    }
}
