//! DL3056: Labels that hold a version should hold a semantic one.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "label-version",
    aliases: &["DL3056"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Labels that hold a version should hold a semantic one",
    why: "Looks at the labels that `[lint.labels]` in the configuration gives the type `semver`.",
    bad: "",
    good: r#"FROM alpine:3.20
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    super::shared::report_labels(cx, out, crate::LabelType::Semver, "no semantic version", |value| {
        let value = value.split_once('+').map_or(value, |(core, _)| core);
        let core = value.split_once('-').map_or(value, |(core, _)| core);
        let parts: Vec<&str> = core.split('.').collect();
        let number = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|c| c.is_ascii_digit())
                && (part.len() == 1 || !part.starts_with('0'))
        };
        parts.len() == 3 && parts.iter().all(number)
    });
}
