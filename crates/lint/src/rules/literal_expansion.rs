//! SC2016: expressions do not expand in single quotes.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "literal-expansion",
    aliases: &["SC2016"],
    group: Group::Shell,
    severity: Severity::Info,
    default: Default::On,
    summary: "Expressions do not expand in single quotes",
    why: "Where the value is meant, use double quotes. Commands that expand by themselves, such as awk, sh -c and jq, are left alone.",
    bad: r#"FROM alpine:3.20
RUN echo 'home is $HOME'
"#,
    good: r#"FROM alpine:3.20
RUN echo "home is $HOME"
"#,
    check,
};

use crate::shell::ast::{self, PartKind, Visitor};

const EXPAND: [&str; 24] = [
    "trap",
    "sh",
    "bash",
    "ksh",
    "zsh",
    "dash",
    "ash",
    "ssh",
    "eval",
    "xprop",
    "alias",
    "sudo",
    "doas",
    "run0",
    "docker",
    "podman",
    "oc",
    "dpkg-query",
    "jq",
    "rename",
    "rg",
    "unset",
    "su",
    "envsubst",
];

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (_, _, script) in cx.runs().filter(|(_, _, script)| script.kind.is_posix()) {
        let mut walk = Walk(Vec::new());
        script.visit(&mut walk);
        for span in walk.0 {
            out.report(script.range(span), "nothing expands in single quotes");
        }
    }
}

struct Walk(Vec<ast::Span>);

fn expands(text: &str) -> bool {
    let bytes = text.as_bytes();
    let dollar = bytes.windows(2).any(|pair| {
        pair[0] == b'$' && (pair[1].is_ascii_alphanumeric() || matches!(pair[1], b'{' | b'(' | b'_'))
    });
    let mut ticks = text.match_indices('`').map(|(at, _)| at);
    dollar || matches!((ticks.next(), ticks.next()), (Some(a), Some(b)) if b > a + 1)
}

/// `$d`, `$p` and the like: addresses of sed.
fn is_sed(text: &str) -> bool {
    let bytes = text.as_bytes();
    (0..bytes.len().saturating_sub(1)).any(|at| {
        bytes[at] == b'$'
            && b"{dpsaic".contains(&bytes[at + 1])
            && bytes.get(at + 2).is_none_or(|c| !c.is_ascii_alphabetic())
    })
}

impl Visitor for Walk {
    fn simple(&mut self, simple: &ast::Simple) {
        let name = simple.words.first().and_then(ast::Word::literal).unwrap_or_default();
        let base = name.rsplit('/').next().unwrap_or_default();
        let texts: Vec<String> = simple.words.iter().map(ast::Word::text).collect();
        let nested = base == "find" && texts.iter().any(|text| matches!(text.as_str(), "sh" | "bash"));
        let xargs = base == "xargs"
            && texts.iter().any(|text| {
                EXPAND.contains(&text.as_str()) || text.ends_with("awk") || text.starts_with("perl")
            });
        let git = base == "git" && texts.iter().any(|text| text == "filter-branch" || text == "foreach");
        if EXPAND.contains(&base)
            || base.ends_with("awk")
            || base.starts_with("perl")
            || nested
            || xargs
            || git
        {
            return;
        }
        let prompt = simple.assigns.iter().filter(|assign| {
            !matches!(assign.name.as_str(), "PS1" | "PS2" | "PS3" | "PS4" | "PROMPT_COMMAND")
        });
        for word in simple.words.iter().chain(prompt.map(|assign| &assign.value)) {
            for part in &word.parts {
                let PartKind::Single(text) = &part.kind else { continue };
                if expands(text) && !(base == "sed" && is_sed(text)) {
                    self.0.push(part.span);
                }
            }
        }
    }
}
