//! DL3041: Packages of dnf should have a version.

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
        super::shared::report_unpinned_rpm(cx, node, call, out);
    }
}
