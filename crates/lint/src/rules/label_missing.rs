//! DL3049: Labels of the schema should be there.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "label-missing",
    aliases: &["DL3049"],
    group: Group::Hadolint,
    severity: Severity::Info,
    default: Default::On,
    summary: "Labels of the schema should be there",
    why: "Which labels those are says `[lint.labels]` in the configuration; without it this rule is silent.",
    bad: "",
    good: r#"FROM alpine:3.20
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (stage, from) in cx.froms().filter(|(stage, _)| cx.is_last(stage.index)) {
        for key in cx.options.labels.keys() {
            let set =
                cx.nodes.iter().filter(|node| cx.in_result(node.stage)).any(|node| match node.instruction {
                    Instruction::Label(label) => {
                        label.pairs.iter().any(|pair| pair.key.trim_matches(['"', '\'']) == key)
                    }
                    _ => false,
                });
            if !set {
                out.report(from.keyword.range, format!("label {key} is missing in stage {}", stage.index));
            }
        }
    }
}
