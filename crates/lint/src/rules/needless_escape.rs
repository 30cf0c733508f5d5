//! SC1001: This escape does nothing.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "needless-escape",
    aliases: &["SC1001"],
    group: Group::Shell,
    severity: Severity::Info,
    default: Default::On,
    summary: "This escape does nothing",
    why: "Outside of quotes a backslash takes the meaning from characters that have one; in front of others it vanishes.",
    bad: r#"FROM alpine:3.20
RUN echo \x41
"#,
    good: r#"FROM alpine:3.20
RUN echo x41
"#,
    check,
};

use crate::shell::ast::{self, PartKind, Visitor};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (_, _, script) in cx.runs().filter(|(_, _, script)| script.kind.is_posix()) {
        let mut walk = Walk { name: None, found: Vec::new() };
        script.visit(&mut walk);
        for (span, c) in walk.found {
            out.report(script.range(span), format!("the backslash in front of {c:?} does nothing"));
        }
    }
}

struct Walk {
    /// Where the name of the command at hand starts.
    name: Option<u32>,
    found: Vec<(ast::Span, char)>,
}

impl Visitor for Walk {
    fn simple(&mut self, simple: &ast::Simple) {
        // `\ls` is how to get around an alias.
        self.name = simple.words.first().map(|word| word.span.start);
    }

    fn word(&mut self, word: &ast::Word) {
        for part in &word.parts {
            if let PartKind::Escaped(c) = &part.kind
                && self.name != Some(part.span.start)
                && !"|&;<>()\\ '\t\r\u{a0}\"$`?*@!+[]{}.,~#ntr\n".contains(*c)
            {
                self.found.push((part.span, *c));
            }
        }
    }
}
