//! The defaults of ARGs should make a valid base image.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "InvalidDefaultArgInFrom",
    aliases: &[],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "The defaults of ARGs should make a valid base image",
    why: "A recipe should build without build arguments.",
    bad: r#"ARG tag
FROM alpine:${tag}
"#,
    good: r#"ARG tag=3.20
FROM alpine:${tag}
"#,
    check,
};

fn check(_: &Context<'_>, out: &mut Sink<'_>) {
    out.events(Check::InvalidDefaultArgInFrom);
}
