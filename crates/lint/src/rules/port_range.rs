//! DL3011: Ports range from 0 to 65535.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "port-range",
    aliases: &["DL3011"],
    group: Group::Hadolint,
    severity: Severity::Error,
    default: Default::On,
    summary: "Ports range from 0 to 65535",
    why: "Nothing can listen on others.",
    bad: r#"FROM alpine:3.20
EXPOSE 80000
"#,
    good: r#"FROM alpine:3.20
EXPOSE 8000
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for node in &cx.nodes {
        let Instruction::Expose(expose) = node.instruction else { continue };
        for word in &expose.ports {
            let ports = word.value.split('/').next().unwrap_or_default();
            if ports.split(['-', ':']).any(|port| port.parse::<u64>().is_ok_and(|port| port > 65_535)) {
                out.report(word.range, format!("{} is no port", word.value));
            }
        }
    }
}
