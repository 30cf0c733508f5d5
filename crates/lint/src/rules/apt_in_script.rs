//! DL3027: apt-get should be used instead of apt.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "apt-in-script",
    aliases: &["DL3027"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "apt-get should be used instead of apt",
    why: "apt is made for people; what it prints and how it is called may change.",
    bad: r#"FROM debian:12
RUN apt update
"#,
    good: r#"FROM debian:12
RUN apt-get --version
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, call) in cx.calls().filter(|(_, call)| call.name == "apt") {
        let finding = out.report(node.place(call.span), "apt is made for people: use apt-get");
        let same = call.has_any(&["update", "install", "upgrade", "remove", "purge", "autoremove", "clean"]);
        if same && node.script.as_ref().is_some_and(|script| !script.exec) {
            finding.fix(Fix::replace(
                "use apt-get",
                Applicability::Safe,
                node.place(call.name_span),
                "apt-get",
            ));
        }
    }
}
