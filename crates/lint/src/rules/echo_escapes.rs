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

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, call) in cx.calls().filter(|(node, call)| {
        call.name == "echo"
            && node
                .script
                .as_ref()
                .is_some_and(|script| script.kind.is_posix() && script.kind != crate::shell::Kind::Dash)
    }) {
        if call
            .args
            .iter()
            .any(|arg| arg.text.starts_with('-') && arg.text.contains('e') && arg.text.len() < 4)
        {
            continue;
        }
        let escape = |text: &str| {
            text.as_bytes().windows(2).any(|pair| pair[0] == b'\\' && matches!(pair[1], b'n' | b'r' | b't'))
        };
        if let Some(arg) = call.args.iter().find(|arg| !arg.text.contains("${") && escape(&arg.text)) {
            out.report(node.place(arg.span), "echo may not expand this escape: use printf");
        }
    }
}
