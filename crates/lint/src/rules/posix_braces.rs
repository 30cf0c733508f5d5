//! SC3009: POSIX sh has no brace expansion.

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

use crate::shell::ast::{self, Visitor};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (_, _, script) in cx.runs().filter(|(_, _, script)| script.kind.is_strict()) {
        let mut walk = Walk { pattern: None, found: Vec::new() };
        script.visit(&mut walk);
        for span in walk.found {
            out.report(script.range(span), "sh has no brace expansion");
        }
    }
}

struct Walk {
    /// The regular expression of `[[ … =~ … ]]`, where braces count repetitions.
    pattern: Option<ast::Span>,
    found: Vec<ast::Span>,
}

impl Visitor for Walk {
    fn word(&mut self, word: &ast::Word) {
        if self.pattern != Some(word.span) {
            self.found.extend(crate::shell::braces(word));
        }
    }

    fn command(&mut self, command: &ast::Command) {
        if let ast::Command::Test(words, _) = command {
            let mut words = words.iter();
            words.find(|word| word.bare() == Some("=~"));
            self.pattern = words.next().map(|word| word.span);
        }
    }
}
