//! A comment silences nothing.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "unused-suppression",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Info,
    default: Default::On,
    summary: "A comment silences nothing",
    why: "The fault it was for is gone, or the name of the rule is wrong.",
    bad: r#"# hadolint ignore=DL3006
FROM alpine:3.20
"#,
    good: r#"# hadolint ignore=DL3006
FROM alpine
"#,
    check,
};

fn check(_: &Context<'_>, _: &mut Sink<'_>) {
    // Known only once all other rules have run: crate::suppress reports it.
}
