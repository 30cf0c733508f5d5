//! DL3000: WORKDIR should be absolute.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "absolute-workdir",
    aliases: &["DL3000"],
    group: Group::Hadolint,
    severity: Severity::Error,
    default: Default::Off,
    summary: "WORKDIR should be absolute",
    why: "A relative WORKDIR depends on all that come before it. WorkdirRelativePath looks at the first one only.",
    bad: r#"FROM alpine:3.20
WORKDIR app
"#,
    good: r#"FROM alpine:3.20
WORKDIR /app
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for node in cx.nodes.iter().filter(|node| !node.onbuild) {
        let Instruction::Workdir(workdir) = node.instruction else { continue };
        let path = workdir.path.value.trim_matches(['"', '\'']);
        let drive = matches!(path.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
        if !path.starts_with(['$', '/']) && !drive {
            out.report(workdir.path.range, format!("WORKDIR {path:?} is relative"));
        }
    }
}
