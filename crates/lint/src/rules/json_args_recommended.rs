//! CMD and ENTRYPOINT should be JSON arrays.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "JSONArgsRecommended",
    aliases: &[],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "CMD and ENTRYPOINT should be JSON arrays",
    why: "In shell form a shell is process 1 and passes no signals on, so that stopping the container kills it after a time-out. Where a shell is wanted, name it with SHELL.",
    bad: r#"FROM alpine:3.20
CMD nginx -g daemon
"#,
    good: r#"FROM alpine:3.20
CMD ["nginx", "-g", "daemon"]
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    out.events_with(Check::JsonArgsRecommended, |event, finding| {
        let node = cx.node_at(event.line).filter(|node| node.located.keyword.range == event.range);
        if let Some(fix) = node.and_then(|node| super::shared::exec_form(cx, node)) {
            finding.fix(fix);
        }
    });
}
