//! DL3067: COPY / / copies a whole file system.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "copy-whole-root",
    aliases: &["DL3067"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "COPY / / copies a whole file system",
    why: "It makes one big layer and brings what nobody asked for. Start from the other stage instead.",
    bad: r#"FROM alpine:3.20 AS a
FROM alpine:3.20
COPY --from=a / /
"#,
    good: r#"FROM alpine:3.20 AS a
FROM alpine:3.20
COPY --from=a /usr/bin/tool /usr/bin/
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for node in cx.nodes.iter().filter(|node| !node.onbuild) {
        let Instruction::Copy(copy) = node.instruction else { continue };
        let root = |word: &Word| word.value.trim_matches(['"', '\'']) == "/";
        if copy.from.is_some() && root(&copy.transfer.dest) && copy.transfer.sources.iter().any(root) {
            out.report(node.located.keyword.range, "a whole file system is copied");
        }
    }
}
