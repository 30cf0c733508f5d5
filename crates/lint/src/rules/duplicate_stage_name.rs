//! Stage names should be unique.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "DuplicateStageName",
    aliases: &["DL3024"],
    group: Group::Buildkit,
    severity: Severity::Error,
    default: Default::On,
    summary: "Stage names should be unique",
    why: "Later stages hide earlier ones of the same name, so that COPY --from takes files from the wrong one.",
    bad: r#"FROM alpine:3.20 AS build
FROM alpine:3.20 AS build
"#,
    good: r#"FROM alpine:3.20 AS build
FROM alpine:3.20 AS test
"#,
    check,
};

fn check(_: &Context<'_>, out: &mut Sink<'_>) {
    out.events(Check::DuplicateStageName);
}
