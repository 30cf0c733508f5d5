//! SC3060: POSIX sh has no replacement in expansions.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "posix-replace",
    aliases: &["SC3060"],
    group: Group::Shell,
    severity: Severity::Warning,
    default: Default::On,
    summary: "POSIX sh has no replacement in expansions",
    why: "`${x/a/b}` is an error in dash. Set SHELL to bash, or use sed.",
    bad: r#"FROM debian:12
RUN x=a.b && echo "${x/./-}"
"#,
    good: r#"FROM debian:12
SHELL ["/bin/bash", "-c"]
RUN x=a.b && echo "${x/./-}"
"#,
    check,
};

use crate::shell::ast::{self, PartKind, Visitor};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (_, _, script) in cx.runs().filter(|(_, _, script)| script.kind.is_strict()) {
        let mut walk = Walk(Vec::new());
        script.visit(&mut walk);
        for span in walk.0 {
            out.report(script.range(span), "sh has no ${x/a/b}");
        }
    }
}

struct Walk(Vec<ast::Span>);

impl Visitor for Walk {
    fn word(&mut self, word: &ast::Word) {
        for (part, _) in crate::shell::parts(word) {
            if matches!(&part.kind, PartKind::Param(param) if param.rest.starts_with('/')) {
                self.0.push(part.span);
            }
        }
    }
}
