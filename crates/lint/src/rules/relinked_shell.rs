//! DL4005: SHELL should be used to change the shell.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "relinked-shell",
    aliases: &["DL4005"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "SHELL should be used to change the shell",
    why: "Linking /bin/sh to something else breaks scripts of packages.",
    bad: r#"FROM debian:12
RUN ln -sf /bin/bash /bin/sh
"#,
    good: r#"FROM debian:12
SHELL ["/bin/bash", "-c"]
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    super::shared::report_calls(cx, out, "use SHELL to change the shell", |_, call| {
        call.is("ln", &["/bin/sh"])
    });
}
