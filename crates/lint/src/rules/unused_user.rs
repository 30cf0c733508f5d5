//! A user is made but never used.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "unused-user",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Info,
    default: Default::On,
    summary: "A user is made but never used",
    why: "The image runs as root unless USER says otherwise.",
    bad: r#"FROM debian:12
RUN useradd app
CMD ["a"]
"#,
    good: r#"FROM debian:12
RUN useradd app
USER app
CMD ["a"]
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let Some(last) = cx.stages().len().checked_sub(1) else { return };
    let switches =
        |call: &Call| matches!(call.name.as_str(), "gosu" | "su" | "su-exec" | "setpriv" | "runuser");
    let used = cx
        .nodes
        .iter()
        .any(|node| matches!(node.instruction, Instruction::User(_)) && cx.in_result(node.stage))
        || cx.calls().any(|(_, call)| switches(call));
    let entry = cx.of_stage(last).any(|node| matches!(node.instruction, Instruction::Entrypoint(_)));
    if used || entry {
        // An entry point may change the user by itself.
        return;
    }
    for (node, call) in cx.calls().filter(|(node, call)| {
        cx.in_result(node.stage) && matches!(call.name.as_str(), "useradd" | "adduser")
    }) {
        let operands = call.operands(&[
            "u", "uid", "g", "gid", "G", "groups", "s", "shell", "d", "home", "home-dir", "h", "c",
            "comment", "ingroup", "gecos",
        ]);
        if operands.len() <= 1 {
            out.report(node.place(call.span), "no USER names the user that is made here");
        }
    }
}
