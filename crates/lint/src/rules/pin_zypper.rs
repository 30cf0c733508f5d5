//! DL3037: Packages of zypper should have a version.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "pin-zypper",
    aliases: &["DL3037"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Packages of zypper should have a version",
    why: "What is installed today may not be what is installed tomorrow, and the cache does not notice.",
    bad: r#"FROM opensuse/leap:15.6
RUN zypper install -y httpd && zypper clean
"#,
    good: r#"FROM opensuse/leap:15.6
RUN zypper install -y httpd=2.4.46 && zypper clean
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, call) in cx.calls().filter(|(_, call)| call.is("zypper", &["install", "in"])) {
        let fixed = |text: &str| text.contains(['=', '>', '<']) || text.ends_with(".rpm");
        let operands = call.operands(&[]);
        if let Some(arg) =
            operands.iter().find(|arg| !["install", "in"].contains(&arg.text.as_str()) && !fixed(&arg.text))
        {
            out.report(node.place(arg.span), format!("{} has no version", arg.text));
        }
    }
}
