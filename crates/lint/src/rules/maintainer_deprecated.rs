//! DL4000: MAINTAINER is deprecated.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "MaintainerDeprecated",
    aliases: &["DL4000"],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "MAINTAINER is deprecated",
    why: "A label says the same and can be read and searched by every tool.",
    bad: r#"FROM alpine:3.20
MAINTAINER a@example.com
"#,
    good: r#"FROM alpine:3.20
LABEL org.opencontainers.image.authors="a@example.com"
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let escape = cx.parsed.recipe.directives.escape.as_char();
    out.events_with(Check::MaintainerDeprecated, |event, finding| {
        let Some(node) = cx.node_at(event.line) else { return };
        let Instruction::Maintainer(maintainer) = node.instruction else { return };
        if node.located.lines.first != node.located.lines.last {
            return;
        }
        let mut value = String::new();
        for c in maintainer.name.value.chars() {
            if c == '"' || c == '$' || c == escape {
                value.push(escape);
            }
            value.push(c);
        }
        let keyword = if event.range.is_empty() || node.located.keyword.value.starts_with('m') {
            "label"
        } else {
            "LABEL"
        };
        let with = format!("{keyword} org.opencontainers.image.authors=\"{value}\"");
        finding.fix(Fix::replace("use a label", Applicability::Unsafe, node.located.range, with));
    });
}
