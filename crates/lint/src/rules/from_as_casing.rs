//! The words FROM and AS should have the same case.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "FromAsCasing",
    aliases: &[],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "The words FROM and AS should have the same case",
    why: "Mixed case in one instruction is hard to read.",
    bad: r#"FROM alpine:3.20 as build
"#,
    good: r#"FROM alpine:3.20 AS build
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    out.events_with(Check::FromAsCasing, |event, finding| {
        let at = cx.stages().partition_point(|stage| stage.from.lines.first < event.line);
        let lower = cx.stages().get(at).is_some_and(|stage| stage.from.keyword.value.starts_with('f'));
        let word = if lower { "as" } else { "AS" };
        if cx.source().slice(event.range).eq_ignore_ascii_case(word) {
            finding.fix(Fix::replace(format!("write {word}"), Applicability::Safe, event.range, word));
        }
    });
}
