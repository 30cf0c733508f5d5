//! DL3035: zypper dist-upgrade should not be used.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "zypper-dist-upgrade",
    aliases: &["DL3035"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "zypper dist-upgrade should not be used",
    why: "It makes another distribution of the base image. Take a newer base instead.",
    bad: r#"FROM opensuse/leap:15.6
RUN zypper -n dist-upgrade
"#,
    good: r#"FROM opensuse/leap:15.6
RUN zypper -n patch
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    super::shared::report_calls(cx, out, "take a newer base instead of upgrading it", |_, call| {
        call.is("zypper", &["dist-upgrade", "dup"])
    });
}
