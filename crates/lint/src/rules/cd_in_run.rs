//! DL3003: Use WORKDIR to change the folder.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "cd-in-run",
    aliases: &["DL3003"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Use WORKDIR to change the folder",
    why: "`cd` counts for one RUN only and hides where things happen.",
    bad: r#"FROM alpine:3.20
RUN cd /src && make
"#,
    good: r#"FROM alpine:3.20
WORKDIR /src
RUN make
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, call) in cx.calls().filter(|(node, call)| call.name == "cd" && !node.onbuild) {
        out.report(node.place(call.span), "use WORKDIR to change the folder");
    }
}
