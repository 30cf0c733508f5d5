//! DL3018: Packages of apk should have a version.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "pin-apk",
    aliases: &["DL3018"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Packages of apk should have a version",
    why: "What is installed today may not be what is installed tomorrow, and the cache does not notice.",
    bad: r#"FROM alpine:3.20
RUN apk add --no-cache curl
"#,
    good: r#"FROM alpine:3.20
RUN apk add --no-cache curl=8.9.1-r2
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, call) in cx.calls().filter(|(_, call)| call.is("apk", &["add"])) {
        let fixed = |text: &str| text.contains(['=', '~', '>', '<']) || text.ends_with(".apk");
        let operands = call.operands(&["t", "virtual", "repository", "X"]);
        if let Some(arg) = operands.iter().find(|arg| arg.text != "add" && !fixed(&arg.text)) {
            out.report(node.place(arg.span), format!("{} has no version", arg.text));
        }
    }
}
