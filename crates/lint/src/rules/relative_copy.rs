//! DL3045: COPY to a relative path needs a WORKDIR.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "relative-copy",
    aliases: &["DL3045"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "COPY to a relative path needs a WORKDIR",
    why: "Where the files end up depends on the base image otherwise.",
    bad: r#"FROM alpine:3.20
COPY a b
"#,
    good: r#"FROM alpine:3.20
WORKDIR /app
COPY a b
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for node in cx.nodes.iter().filter(|node| !node.onbuild) {
        let Instruction::Copy(copy) = node.instruction else { continue };
        let dest = copy.transfer.dest.value.trim_matches(['"', '\'']);
        let drive = matches!(dest.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
        let set = cx.state(node.stage, node.index).is_some_and(|state| state.workdir_set);
        if !set && !drive && !dest.starts_with(['/', '$', '\\']) {
            out.report(
                copy.transfer.dest.range,
                format!("{dest:?} depends on the WORKDIR of the base image"),
            );
        }
    }
}
