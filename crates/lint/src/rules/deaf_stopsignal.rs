//! STOPSIGNAL should be a signal that can be handled.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "deaf-stopsignal",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Warning,
    default: Default::On,
    summary: "STOPSIGNAL should be a signal that can be handled",
    why: "Nothing can handle SIGKILL and SIGSTOP, so that the program can't clean up.",
    bad: r#"FROM alpine:3.20
STOPSIGNAL SIGKILL
"#,
    good: r#"FROM alpine:3.20
STOPSIGNAL SIGTERM
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for node in &cx.nodes {
        let Instruction::StopSignal(stop) = node.instruction else { continue };
        let name = stop.signal.value.trim_matches(['"', '\'']).to_ascii_uppercase();
        if matches!(name.as_str(), "SIGKILL" | "KILL" | "9" | "SIGSTOP" | "STOP" | "19") {
            out.report(stop.signal.range, format!("{name} can't be handled"));
        }
    }
}
