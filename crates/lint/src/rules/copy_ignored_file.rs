//! COPY should not name files that the ignore file leaves out.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "CopyIgnoredFile",
    aliases: &[],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "COPY should not name files that the ignore file leaves out",
    why: "They are not in the context, so that the build fails or copies less than it says.",
    bad: "",
    good: r#"FROM alpine:3.20
"#,
    check,
};

fn check(_: &Context<'_>, out: &mut Sink<'_>) {
    out.events(Check::CopyIgnoredFile);
}
