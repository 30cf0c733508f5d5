//! scratch has no shell.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "run-in-scratch",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Error,
    default: Default::On,
    summary: "scratch has no shell",
    why: "The empty image has no program that could run. Copy one first, or use the exec form of a program that was copied.",
    bad: r#"FROM scratch
RUN echo a
"#,
    good: r#"FROM scratch
COPY a /a
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (stage, _) in cx.froms() {
        if cx.facts(stage.index).is_none_or(|facts| facts.base != crate::semantics::Base::Scratch) {
            continue;
        }
        for node in cx.of_stage(stage.index).filter(|node| !node.onbuild) {
            match node.instruction {
                Instruction::Copy(_) | Instruction::Add(_) => break,
                Instruction::Run(_) => {
                    out.report(node.located.keyword.range, "there is nothing in scratch that could run");
                }
                _ => {}
            }
        }
    }
}
