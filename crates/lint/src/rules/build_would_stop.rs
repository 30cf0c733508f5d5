//! A builder stops at this.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "build-would-stop",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Error,
    default: Default::On,
    summary: "A builder stops at this",
    why: "The recipe parses, but a build ends with an error: stages in a circle, COPY from a later stage, an unknown stage index, a variable that can't be expanded, a port or signal that is none.",
    bad: r#"FROM alpine:3.20 AS a
COPY --from=b /x /x
FROM alpine:3.20 AS b
COPY --from=a /x /x
"#,
    good: r#"FROM alpine:3.20 AS a
FROM alpine:3.20 AS b
COPY --from=a /x /x
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    if let Some(fatal) = cx.semantics.fatal.as_ref().filter(|fatal| !fatal.known) {
        out.report(fatal.range, fatal.message.clone());
    }
}
