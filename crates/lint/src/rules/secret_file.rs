//! Files with secrets should not be copied.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "secret-file",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Files with secrets should not be copied",
    why: "They stay in a layer even if a later step deletes them. Use `RUN --mount=type=secret`.",
    bad: r#"FROM alpine:3.20
COPY id_rsa /root/.ssh/
"#,
    good: r#"FROM alpine:3.20
RUN --mount=type=secret,id=key,target=/root/.ssh/id_rsa fetch
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for node in &cx.nodes {
        let transfer = match node.instruction {
            Instruction::Copy(copy) if copy.from.is_none() => &copy.transfer,
            Instruction::Add(add) => &add.transfer,
            _ => continue,
        };
        for source in &transfer.sources {
            let path = cx.resolve(node, source);
            if !crate::semantics::is_remote(&path) && crate::secrets::is_secret_file(&path) {
                out.report(source.range, format!("{path} looks like a secret, which the image would keep"));
            }
        }
    }
}
