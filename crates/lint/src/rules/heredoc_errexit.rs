//! A script in a heredoc should stop at the first error.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "heredoc-errexit",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Warning,
    default: Default::On,
    summary: "A script in a heredoc should stop at the first error",
    why: "Unlike commands joined with &&, lines of a heredoc go on after an error, and only the last one can fail the build. Begin with `set -e`.",
    bad: r#"FROM alpine:3.20
RUN <<EOF
false
echo a
EOF
"#,
    good: r#"FROM alpine:3.20
RUN <<EOF
set -e
false
echo a
EOF
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, run, script) in
        cx.runs().filter(|(_, run, script)| run.heredocs.len() == 1 && script.kind.is_posix() && !script.exec)
    {
        let Command::Shell(text) = &run.command else { continue };
        let alone = text.value.trim().starts_with("<<") && !text.value.trim().contains(char::is_whitespace);
        let sets = script.calls.iter().any(|call| {
            call.name == "set"
                && call
                    .args
                    .iter()
                    .any(|arg| arg.text == "errexit" || (arg.text.starts_with('-') && arg.text.contains('e')))
        });
        let state = cx.state(node.stage, node.index);
        let shell = state.and_then(|state| state.shell.as_ref()).is_some_and(|words| {
            words.iter().any(|word| {
                word == "errexit" || (word.starts_with('-') && !word.starts_with("--") && word.contains('e'))
            })
        });
        let line = script.mapped.text.lines().next().unwrap_or_default();
        let by_line = line.starts_with("#!")
            && line.split_whitespace().skip(1).any(|word| word.starts_with('-') && word.contains('e'));
        if alone && !sets && !shell && !by_line && script.tree.list.items.len() > 1 {
            out.report(text.range, "only the last command of this script can fail the build");
        }
    }
}
