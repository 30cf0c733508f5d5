//! SC2006: $(…) should be used instead of backticks.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "backticks",
    aliases: &["SC2006"],
    group: Group::Shell,
    severity: Severity::Style,
    default: Default::On,
    summary: "$(…) should be used instead of backticks",
    why: "Backticks can't be nested without escapes and are easy to overlook.",
    bad: r#"FROM alpine:3.20
RUN x=`cat a`
"#,
    good: r#"FROM alpine:3.20
RUN x=$(cat a)
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
            let finding = out.report(range, "use $(…) instead of backticks");
            let text = &script.mapped.text[span.start as usize..span.end as usize];
            let inner = text.trim_matches('`');
            let ends = cx.source().slice(TextRange::new(range.start, range.start + 1)) == "`"
                && cx.source().slice(TextRange::new(range.end - 1, range.end)) == "`";
            if ends && text.len() > 2 && !inner.contains(['\\', '`', '#']) && !inner.starts_with('(') {
                let open =
                    Edit { range: TextRange::new(range.start, range.start + 1), replacement: "$(".into() };
                let close = Edit { range: TextRange::new(range.end - 1, range.end), replacement: ")".into() };
                let title = "use $(…)".to_owned();
                // Quotes inside may belong to the text around.
                let applicability =
                    if inner.contains('"') { Applicability::Unsafe } else { Applicability::Safe };
                finding.fix(Fix { title, applicability, edits: vec![open, close] });
            }
        }
    }
}

struct Walk(Vec<ast::Span>);

impl Visitor for Walk {
    fn word(&mut self, word: &ast::Word) {
        for (part, _) in crate::shell::parts(word) {
            if matches!(&part.kind, PartKind::Command { backtick: true, list } if !list.items.is_empty()) {
                self.0.push(part.span);
            }
        }
    }
}
