//! DL3030: yum install should have -y.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "yum-yes",
    aliases: &["DL3030"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "yum install should have -y",
    why: "Without it yum asks, and a build can't answer.",
    bad: r#"FROM centos:7
RUN yum install httpd-2.4.6 && yum clean all
"#,
    good: r#"FROM centos:7
RUN yum install -y httpd-2.4.6 && yum clean all
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let words = ["install", "groupinstall", "localinstall"];
    super::shared::report_missing_flag(cx, out, "yum without -y asks", (&words, "-y"), |_, call| {
        call.is("yum", &words) && !call.flag(&["y", "assumeyes"])
    });
}
