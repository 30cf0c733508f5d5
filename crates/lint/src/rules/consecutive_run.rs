//! DL3059: Consecutive RUNs may be one.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "consecutive-run",
    aliases: &["DL3059"],
    group: Group::Hadolint,
    severity: Severity::Info,
    default: Default::On,
    summary: "Consecutive RUNs may be one",
    why: "Each makes a layer. Short ones that follow each other can be joined with &&.",
    bad: r#"FROM alpine:3.20
RUN a
RUN b
"#,
    good: r#"FROM alpine:3.20
RUN a && b
"#,
    check,
};

use crate::shell::{Kind, Script};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for stage in cx.stages() {
        let mut last: Option<(Vec<&str>, usize)> = None;
        for node in cx.of_stage(stage.index) {
            let Some((_, script)) = node.run().filter(|_| !node.onbuild) else {
                last = None;
                continue;
            };
            let mut flags: Vec<&str> = node.located.flags.iter().map(Word::as_str).collect();
            flags.sort_unstable();
            // The text of other shells is read as far as it looks like one of POSIX.
            let count = match script.kind.is_posix() || script.exec {
                true => script.calls.len(),
                false => {
                    let other = Script::read(script.mapped.clone(), Kind::Bash);
                    if other.tree.error.is_some() { 0 } else { other.calls.len() }
                }
            };
            match &last {
                // RUNs of several commands were joined on purpose.
                Some((before, many)) if *before == flags && count <= 1 && *many <= 1 => {
                    out.report(node.located.keyword.range, "this RUN may be joined with the one before");
                }
                _ => last = Some((flags, count)),
            }
        }
    }
}
