//! Stage names should be lowercase.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "StageNameCasing",
    aliases: &[],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Stage names should be lowercase",
    why: "Builders compare stage names without regard to case, but FROM looks for the lowercase name only, so that `FROM Build` finds no stage called `Build`.",
    bad: r#"FROM alpine:3.20 AS Build
"#,
    good: r#"FROM alpine:3.20 AS build
"#,
    check,
};

fn check(_: &Context<'_>, out: &mut Sink<'_>) {
    out.events(Check::StageNameCasing);
}
