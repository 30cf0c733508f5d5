//! SC3037: POSIX sh knows no flags of echo.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "posix-echo-flags",
    aliases: &["SC3037"],
    group: Group::Shell,
    severity: Severity::Warning,
    default: Default::On,
    summary: "POSIX sh knows no flags of echo",
    why: "Some shells print `-e` and `-n`. Use printf.",
    bad: r#"FROM debian:12
RUN echo -e "a"
"#,
    good: r#"FROM debian:12
RUN printf 'a\n'
"#,
    check,
};

use crate::shell::Kind;

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, call) in cx.calls().filter(|(_, call)| call.base() == "echo") {
        let kind = node.script.as_ref().map_or(Kind::Other, |script| script.kind);
        let Some(first) = call.args.first() else { continue };
        let flag = first.text.len() > 1
            && first.text.starts_with('-')
            && first.text[1..].bytes().all(|c| b"eEn".contains(&c));
        if flag && kind.is_strict() && (kind == Kind::Sh || first.text != "-n") {
            out.report(node.place(first.span), format!("sh knows no echo {}", first.text));
        }
    }
}
