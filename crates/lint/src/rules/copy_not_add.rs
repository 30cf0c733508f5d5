//! DL3020: COPY should be used for files and folders.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "copy-not-add",
    aliases: &["DL3020"],
    group: Group::Hadolint,
    severity: Severity::Error,
    default: Default::On,
    summary: "COPY should be used for files and folders",
    why: "ADD also fetches and extracts; where neither is wanted, COPY says so.",
    bad: r#"FROM alpine:3.20
ADD src /src
"#,
    good: r#"FROM alpine:3.20
COPY src /src
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for node in cx.nodes.iter().filter(|node| !node.onbuild) {
        let Instruction::Add(add) = node.instruction else { continue };
        let special = |path: &str| {
            let path = path.trim_matches(['"', '\'']);
            super::shared::is_archive(path) || crate::semantics::is_remote(path) || path.ends_with(".git")
        };
        if add.transfer.sources.iter().all(|word| special(&word.value)) {
            continue;
        }
        let finding = out.report(node.located.keyword.range, "use COPY for files and folders");
        let unknown = add
            .transfer
            .sources
            .iter()
            .any(|word| special(&word.value) || word.value.contains(['$', '*', '?', '[']));
        let only_add = add.keep_git_dir.is_some() || add.checksum.is_some() || add.unpack.is_some();
        if !unknown && !only_add {
            let keyword = if node.located.keyword.value.starts_with('a') { "copy" } else { "COPY" };
            finding.fix(Fix::replace("use COPY", Applicability::Unsafe, node.located.keyword.range, keyword));
        }
    }
}
