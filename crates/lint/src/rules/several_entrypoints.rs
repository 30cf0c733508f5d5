//! DL4004: ENTRYPOINT should be given once.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "several-entrypoints",
    aliases: &["DL4004"],
    group: Group::Hadolint,
    severity: Severity::Error,
    default: Default::Off,
    summary: "ENTRYPOINT should be given once",
    why: "Only the last one counts. MultipleInstructionsDisallowed says the same of the first.",
    bad: r#"FROM alpine:3.20
ENTRYPOINT ["a"]
ENTRYPOINT ["b"]
"#,
    good: r#"FROM alpine:3.20
ENTRYPOINT ["b"]
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for stage in cx.stages() {
        let all = cx
            .of_stage(stage.index)
            .filter(|node| !node.onbuild && matches!(node.instruction, Instruction::Entrypoint(_)));
        for node in all.skip(1) {
            out.report(node.located.keyword.range, "another ENTRYPOINT comes before this one");
        }
    }
}
