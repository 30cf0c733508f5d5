//! The first WORKDIR of a recipe should be absolute.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "WorkdirRelativePath",
    aliases: &[],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "The first WORKDIR of a recipe should be absolute",
    why: "A relative WORKDIR depends on that of the base image, which may change.",
    bad: r#"FROM alpine:3.20
WORKDIR app
"#,
    good: r#"FROM alpine:3.20
WORKDIR /app
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    out.events_with(Check::WorkdirRelativePath, |event, finding| {
        if cx.platform.os != "windows" && !cx.source().slice(event.range).contains(['$', '"', '\'']) {
            let at = TextRange::empty(event.range.start);
            finding.fix(Fix::replace("make it absolute", Applicability::Unsafe, at, "/"));
        }
    });
}
