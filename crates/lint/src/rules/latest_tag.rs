//! DL3007: The tag latest should not be used.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "latest-tag",
    aliases: &["DL3007"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "The tag latest should not be used",
    why: "It is another image every few weeks, so that builds can't be repeated.",
    bad: r#"FROM alpine:latest
"#,
    good: r#"FROM alpine:3.20
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (_, from) in cx.froms() {
        let parts = super::shared::image_parts(from.node.base.as_str().trim_matches(['"', '\'']));
        if parts.tag == Some("latest") && !parts.digest {
            out.report(from.node.base.range, format!("{}:latest changes with time", parts.name));
        }
    }
}
