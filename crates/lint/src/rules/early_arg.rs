//! An ARG should stand close to where it is used.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "early-arg",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Hint,
    default: Default::Off,
    summary: "An ARG should stand close to where it is used",
    why: "Every RUN after an ARG runs again when its value changes, whether it uses it or not.",
    bad: r#"FROM alpine:3.20
ARG VERSION
RUN apk add --no-cache curl=8.9.1-r2
RUN fetch $VERSION
"#,
    good: r#"FROM alpine:3.20
RUN apk add --no-cache curl=8.9.1-r2
ARG VERSION
RUN fetch $VERSION
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for stage in cx.stages() {
        let nodes: Vec<_> = cx.of_stage(stage.index).collect();
        for (at, node) in nodes.iter().enumerate() {
            let Instruction::Arg(arg) = node.instruction else { continue };
            for arg in &arg.args {
                let uses = |other: &&&crate::context::Node<'_>| other.located.code.contains(arg.key.as_str());
                let later = &nodes[at + 1..];
                let Some(first) = later.iter().position(|other| uses(&other)) else { continue };
                let runs = later[..first]
                    .iter()
                    .filter(|other| matches!(other.instruction, Instruction::Run(_)))
                    .count();
                if runs > 0 {
                    out.report(
                        arg.range,
                        format!("{runs} RUNs between this and its first use run again for nothing"),
                    );
                }
            }
        }
    }
}
