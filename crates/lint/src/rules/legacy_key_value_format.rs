//! ENV and LABEL should be written with =.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "LegacyKeyValueFormat",
    aliases: &[],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "ENV and LABEL should be written with =",
    why: "Without `=` the rest of the line is one value, which surprises, and only one variable can be set.",
    bad: r#"FROM alpine:3.20
ENV key some value
"#,
    good: r#"FROM alpine:3.20
ENV key="some value"
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let escape = cx.parsed.recipe.directives.escape.as_char();
    out.events_with(Check::LegacyKeyValueFormat, |event, finding| {
        let range = event.detail.unwrap_or(event.range);
        let text = cx.source().slice(range);
        let Some((key, value)) = text.split_once([' ', '\t']) else { return };
        let value = value.trim_start_matches([' ', '\t']);
        if value.contains(['\n', '\r']) || value.ends_with(escape) {
            return;
        }
        let plain = !value.is_empty()
            && !value.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\'') || c == escape);
        let whole = value.len() >= 2
            && value.starts_with('"')
            && value.ends_with('"')
            && !value[1..value.len() - 1].contains('"')
            && !value.contains(escape);
        let with = match plain || whole {
            true => format!("{key}={value}"),
            // Quotes and escapes inside mean the same in both forms only if there are none.
            false if !value.contains(['"', '\'']) && !value.contains(escape) => format!("{key}=\"{value}\""),
            false => return,
        };
        finding.fix(Fix::replace("write it with =", Applicability::Safe, range, with));
    });
}
