//! DL3051: Labels of the schema should have a value.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "label-empty",
    aliases: &["DL3051"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Labels of the schema should have a value",
    why: "Looks at the labels that `[lint.labels]` in the configuration names.",
    bad: "",
    good: r#"FROM alpine:3.20
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for node in &cx.nodes {
        let Instruction::Label(label) = node.instruction else { continue };
        for pair in &label.pairs {
            let known = cx.options.labels.contains_key(pair.key.trim_matches(['"', '\'']));
            if known && pair.value.trim_matches(['"', '\'']).is_empty() {
                out.report(pair.range, format!("label {} is empty", pair.key));
            }
        }
    }
}
