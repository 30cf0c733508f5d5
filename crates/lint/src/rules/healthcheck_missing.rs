//! DL3057: The image should have a HEALTHCHECK.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "healthcheck-missing",
    aliases: &["DL3057"],
    group: Group::Hadolint,
    severity: Severity::Info,
    default: Default::Off,
    summary: "The image should have a HEALTHCHECK",
    why: "Without one an orchestrator knows only whether the process lives.",
    bad: r#"FROM alpine:3.20
CMD ["a"]
"#,
    good: r#"FROM alpine:3.20
HEALTHCHECK CMD ["b"]
CMD ["a"]
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let checked = cx
        .nodes
        .iter()
        .any(|node| cx.in_result(node.stage) && matches!(node.instruction, Instruction::Healthcheck(_)));
    if let Some(stage) = cx.stages().last().filter(|_| !checked) {
        out.report(stage.from.keyword.range, "the image has no HEALTHCHECK");
    }
}
