//! All instructions should have the same case.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "ConsistentInstructionCasing",
    aliases: &[],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "All instructions should have the same case",
    why: "One case for all instructions, upper or lower, makes them stand out from their arguments.",
    bad: r#"FROM alpine:3.20
RUN echo a
run echo b
"#,
    good: r#"FROM alpine:3.20
RUN echo a
RUN echo b
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    out.events_with(Check::ConsistentInstructionCasing, |event, finding| {
        let word = cx.source().slice(event.range);
        let better = match event.message.contains("lowercase") {
            true => word.to_lowercase(),
            false => word.to_uppercase(),
        };
        finding.fix(Fix::replace(format!("write {better}"), Applicability::Safe, event.range, better));
    });
}
