//! FROM --platform should not be constant.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "FromPlatformFlagConstDisallowed",
    aliases: &[],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "FROM --platform should not be constant",
    why: "A constant platform keeps the recipe from being built for another one.",
    bad: r#"FROM --platform=linux/amd64 alpine:3.20 AS base
"#,
    good: r#"FROM --platform=$BUILDPLATFORM alpine:3.20 AS base
"#,
    check,
};

fn check(_: &Context<'_>, out: &mut Sink<'_>) {
    out.events(Check::FromPlatformFlagConstDisallowed);
}
