//! SC3020: POSIX sh has no &>.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "posix-ampersand-redirect",
    aliases: &["SC3020"],
    group: Group::Shell,
    severity: Severity::Warning,
    default: Default::On,
    summary: "POSIX sh has no &>",
    why: "dash runs the command in the background and empties the file. Write `>file 2>&1`.",
    bad: r#"FROM debian:12
RUN make &>/log
"#,
    good: r#"FROM debian:12
RUN make >/log 2>&1
"#,
    check,
};

use crate::shell::ast::{self, Visitor};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (_, _, script) in cx.runs().filter(|(_, _, script)| script.kind.is_strict()) {
        let mut walk = Walk(Vec::new());
        script.visit(&mut walk);
        for span in walk.0 {
            out.report(script.range(span), "sh has no &>");
        }
    }
}

struct Walk(Vec<ast::Span>);

impl Visitor for Walk {
    fn simple(&mut self, simple: &ast::Simple) {
        self.0.extend(
            simple
                .redirects
                .iter()
                .filter(|redirect| redirect.op.starts_with('&'))
                .map(|redirect| redirect.span),
        );
    }
}
