//! SC2028: echo may not expand escapes.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "echo-escapes",
    aliases: &["SC2028"],
    group: Group::Shell,
    severity: Severity::Info,
    default: Default::On,
    summary: "echo may not expand escapes",
    why: r#"bash prints `\n` as it is, dash makes a newline of it. printf is the same everywhere."#,
    bad: r#"FROM alpine:3.20
RUN echo "a\nb"
"#,
    good: r#"FROM alpine:3.20
RUN printf 'a\nb\n'
"#,
    check,
};

use crate::shell::Kind;
use crate::shell::ast::{self, Part, PartKind, Visitor};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (_, _, script) in
        cx.runs().filter(|(_, _, script)| matches!(script.kind, Kind::Sh | Kind::Bash | Kind::Ksh))
    {
        let mut walk = Walk(Vec::new());
        script.visit(&mut walk);
        for span in walk.0 {
            out.report(script.range(span), "echo may not expand this escape: use printf");
        }
    }
}

struct Walk(Vec<ast::Span>);

impl Visitor for Walk {
    fn simple(&mut self, simple: &ast::Simple) {
        let Some((name, words)) = simple.words.split_first() else { return };
        let is_echo = name.literal().is_some_and(|name| name.rsplit('/').next() == Some("echo"));
        let expands = words.iter().map(ast::Word::text).any(|text| {
            text.strip_prefix('-').is_some_and(|flags| !flags.starts_with('-') && flags.contains('e'))
        });
        if is_echo && !expands {
            let escaped = words.iter().filter(|word| has_escape(&literal_text(&word.parts)));
            self.0.extend(escaped.map(|word| word.span));
        }
    }
}

/// What is written out in a word; expansions give nothing.
fn literal_text(parts: &[Part]) -> String {
    let text = |part: &Part| match &part.kind {
        PartKind::Literal(text) | PartKind::Single(text) => text.clone(),
        PartKind::Escaped(c) => c.to_string(),
        PartKind::Double(parts) => literal_text(parts),
        _ => String::new(),
    };
    parts.iter().map(text).collect()
}

fn has_escape(text: &str) -> bool {
    text.as_bytes().windows(2).enumerate().any(|(at, pair)| {
        let hex = || text.as_bytes().get(at + 2).is_some_and(u8::is_ascii_hexdigit);
        pair[0] == b'\\'
            && match pair[1] {
                b'r' | b'n' | b't' | b'a' | b'b' | b'e' | b'f' | b'v' | b'\\' | b'\'' | b'0'..=b'7' => true,
                b'x' => hex(),
                _ => false,
            }
    })
}
