//! SC2016: Expressions do not expand in single quotes.

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

/// Whether what runs the quoted text expands it, or the text is made for something else than this shell.
fn takes_code(simple: &ast::Simple) -> bool {
    let call = crate::shell::Call::of(simple);
    let base = call.as_ref().map(|call| call.base()).unwrap_or_default();
    let words: Vec<String> = simple.words.iter().map(ast::Word::text).collect();
    let behind = |options: &[&str]| {
        let at = words.iter().position(|word| options.contains(&word.as_str()))?;
        let name = words.get(at + 1)?;
        Some(name.rsplit('/').next().unwrap_or(name))
    };
    let expands = |name: &str| EXPAND.contains(&name) || name.ends_with("awk") || name.starts_with("perl");
    match base {
        "find" => behind(&["-exec", "-execdir", "-ok", "-okdir"]).is_some_and(expands),
        "xargs" => words.iter().any(|word| expands(word)),
        "git" => words.iter().any(|word| word == "filter-branch" || word == "foreach"),
        "[" | "test" => words.iter().any(|word| word == "-v"),
        base => expands(base),
    }
}

impl Walk {
    fn look(&mut self, word: &ast::Word, in_sed: bool) {
        for part in &word.parts {
            let PartKind::Single(text) = &part.kind else { continue };
            if expands(text) && !(in_sed && is_sed(text)) {
                self.0.push(part.span);
            }
        }
    }
}

impl Visitor for Walk {
    fn simple(&mut self, simple: &ast::Simple) {
        if takes_code(simple) {
            return;
        }
        let in_sed = crate::shell::Call::of(simple).is_some_and(|call| call.base() == "sed");
        let values = simple.assigns.iter().filter(|assign| {
            !matches!(assign.name.as_str(), "PS1" | "PS2" | "PS3" | "PS4" | "PROMPT_COMMAND")
        });
        let words = simple.words.iter().chain(values.map(|assign| &assign.value)).chain(&simple.elements);
        words.chain(simple.targets()).for_each(|word| self.look(word, in_sed));
    }

    fn command(&mut self, command: &ast::Command) {
        command.own_words().into_iter().for_each(|word| self.look(word, false));
    }
}
