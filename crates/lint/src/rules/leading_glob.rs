//! SC2035: Wildcards should start with ./.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "leading-glob",
    aliases: &["SC2035"],
    group: Group::Shell,
    severity: Severity::Info,
    default: Default::On,
    summary: "Wildcards should start with ./",
    why: "A file whose name starts with a dash becomes an option otherwise.",
    bad: r#"FROM alpine:3.20
RUN rm *.tmp
"#,
    good: r#"FROM alpine:3.20
RUN rm ./*.tmp
"#,
    check,
};

use crate::shell::ast::{self, PartKind, Visitor};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (_, _, script) in cx.runs().filter(|(_, _, script)| script.kind.is_posix()) {
        let mut walk = Walk(Vec::new());
        script.visit(&mut walk);
        for span in walk.0 {
            let range = script.range(span);
            let fix =
                Fix::replace("write ./ in front", Applicability::Unsafe, TextRange::empty(range.start), "./");
            out.report(range, "a file name that starts with a dash would become an option").fix(fix);
        }
    }
}

struct Walk(Vec<ast::Span>);

impl Visitor for Walk {
    fn simple(&mut self, simple: &ast::Simple) {
        let name = crate::shell::Call::of(simple).map(|call| call.base().to_owned()).unwrap_or_default();
        if matches!(name.as_str(), "echo" | "printf" | "[") {
            return;
        }
        let ends = |word: &&ast::Word| !matches!(word.bare(), Some("--" | ":::" | "::::"));
        for word in simple.words.iter().skip(1).take_while(ends) {
            if let Some(ast::Part { kind: PartKind::Literal(text), .. }) = word.parts.first()
                && text.starts_with(['*', '?'])
                // An extended glob.
                && text.as_bytes().get(1) != Some(&b'(')
            {
                self.0.push(word.span);
            }
        }
    }
}
