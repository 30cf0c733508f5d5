//! A blank line inside of an instruction will be an error one day.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "NoEmptyContinuation",
    aliases: &[],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "A blank line inside of an instruction will be an error one day",
    why: "A continuation promises another line. Builders skip blank ones for now and warn.",
    bad: r#"FROM alpine:3.20
RUN echo a && \

    echo b
"#,
    good: r#"FROM alpine:3.20
RUN echo a && \
    echo b
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let text = cx.source().text();
    out.events_with(Check::NoEmptyContinuation, |event, finding| {
        let Some(first) = event.detail else { return };
        let items = cx.parsed.tree.items();
        let at = items.partition_point(|item| item.range.end <= first.start);
        let Some(item) = items.get(at) else { return };
        let mut edits = Vec::new();
        let mut at = item.range.start;
        // Heredoc bodies keep their blank lines: those are behind the line the event is about.
        let last = cx.source().line_range(event.line).start;
        for line in text.get(item.range.as_usize()).unwrap_or_default().split_inclusive('\n') {
            let range = TextRange::new(at, at + line.len() as u32);
            at = range.end;
            if range.start < last && line.trim().is_empty() {
                edits.push(Edit { range, replacement: String::new() });
            }
        }
        let title = "drop the blank lines".to_owned();
        finding.fix(Fix { title, applicability: Applicability::Safe, edits });
    });
}
