//! DL4006: A RUN with a pipe should have pipefail.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "pipefail",
    aliases: &["DL4006"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "A RUN with a pipe should have pipefail",
    why: r#"Without it only the last command of a pipe can fail the build. Set SHELL ["/bin/bash", "-o", "pipefail", "-c"], or /bin/ash on alpine."#,
    bad: r#"FROM debian:12
RUN curl -f a | tar -x
"#,
    good: r#"FROM debian:12
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN curl -f a | tar -x
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, run, script) in
        cx.runs().filter(|(node, _, script)| !script.exec && !node.onbuild && script.pipes > 0)
    {
        let shell = cx.state(node.stage, node.index).and_then(|state| state.shell.clone());
        let by_shell = shell.is_some_and(|words| words.iter().any(|word| word == "pipefail"));
        let by_set = script.calls.iter().any(|call| {
            let on = |pair: &[crate::shell::Arg]| {
                pair[1].text == "pipefail" && pair[0].text.starts_with('-') && pair[0].text.ends_with('o')
            };
            call.name == "set" && call.args.windows(2).any(on)
        });
        let text = script.mapped.text.as_str();
        // `RUN <<EOF bash -o pipefail`: the line is not part of the script.
        let by_reader = match &run.command {
            Command::Shell(line) => !run.heredocs.is_empty() && line.value.contains("pipefail"),
            Command::Exec(_) => false,
        };
        let by_line =
            text.starts_with("#!") && text.lines().next().is_some_and(|line| line.contains("pipefail"));
        if !by_shell && !by_set && !by_reader && !by_line {
            out.report(node.located.keyword.range, "only the last command of a pipe can fail this RUN");
        }
    }
}
