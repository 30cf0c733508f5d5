//! DL3002: The last USER should not be root.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "last-user-root",
    aliases: &["DL3002"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "The last USER should not be root",
    why: "Whoever breaks out of a process of root has more to break. Only stages that end up in the image matter.",
    bad: r#"FROM alpine:3.20
USER root
"#,
    good: r#"FROM alpine:3.20
USER root
RUN apk upgrade
USER 1000
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for stage in cx.stages() {
        // hadolint looks at every stage.
        if !cx.is_last(stage.index) && cx.options.profile != crate::Profile::Hadolint {
            continue;
        }
        let users =
            cx.of_stage(stage.index).filter(|node| !node.onbuild).filter_map(|node| match node.instruction {
                Instruction::User(user) => Some(&user.user),
                _ => None,
            });
        if let Some(last) = users.last() {
            let name = last.value.split(':').next().unwrap_or_default();
            if name == "root" || name == "0" {
                out.report(last.range, "the last USER is root");
            }
        }
    }
}
