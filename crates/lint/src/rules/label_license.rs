//! DL3054: Labels that hold a licence should hold an SPDX expression.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "label-license",
    aliases: &["DL3054"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Labels that hold a licence should hold an SPDX expression",
    why: "Looks at the labels that `[lint.labels]` in the configuration gives the type `spdx`.",
    bad: "",
    good: r#"FROM alpine:3.20
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    super::shared::report_labels(cx, out, crate::LabelType::Spdx, "no SPDX expression", is_expression);
}

fn is_expression(value: &str) -> bool {
    let spaced = value.replace('(', " ( ").replace(')', " ) ");
    let (mut depth, mut operand) = (0i32, false);
    for word in spaced.split_whitespace() {
        match word {
            "(" if !operand => depth += 1,
            ")" if operand && depth > 0 => depth -= 1,
            "AND" | "OR" | "WITH" if operand => operand = false,
            word if !operand && word.chars().all(|c| c.is_ascii_alphanumeric() || ".-+:".contains(c)) => {
                operand = true
            }
            _ => return false,
        }
    }
    operand && depth == 0
}
