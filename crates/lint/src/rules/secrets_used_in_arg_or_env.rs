//! ARG and ENV should not hold secrets.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "SecretsUsedInArgOrEnv",
    aliases: &[],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "ARG and ENV should not hold secrets",
    why: "Their values stay in the image's configuration and history. Use `RUN --mount=type=secret`.",
    bad: r#"FROM alpine:3.20
ARG API_KEY
"#,
    good: r#"FROM alpine:3.20
RUN --mount=type=secret,id=key,env=API_KEY fetch
"#,
    check,
};

fn check(_: &Context<'_>, out: &mut Sink<'_>) {
    out.events(Check::SecretsUsedInArgOrEnv);
}
