//! DL3021: COPY of several files needs a destination that ends with /.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "copy-many-into-folder",
    aliases: &["DL3021"],
    group: Group::Hadolint,
    severity: Severity::Error,
    default: Default::On,
    summary: "COPY of several files needs a destination that ends with /",
    why: "Several files can only go into a folder, and builders refuse anything else.",
    bad: r#"FROM alpine:3.20
COPY a b /x
"#,
    good: r#"FROM alpine:3.20
COPY a b /x/
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for node in cx.nodes.iter().filter(|node| !node.onbuild) {
        let Instruction::Copy(copy) = node.instruction else { continue };
        let dest = &copy.transfer.dest;
        if copy.transfer.sources.len() + copy.transfer.contents.len() > 1
            && !dest.value.trim_matches(['"', '\'']).ends_with('/')
        {
            let finding = out.report(dest.range, "the destination of several files should end with /");
            let whole =
                cx.source().slice(dest.range) == dest.value && !dest.value.ends_with(['"', '\'', '.']);
            if whole && !copy.transfer.json {
                finding.fix(Fix::replace(
                    "add /",
                    Applicability::Safe,
                    TextRange::empty(dest.range.end),
                    "/",
                ));
            }
        }
    }
}
