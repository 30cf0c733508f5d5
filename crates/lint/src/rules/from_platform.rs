//! DL3029: FROM should not set --platform.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "from-platform",
    aliases: &["DL3029"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::Off,
    summary: "FROM should not set --platform",
    why: "A fixed platform keeps the recipe from being built for another one. FromPlatformFlagConstDisallowed says the same where it is certain.",
    bad: r#"FROM --platform=linux/amd64 alpine:3.20
"#,
    good: r#"FROM --platform=$BUILDPLATFORM alpine:3.20
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (_, from) in cx.froms() {
        let Some(platform) = &from.node.platform else { continue };
        if !platform.value.contains("BUILDPLATFORM") && !platform.value.contains("TARGETPLATFORM") {
            out.report(platform.range, format!("--platform={} is fixed", platform.value));
        }
    }
}
