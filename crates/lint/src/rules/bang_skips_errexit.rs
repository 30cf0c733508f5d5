//! SC2251: A command with ! in front never stops the script.

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

use crate::shell::ast::{self, Command as Shell};

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
        let mut found = Vec::new();
        list(&script.tree.list, Last::IsResult, &mut found);
        for span in found {
            out.report(script.range(span), "this ! keeps the command from stopping the script");
        }
    }
}

/// What the last command of a list is for.
#[derive(Clone, Copy, PartialEq)]
enum Last {
    /// Its status is that of the list: `!` is meant.
    IsResult,
    /// As the others.
    IsNothing,
}

fn list(list: &ast::List, last: Last, found: &mut Vec<ast::Span>) {
    for (at, (item, _)) in list.items.iter().enumerate() {
        if let Shell::Not(_, span) = item
            && (last == Last::IsNothing || at + 1 < list.items.len())
        {
            // The span is of all that is negated; the place is its `!`.
            found.push(ast::Span { end: span.start + 1, ..*span });
        }
        command(item, found);
    }
}

fn command(item: &Shell, found: &mut Vec<ast::Span>) {
    match item {
        Shell::Block(body, _) => list(body, Last::IsNothing, found),
        Shell::Subshell(body, _) => list(body, Last::IsResult, found),
        Shell::Loop(condition, body) => {
            list(condition, Last::IsResult, found);
            list(body, Last::IsNothing, found);
        }
        Shell::For { body, .. } => list(body, Last::IsNothing, found),
        Shell::If(arms, otherwise) => {
            for (test, body) in arms {
                condition(test, found);
                list(body, Last::IsNothing, found);
            }
            otherwise.iter().for_each(|body| list(body, Last::IsNothing, found));
        }
        // What `case` runs may be its result.
        Shell::Case(_, arms) => {
            arms.iter().flat_map(|arm| &arm.body.items).for_each(|(item, _)| command(item, found))
        }
        Shell::Function(_, body) => match body.as_ref() {
            Shell::Block(body, _) => list(body, Last::IsResult, found),
            body => command(body, found),
        },
        Shell::Pipeline(commands) => commands.iter().for_each(|item| command(item, found)),
        Shell::Not(inner, _) => command(inner, found),
        Shell::AndOr(first, rest) => {
            command(first, found);
            rest.iter().for_each(|(_, item)| command(item, found));
        }
        Shell::Simple(_) | Shell::Test(..) | Shell::Arith(_) => {}
    }
}

/// As [`list`], where the last command decides, also the last one of `{ …; }`.
fn condition(test: &ast::List, found: &mut Vec<ast::Span>) {
    match test.items.split_last() {
        Some(((Shell::Block(body, _), _), before)) => {
            before.iter().for_each(|(item, _)| command(item, found));
            list(body, Last::IsResult, found);
        }
        _ => list(test, Last::IsResult, found),
    }
}
