//! DL3008: Packages of apt-get should have a version.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "pin-apt",
    aliases: &["DL3008"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Packages of apt-get should have a version",
    why: "What is installed today may not be what is installed tomorrow, and the cache does not notice.",
    bad: r#"FROM debian:12
RUN apt-get install -y --no-install-recommends curl
"#,
    good: r#"FROM debian:12
RUN apt-get install -y --no-install-recommends curl=7.88.*
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, call) in cx.calls().filter(|(_, call)| call.is("apt-get", &["install"])) {
        let fixed = |text: &str| text.contains('=') || text.contains('/') || text.ends_with(".deb");
        let operands = call.operands(&["t", "target-release"]);
        if let Some(arg) = operands.iter().find(|arg| arg.text != "install" && !fixed(&arg.text)) {
            out.report(node.place(arg.span), format!("{} has no version", arg.text));
        }
    }
}
