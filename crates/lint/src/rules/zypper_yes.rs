//! DL3034: zypper should have -y.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "zypper-yes",
    aliases: &["DL3034"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "zypper should have -y",
    why: "Without it zypper asks, and a build can't answer.",
    bad: r#"FROM opensuse/leap:15.6
RUN zypper install httpd=2.4.46 && zypper clean
"#,
    good: r#"FROM opensuse/leap:15.6
RUN zypper install -y httpd=2.4.46 && zypper clean
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let words = ["install", "in", "remove", "rm", "source-install", "si", "patch"];
    super::shared::report_missing_flag(cx, out, "zypper without -y asks", (&words, "-y"), |_, call| {
        call.is("zypper", &words) && !call.flag(&["non-interactive", "n", "no-confirm", "y"])
    });
}
