//! DL4003: CMD should be given once.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "several-cmds",
    aliases: &["DL4003"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::Off,
    summary: "CMD should be given once",
    why: "Only the last one counts. MultipleInstructionsDisallowed says the same of the first.",
    bad: r#"FROM alpine:3.20
CMD ["a"]
CMD ["b"]
"#,
    good: r#"FROM alpine:3.20
CMD ["b"]
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for stage in cx.stages() {
        for node in cx
            .of_stage(stage.index)
            .filter(|node| !node.onbuild && matches!(node.instruction, Instruction::Cmd(_)))
            .skip(1)
        {
            out.report(node.located.keyword.range, "another CMD comes before this one");
        }
    }
}
