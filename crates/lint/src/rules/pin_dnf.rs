//! DL3041: packages of dnf should have a version.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "pin-dnf",
    aliases: &["DL3041"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Packages of dnf should have a version",
    why: "What is installed today may not be what is installed tomorrow, and the cache does not notice.",
    bad: r#"FROM fedora:40
RUN dnf install -y httpd && dnf clean all
"#,
    good: r#"FROM fedora:40
RUN dnf install -y httpd-2.4.59 && dnf clean all
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, call) in cx.calls() {
        if !(call.is("dnf", &["install"]) || call.is("microdnf", &["install"])) || call.has_any(&["group"]) {
            continue;
        }
        let module = call.has_any(&["module"]);
        let fixed = |text: &str| match module {
            true => text.contains(':'),
            false => super::shared::is_rpm_pinned(cx, node, text),
        };
        let operands = call.operands(&[]);
        if let Some(arg) = operands
            .iter()
            .find(|arg| !["install", "module"].contains(&arg.text.as_str()) && !fixed(&arg.text))
        {
            out.report(node.place(arg.span), format!("{} has no version", arg.text));
        }
    }
}
