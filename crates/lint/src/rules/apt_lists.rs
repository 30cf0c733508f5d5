//! DL3009: The lists of apt should be deleted where they were fetched.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "apt-lists",
    aliases: &["DL3009"],
    group: Group::Hadolint,
    severity: Severity::Info,
    default: Default::On,
    summary: "The lists of apt should be deleted where they were fetched",
    why: "They are large, old at once, and stay in the layer unless the same RUN deletes them. Stages of which only files are copied do not matter, nor do cache mounts.",
    bad: r#"FROM debian:12
RUN apt-get update && apt-get install -y --no-install-recommends curl=7.88.*
"#,
    good: r#"FROM debian:12
RUN apt-get update && apt-get install -y --no-install-recommends curl=7.88.* && rm -rf /var/lib/apt/lists/*
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, _, script) in cx.runs() {
        let used = cx.is_last(node.stage) || cx.is_base(node.stage);
        let mounted = node.has_cache_at("/var/lib/apt/lists")
            || (node.has_cache_at("/var/lib/apt") && node.has_cache_at("/var/cache/apt"));
        let cleaned = script.calls.iter().any(|call| {
            call.is("rm", &["-rf", "/var/lib/apt/lists/*"])
                || call.has_any(&["/var/lib/apt/lists/*", "/var/lib/apt/lists"])
        });
        if !used || mounted || cleaned {
            continue;
        }
        let update = script.calls.iter().find(|call| {
            ["apt", "apt-get", "aptitude"].contains(&call.name.as_str()) && call.has_any(&["update"])
        });
        let Some(call) = update else { continue };
        let finding = out.report(node.place(call.span), "the lists of apt stay in the layer");
        let simple = script.tree.error.is_none()
            && script.tree.comments.is_empty()
            && script.tree.list.items.len() == 1
            && script.pipes == 0
            && !script.exec
            && !script.mapped.text.contains(['|', '\n']);
        let end = node.located.range.end;
        if simple
            && !node.onbuild
            && !cx.source().slice(TextRange::new(end.saturating_sub(1), end)).trim().is_empty()
            && node.located.lines.first <= node.located.lines.last
        {
            let last = script.mapped.text.trim_end().len();
            let at = script.range(crate::shell::ast::Span::new(last.saturating_sub(1), last)).end;
            finding.fix(Fix::replace(
                "delete the lists",
                Applicability::Unsafe,
                TextRange::empty(at),
                " && rm -rf /var/lib/apt/lists/*",
            ));
        }
    }
}
