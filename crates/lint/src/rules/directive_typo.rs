//! This comment looks like a directive but is none.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "directive-typo",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Warning,
    default: Default::On,
    summary: "This comment looks like a directive but is none",
    why: "Directives stand at the very top, before any other comment, blank line or instruction, and are called syntax, escape and check.",
    bad: r#"# sytnax=docker/dockerfile:1
FROM alpine:3.20
"#,
    good: r#"# syntax=docker/dockerfile:1
FROM alpine:3.20
"#,
    check,
};

use dockerfile::syntax::ItemKind;

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for item in cx.parsed.tree.items() {
        match item.kind {
            ItemKind::Comment => {}
            ItemKind::Bom | ItemKind::Blank | ItemKind::Directive => continue,
            _ => return,
        }
        let text = cx.source().slice(item.range).trim();
        let Some((key, value)) = text.trim_start_matches('#').split_once('=') else { continue };
        let key = key.trim().to_ascii_lowercase();
        if key.contains(char::is_whitespace) || value.trim().is_empty() || value.starts_with('=') {
            continue;
        }
        let known = ["syntax", "escape", "check"];
        // Above an instruction `check=` is no directive but an option of it.
        let late = known.contains(&key.as_str()) && key != "check";
        let near = crate::semantics::nearest(&key, known);
        let range = TextRange::new(
            item.range.start,
            item.range.start + cx.source().slice(item.range).trim_end().len() as u32,
        );
        if late {
            out.report(range, format!("{key} is read only at the very top of the file"));
        } else if let Some(near) = near.filter(|_| key.len() > 3) {
            out.report(range, format!("there is no directive {key:?} (did you mean {near}?)"));
        }
    }
}
