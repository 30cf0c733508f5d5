//! SC2251: a command with ! in front never stops the script.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "bang-skips-errexit",
    aliases: &["SC2251"],
    group: Group::Shell,
    severity: Severity::Info,
    default: Default::On,
    summary: "A command with ! in front never stops the script",
    why: "`set -e` does not look at commands with `!`. Write `if cmd; then exit 1; fi`.",
    bad: r#"FROM alpine:3.20
RUN set -e; ! grep x a; echo b
"#,
    good: r#"FROM alpine:3.20
RUN set -e; if grep x a; then exit 1; fi; echo b
"#,
    check,
};

use crate::shell::ast::{self, Command as Shell, Visitor};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (_, _, script) in cx.runs().filter(|(_, _, script)| script.kind.is_posix()) {
        let stops = script.calls.iter().any(|call| {
            call.name == "set"
                && call.args.iter().any(|arg| {
                    (arg.text.starts_with('-') && !arg.text.starts_with("--") && arg.text.contains('e'))
                        || arg.text == "errexit"
                })
        });
        if !stops {
            continue;
        }
        let mut walk = Walk(Vec::new());
        list(&script.tree.list, &mut walk.0);
        script.visit(&mut walk);
        for span in walk.0 {
            out.report(script.range(span), "this ! keeps the command from stopping the script");
        }
    }
}

struct Walk(Vec<ast::Span>);

fn list(list: &ast::List, found: &mut Vec<ast::Span>) {
    for (command, _) in &list.items {
        match command {
            Shell::Not(_, span) => found.push(*span),
            Shell::AndOr(_, rest) => {
                if let Some((_, Shell::Not(_, span))) = rest.last() {
                    found.push(*span);
                }
            }
            _ => {}
        }
    }
}

impl Visitor for Walk {
    fn command(&mut self, command: &Shell) {
        match command {
            Shell::Block(body, _) | Shell::Loop(_, body) | Shell::For { body, .. } => list(body, &mut self.0),
            Shell::If(arms, otherwise) => {
                arms.iter().for_each(|(_, body)| list(body, &mut self.0));
                otherwise.iter().for_each(|body| list(body, &mut self.0));
            }
            Shell::Case(_, arms) => arms.iter().for_each(|arm| list(&arm.body, &mut self.0)),
            _ => {}
        }
    }
}
