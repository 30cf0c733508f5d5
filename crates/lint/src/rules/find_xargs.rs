//! SC2038: find and xargs should pass names with -print0 and -0.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "find-xargs",
    aliases: &["SC2038"],
    group: Group::Shell,
    severity: Severity::Warning,
    default: Default::On,
    summary: "find and xargs should pass names with -print0 and -0",
    why: "Names with blanks and quotes are taken apart otherwise.",
    bad: r#"FROM debian:12
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN find /a -name b | xargs rm
"#,
    good: r#"FROM debian:12
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN find /a -name b -print0 | xargs -0 rm
"#,
    check,
};

use crate::shell::ast::{self, Visitor};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (_, _, script) in cx.runs().filter(|(_, _, script)| script.kind.is_posix()) {
        let mut walk = Walk(Vec::new());
        script.visit(&mut walk);
        for span in walk.0 {
            out.report(script.range(span), "names with blanks are taken apart: use -print0 and -0");
        }
    }
}

struct Walk(Vec<ast::Span>);

impl Visitor for Walk {
    fn pipeline(&mut self, commands: &[ast::Command]) {
        for pair in commands.windows(2) {
            let [ast::Command::Simple(find), ast::Command::Simple(xargs)] = pair else { continue };
            let words = |simple: &ast::Simple| simple.words.iter().map(ast::Word::text).collect::<Vec<_>>();
            let (find_words, xargs_words) = (words(find), words(xargs));
            let named = |words: &[String], name: &str| words.first().is_some_and(|first| first == name);
            let prints =
                find_words.iter().any(|word| matches!(word.as_str(), "-print0" | "-printf" | "-fprint0"));
            let zero = xargs_words.iter().any(|word| {
                word == "--null" || (word.starts_with('-') && !word.starts_with("--") && word.contains('0'))
            });
            if named(&find_words, "find") && named(&xargs_words, "xargs") && !prints && !zero {
                self.0.push(find.span);
            }
        }
    }
}
