//! FROM should use declared ARGs only.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "UndefinedArgInFrom",
    aliases: &[],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "FROM should use declared ARGs only",
    why: "Only ARGs before the first FROM, and the predefined ones, can be used in FROM. Others are empty.",
    bad: r#"FROM alpine:3.20${SUFFIX}
"#,
    good: r#"ARG SUFFIX
FROM alpine:3.20${SUFFIX}
"#,
    check,
};

fn check(_: &Context<'_>, out: &mut Sink<'_>) {
    out.events(Check::UndefinedArgInFrom);
}
