//! DL3062: Packages of go install should have a version.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "pin-go",
    aliases: &["DL3062"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Packages of go install should have a version",
    why: "What is installed today may not be what is installed tomorrow, and the cache does not notice.",
    bad: r#"FROM golang:1.23
RUN go install example.com/tool@latest
"#,
    good: r#"FROM golang:1.23
RUN go install example.com/tool@v1.2.3
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, call) in cx.calls().filter(|(_, call)| call.is("go", &["install", "get", "run"])) {
        let operands = call.operands(&[]);
        let packages: Vec<_> = match call.has_any(&["run"]) {
            true => operands.into_iter().skip(1).take(1).collect(),
            false => operands
                .into_iter()
                .filter(|arg| !["install", "get", "tool"].contains(&arg.text.as_str()))
                .collect(),
        };
        let fixed = |text: &str| {
            text.starts_with(['.', '/'])
                || (text.contains('@') && !text.ends_with("@latest") && !text.ends_with("@none"))
        };
        if let Some(arg) = packages.iter().find(|arg| !fixed(&arg.text)) {
            out.report(node.place(arg.span), format!("{} has no version", arg.text));
        }
    }
}
