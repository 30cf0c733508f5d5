//! CMD, ENTRYPOINT and HEALTHCHECK should be given once in a stage.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "MultipleInstructionsDisallowed",
    aliases: &[],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "CMD, ENTRYPOINT and HEALTHCHECK should be given once in a stage",
    why: "Only the last one counts; the others do nothing.",
    bad: r#"FROM alpine:3.20
ENTRYPOINT ["a"]
ENTRYPOINT ["b"]
"#,
    good: r#"FROM alpine:3.20
ENTRYPOINT ["b"]
"#,
    check,
};

fn check(_: &Context<'_>, out: &mut Sink<'_>) {
    out.events(Check::MultipleInstructionsDisallowed);
}
