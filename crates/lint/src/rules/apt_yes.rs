//! DL3014: apt-get install should have -y.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "apt-yes",
    aliases: &["DL3014"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "apt-get install should have -y",
    why: "Without it apt asks, and a build can't answer.",
    bad: r#"FROM debian:12
RUN apt-get install --no-install-recommends curl=7.88.*
"#,
    good: r#"FROM debian:12
RUN apt-get install -y --no-install-recommends curl=7.88.*
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    super::shared::report_missing_flag(
        cx,
        out,
        "apt-get install without -y asks",
        (&["install"], "-y"),
        |_, call| {
            let quiet = call.count("q") == 2 || call.count("quiet") == 2 || call.has_any(&["-q=2"]);
            call.is("apt-get", &["install"]) && !call.flag(&["y", "yes", "qq", "assume-yes"]) && !quiet
        },
    );
}
