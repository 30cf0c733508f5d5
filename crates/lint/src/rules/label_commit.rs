//! DL3055: Labels that hold a commit should hold a hash.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "label-commit",
    aliases: &["DL3055"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Labels that hold a commit should hold a hash",
    why: "Looks at the labels that `[lint.labels]` in the configuration gives the type `hash`.",
    bad: "",
    good: r#"FROM alpine:3.20
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    super::shared::report_labels(cx, out, crate::LabelType::Hash, "no git hash", |value| {
        matches!(value.len(), 7 | 40) && value.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    });
}
