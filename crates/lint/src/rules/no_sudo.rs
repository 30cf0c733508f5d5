//! DL3004: sudo should not be used.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "no-sudo",
    aliases: &["DL3004"],
    group: Group::Hadolint,
    severity: Severity::Error,
    default: Default::On,
    summary: "sudo should not be used",
    why: "It behaves unlike USER where terminals, signals and environments matter. Use USER in recipes and gosu in entry points.",
    bad: r#"FROM alpine:3.20
RUN sudo make install
"#,
    good: r#"FROM alpine:3.20
USER root
RUN make install
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    super::shared::report_calls(cx, out, "use USER instead of sudo", |_, call| call.name == "sudo");
}
