//! Containers should not have an SSH server.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "ssh-port",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Info,
    default: Default::On,
    summary: "Containers should not have an SSH server",
    why: "Port 22 speaks for one. Use `exec` of the container engine instead.",
    bad: r#"FROM alpine:3.20
EXPOSE 22
"#,
    good: r#"FROM alpine:3.20
EXPOSE 80
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for node in &cx.nodes {
        let Instruction::Expose(expose) = node.instruction else { continue };
        for word in expose.ports.iter().filter(|word| matches!(word.as_str(), "22" | "22/tcp")) {
            out.report(word.range, "port 22 speaks for an SSH server");
        }
    }
}
