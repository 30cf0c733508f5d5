//! Variables should be defined before their use.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "UndefinedVar",
    aliases: &[],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Variables should be defined before their use",
    why: "A variable that is not defined is empty. ARGs of other stages and of before the first FROM must be declared again.",
    bad: r#"FROM alpine:3.20
COPY $name /x
"#,
    good: r#"FROM alpine:3.20
ARG name
COPY $name /x
"#,
    check,
};

fn check(_: &Context<'_>, out: &mut Sink<'_>) {
    out.events(Check::UndefinedVar);
}
