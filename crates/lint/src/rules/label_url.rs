//! DL3052: Labels that hold an address should hold one.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "label-url",
    aliases: &["DL3052"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Labels that hold an address should hold one",
    why: "Looks at the labels that `[lint.labels]` in the configuration gives the type `url`.",
    bad: "",
    good: r#"FROM alpine:3.20
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    super::shared::report_labels(cx, out, crate::LabelType::Url, "no address", |value| {
        let Some((scheme, rest)) = value.split_once("://") else { return value.starts_with("mailto:") };
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && !rest.is_empty()
            && !value.contains(char::is_whitespace)
    });
}
