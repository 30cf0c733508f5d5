//! DL3058: Labels that hold an e-mail address should hold one.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "label-email",
    aliases: &["DL3058"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Labels that hold an e-mail address should hold one",
    why: "Looks at the labels that `[lint.labels]` in the configuration gives the type `email`.",
    bad: "",
    good: r#"FROM alpine:3.20
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    super::shared::report_labels(cx, out, crate::LabelType::Email, "no e-mail address", |value| {
        value.split_once('@').is_some_and(|(name, host)| {
            !name.is_empty() && host.contains('.') && !value.contains(char::is_whitespace)
        })
    });
}
