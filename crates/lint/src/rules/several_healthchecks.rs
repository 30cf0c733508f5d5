//! DL3012: HEALTHCHECK should be given once.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "several-healthchecks",
    aliases: &["DL3012"],
    group: Group::Hadolint,
    severity: Severity::Error,
    default: Default::Off,
    summary: "HEALTHCHECK should be given once",
    why: "Only the last one counts. MultipleInstructionsDisallowed says the same of the first.",
    bad: r#"FROM alpine:3.20
HEALTHCHECK CMD ["a"]
HEALTHCHECK CMD ["b"]
"#,
    good: r#"FROM alpine:3.20
HEALTHCHECK CMD ["b"]
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for stage in cx.stages() {
        let all =
            cx.of_stage(stage.index).filter(|node| matches!(node.instruction, Instruction::Healthcheck(_)));
        for node in all.skip(1) {
            out.report(node.located.keyword.range, "another HEALTHCHECK comes before this one");
        }
    }
}
