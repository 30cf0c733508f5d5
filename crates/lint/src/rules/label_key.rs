//! DL3048: Keys of labels should be lowercase words with dots and dashes.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "label-key",
    aliases: &["DL3048"],
    group: Group::Hadolint,
    severity: Severity::Style,
    default: Default::On,
    summary: "Keys of labels should be lowercase words with dots and dashes",
    why: "Keys have letters, digits, dots, dashes and slashes, start with a letter, and `com.docker.`, `io.docker.` and `org.dockerproject.` are reserved.",
    bad: r#"FROM alpine:3.20
LABEL Maintainer="a"
"#,
    good: r#"FROM alpine:3.20
LABEL com.example.maintainer="a"
"#,
    check,
};

use dockerfile::word::{Lexer, Unset};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for node in cx.nodes.iter().filter(|node| !node.onbuild) {
        let Instruction::Label(label) = node.instruction else { continue };
        // What is not known stays as it is written, and is as wrong.
        let escape = cx.parsed.recipe.directives.escape.as_char();
        let lexer = Lexer { unset: Unset::Keep, ..Lexer::new(escape) };
        let known = cx.state(node.stage, node.index);
        let wrong = label.pairs.iter().find(|pair| {
            let key = pair.key.trim_matches(['"', '\'']);
            let expanded = known.and_then(|state| lexer.expand(key, &*state.env).ok());
            !is_key(expanded.as_ref().map_or(key, |expansion| &expansion.text))
        });
        if let Some(pair) = wrong {
            out.report(pair.range, format!("label key {:?} is not well formed", pair.key));
        }
    }
}

fn is_key(key: &str) -> bool {
    let reserved =
        ["com.docker.", "io.docker.", "org.dockerproject."].iter().any(|start| key.starts_with(start));
    key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_/".contains(c))
        && !reserved
        && !key.contains("..")
        && !key.contains("--")
}
