//! No other stage needs this one.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "unreachable-stage",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Info,
    default: Default::On,
    summary: "No other stage needs this one",
    why: "Builders skip a stage that the last one does not need. Stages that are built by --target need not be reached.",
    bad: r#"FROM alpine:3.20
RUN a
FROM alpine:3.20
"#,
    good: r#"FROM alpine:3.20 AS test
RUN a
FROM alpine:3.20
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let Some(last) = cx.stages().len().checked_sub(1) else { return };
    let mut reached = vec![false; last + 1];
    let mut open = vec![last];
    while let Some(at) = open.pop() {
        if std::mem::replace(&mut reached[at], true) {
            continue;
        }
        open.extend(cx.parent(at).filter(|parent| *parent <= last));
        open.extend(
            cx.facts(at).into_iter().flat_map(|facts| &facts.reads).copied().filter(|stage| *stage <= last),
        );
    }
    for (stage, from) in cx.froms() {
        // A name is there to be built by.
        if !reached[stage.index] && stage.name.is_none() {
            out.report(from.keyword.range, format!("stage {} is never used", stage.index));
        }
    }
}
