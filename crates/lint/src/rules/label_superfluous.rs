//! DL3050: Only labels of the schema should be there.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "label-superfluous",
    aliases: &["DL3050"],
    group: Group::Hadolint,
    severity: Severity::Info,
    default: Default::On,
    summary: "Only labels of the schema should be there",
    why: "Runs where `strict-labels` is set in the configuration.",
    bad: "",
    good: r#"FROM alpine:3.20
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    if !cx.options.strict_labels {
        return;
    }
    for node in &cx.nodes {
        let Instruction::Label(label) = node.instruction else { continue };
        for pair in &label.pairs {
            if !cx.options.labels.contains_key(pair.key.trim_matches(['"', '\''])) {
                out.report(pair.range, format!("label {} is not in the schema", pair.key));
            }
        }
    }
}
