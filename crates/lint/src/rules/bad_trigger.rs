//! DL3043: ONBUILD can't trigger ONBUILD, FROM or MAINTAINER.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "bad-trigger",
    aliases: &["DL3043"],
    group: Group::Hadolint,
    severity: Severity::Error,
    default: Default::On,
    summary: "ONBUILD can't trigger ONBUILD, FROM or MAINTAINER",
    why: "Builders refuse it.",
    bad: r#"FROM alpine:3.20
ONBUILD MAINTAINER a
"#,
    good: r#"FROM alpine:3.20
ONBUILD LABEL authors=a
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for sub in cx.parsed.statements.iter().filter_map(|statement| statement.sub.as_ref()) {
        let keyword = sub.keyword.value.to_ascii_uppercase();
        if ["ONBUILD", "FROM", "MAINTAINER"].contains(&keyword.as_str()) {
            out.report(sub.keyword.range, format!("ONBUILD can't trigger {keyword}"));
        }
    }
}
