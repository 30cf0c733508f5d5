//! DL3046: useradd with a high id should have -l.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "useradd-log",
    aliases: &["DL3046"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "useradd with a high id should have -l",
    why: "It writes logs indexed by id, which become files of gigabytes.",
    bad: r#"FROM debian:12
RUN useradd -u 123456 app
"#,
    good: r#"FROM debian:12
RUN useradd -l -u 123456 app
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    super::shared::report_missing_flag(
        cx,
        out,
        "useradd writes a huge log for a high id",
        (&[], "-l"),
        |_, call| {
            call.name == "useradd"
                && !call.flag(&["l", "no-log-init"])
                && call.flag(&["u", "uid"])
                && call.value_of("u").is_some_and(|arg| arg.text.len() > 5)
        },
    );
}
