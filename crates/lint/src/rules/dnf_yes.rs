//! DL3038: dnf install should have -y.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "dnf-yes",
    aliases: &["DL3038"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "dnf install should have -y",
    why: "Without it dnf asks, and a build can't answer.",
    bad: r#"FROM fedora:40
RUN dnf install httpd-2.4.59 && dnf clean all
"#,
    good: r#"FROM fedora:40
RUN dnf install -y httpd-2.4.59 && dnf clean all
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let words = ["install", "groupinstall", "localinstall"];
    super::shared::report_missing_flag(cx, out, "dnf without -y asks", (&words, "-y"), |_, call| {
        (call.is("dnf", &words) || call.is("microdnf", &words)) && !call.flag(&["y", "assumeyes"])
    });
}
