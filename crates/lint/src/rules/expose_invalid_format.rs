//! EXPOSE should not name addresses or host ports.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "ExposeInvalidFormat",
    aliases: &[],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "EXPOSE should not name addresses or host ports",
    why: "EXPOSE tells what the container listens on; what is published is for the one who runs it.",
    bad: r#"FROM alpine:3.20
EXPOSE 8080:80
"#,
    good: r#"FROM alpine:3.20
EXPOSE 80
"#,
    check,
};

fn check(_: &Context<'_>, out: &mut Sink<'_>) {
    out.events(Check::ExposeInvalidFormat);
}
