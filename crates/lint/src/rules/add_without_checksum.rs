//! ADD of an address should have a checksum.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "add-without-checksum",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Info,
    default: Default::On,
    summary: "ADD of an address should have a checksum",
    why: "Without one the image holds whatever the server sends. `--checksum=sha256:…` makes sure, and lets the cache work without fetching.",
    bad: r#"FROM alpine:3.20
ADD https://example.com/a /a
"#,
    good: r#"FROM alpine:3.20
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://example.com/a /a
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for node in &cx.nodes {
        let Instruction::Add(add) = node.instruction else { continue };
        for source in add.transfer.sources.iter().filter(|_| add.checksum.is_none()) {
            let path = cx.resolve(node, source);
            let git = path.contains(".git") || path.starts_with("git");
            if path.starts_with("http") && path.contains("://") && !git {
                out.report(source.range, "what is fetched is not compared with a checksum");
            }
        }
    }
}
