//! DL3065: --platform=$TARGETPLATFORM is the default.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "redundant-platform",
    aliases: &["DL3065"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::Off,
    summary: "--platform=$TARGETPLATFORM is the default",
    why: "RedundantTargetPlatform says the same; this one looks at the text alone.",
    bad: r#"FROM --platform=$TARGETPLATFORM alpine:3.20
"#,
    good: r#"FROM alpine:3.20
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (_, from) in cx.froms() {
        if let Some(platform) = from
            .node
            .platform
            .as_ref()
            .filter(|word| ["$TARGETPLATFORM", "${TARGETPLATFORM}"].contains(&word.as_str()))
        {
            out.report(platform.range, "this platform is the default");
        }
    }
}
