//! Files copied after USER belong to root.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "copy-owner",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Info,
    default: Default::Off,
    summary: "Files copied after USER belong to root",
    why: "COPY and ADD do not look at USER: without --chown the files belong to root and the user can't change them.",
    bad: r#"FROM alpine:3.20
USER 1000
COPY a /a
"#,
    good: r#"FROM alpine:3.20
USER 1000
COPY --chown=1000 a /a
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for node in cx.nodes.iter().filter(|node| !node.onbuild) {
        let owned = match node.instruction {
            Instruction::Copy(copy) => copy.chown.is_some(),
            Instruction::Add(add) => add.chown.is_some(),
            _ => continue,
        };
        let user = cx.state(node.stage, node.index).and_then(|state| state.user.clone());
        let Some(user) = user.filter(|user| !matches!(user.split(':').next(), Some("root" | "0"))) else {
            continue;
        };
        if !owned {
            out.report(node.located.keyword.range, format!("the files belong to root, not to {user}"));
        }
    }
}
