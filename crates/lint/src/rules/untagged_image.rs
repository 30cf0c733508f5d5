//! DL3006: Base images should have a tag.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "untagged-image",
    aliases: &["DL3006"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Base images should have a tag",
    why: "Without a tag `latest` is taken, which is another image every few weeks.",
    bad: r#"FROM alpine
"#,
    good: r#"FROM alpine:3.20
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let mut names = std::collections::HashSet::new();
    for (_, from) in cx.froms() {
        let base = from.node.base.as_str().trim_matches(['"', '\'']);
        let parts = super::shared::image_parts(base);
        let name = parts.name.rsplit('/').next().unwrap_or(parts.name);
        let earlier = names.contains(base);
        names.extend(from.node.name.as_ref().map(Word::as_str));
        if base != "scratch"
            && !parts.digest
            && parts.tag.is_none()
            && !name.starts_with('$')
            && !parts.name.starts_with('$')
            && !earlier
        {
            out.report(from.node.base.range, format!("{base} has no tag"));
        }
    }
}
