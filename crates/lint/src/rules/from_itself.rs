//! DL3023: COPY --from can't name its own stage.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "from-itself",
    aliases: &["DL3023"],
    group: Group::Hadolint,
    severity: Severity::Error,
    default: Default::On,
    summary: "COPY --from can't name its own stage",
    why: "A stage is not there before it is done.",
    bad: r#"FROM alpine:3.20 AS build
COPY --from=build /a /b
"#,
    good: r#"FROM alpine:3.20 AS build
RUN cp /a /b
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    // A trigger runs in a stage of another recipe.
    for node in cx.nodes.iter().filter(|node| !node.onbuild) {
        let Instruction::Copy(copy) = node.instruction else { continue };
        let own = cx.stages()[node.stage].name.as_deref();
        if let Some(from) =
            copy.from.as_ref().filter(|from| own.is_some_and(|own| from.value.eq_ignore_ascii_case(own)))
        {
            out.report(from.range, "a stage can't copy from itself");
        }
    }
}
