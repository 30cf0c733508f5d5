//! DL3053: Labels that hold a time should hold one.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "label-time",
    aliases: &["DL3053"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Labels that hold a time should hold one",
    why: "Looks at the labels that `[lint.labels]` in the configuration gives the type `rfc3339`: 2026-01-31T12:00:00Z.",
    bad: "",
    good: r#"FROM alpine:3.20
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    super::shared::report_labels(cx, out, crate::LabelType::Rfc3339, "no time of RFC 3339", is_time);
}

fn is_time(value: &str) -> bool {
    let shape = "dddd-dd-ddTdd:dd:dd";
    let Some((head, tail)) = value.split_at_checked(shape.len()) else { return false };
    let fits = head.chars().zip(shape.chars()).all(|(c, s)| match s {
        'd' => c.is_ascii_digit(),
        'T' => matches!(c, 'T' | 't' | ' '),
        s => c == s,
    });
    let zone =
        tail.strip_prefix('.').map_or(tail, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    let offset = zone.strip_prefix(['+', '-']).is_some_and(|rest| {
        rest.len() == 5
            && rest.as_bytes()[2] == b':'
            && rest.bytes().enumerate().all(|(at, c)| at == 2 || c.is_ascii_digit())
    });
    fits && (matches!(zone, "Z" | "z") || offset)
}
