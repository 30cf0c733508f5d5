//! DL3063: Reserved words should not name stages.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "ReservedStageName",
    aliases: &["DL3063"],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Reserved words should not name stages",
    why: "`scratch` is the empty image and `context` the folder of the build; a stage of that name can't be told from them.",
    bad: r#"FROM alpine:3.20 AS scratch
"#,
    good: r#"FROM alpine:3.20 AS base
"#,
    check,
};

fn check(_: &Context<'_>, out: &mut Sink<'_>) {
    out.events(Check::ReservedStageName);
}
