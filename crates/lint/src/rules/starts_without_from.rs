//! DL3061: Only ARG may stand before the first FROM.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "starts-without-from",
    aliases: &["DL3061"],
    group: Group::Hadolint,
    severity: Severity::Error,
    default: Default::On,
    summary: "Only ARG may stand before the first FROM",
    why: "Anything else has no image to work on; builders refuse it.",
    bad: r#"RUN a
FROM alpine:3.20
"#,
    good: r#"FROM alpine:3.20
RUN a
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for statement in &cx.parsed.statements {
        match statement.keyword.value.to_ascii_uppercase().as_str() {
            "FROM" => return,
            "ARG" => {}
            keyword if dockerfile::Spec::find(keyword).is_some() => {
                out.report(statement.keyword.range, format!("{keyword} stands before the first FROM"));
            }
            _ => {}
        }
    }
}
