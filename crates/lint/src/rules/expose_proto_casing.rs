//! Protocols of EXPOSE should be lowercase.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "ExposeProtoCasing",
    aliases: &[],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Protocols of EXPOSE should be lowercase",
    why: "The image's configuration has them in lowercase.",
    bad: r#"FROM alpine:3.20
EXPOSE 80/TCP
"#,
    good: r#"FROM alpine:3.20
EXPOSE 80/tcp
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    out.events_with(Check::ExposeProtoCasing, |event, finding| {
        let range = event.detail.unwrap_or(event.range);
        let word = cx.source().slice(range);
        if !word.contains('$') {
            finding.fix(Fix::replace(
                "write it in lowercase",
                Applicability::Safe,
                range,
                word.to_lowercase(),
            ));
        }
    });
}
