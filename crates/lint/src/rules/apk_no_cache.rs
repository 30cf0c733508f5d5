//! DL3019: apk add should have --no-cache.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "apk-no-cache",
    aliases: &["DL3019"],
    group: Group::Hadolint,
    severity: Severity::Info,
    default: Default::On,
    summary: "apk add should have --no-cache",
    why: "It fetches fresh lists and keeps none, so that no `--update` and no deleting is needed.",
    bad: r#"FROM alpine:3.20
RUN apk add curl=8.9.1-r2
"#,
    good: r#"FROM alpine:3.20
RUN apk add --no-cache curl=8.9.1-r2
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    super::shared::report_missing_flag(
        cx,
        out,
        "apk add keeps its lists",
        (&["add"], "--no-cache"),
        |node, call| {
            call.is("apk", &["add"]) && !call.flag(&["no-cache"]) && !node.has_cache_at("/var/cache/apk")
        },
    );
}
