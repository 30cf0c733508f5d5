//! DL3033: Packages of yum should have a version.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "pin-yum",
    aliases: &["DL3033"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Packages of yum should have a version",
    why: "What is installed today may not be what is installed tomorrow, and the cache does not notice.",
    bad: r#"FROM centos:7
RUN yum install -y httpd && yum clean all
"#,
    good: r#"FROM centos:7
RUN yum install -y httpd-2.4.6 && yum clean all
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, call) in cx.calls().filter(|(_, call)| call.is("yum", &["install"])) {
        super::shared::report_unpinned_rpm(cx, node, call, out);
    }
}
