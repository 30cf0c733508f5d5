//! DL4001: Either wget or curl should be used.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "wget-and-curl",
    aliases: &["DL4001"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Either wget or curl should be used",
    why: "Two tools for one thing make the image larger.",
    bad: r#"FROM alpine:3.20
RUN wget -q a
RUN curl b
"#,
    good: r#"FROM alpine:3.20
RUN curl a
RUN curl b
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for stage in cx.stages() {
        let (mut wget, mut curl) = (false, false);
        for node in cx.of_stage(stage.index) {
            let Some((_, script)) = node.run() else { continue };
            let named = |name: &str| script.calls.iter().find(|call| call.name == name);
            let (w, c) = (named("wget"), named("curl"));
            wget |= w.is_some();
            curl |= c.is_some();
            if let Some(call) = c.or(w).filter(|_| wget && curl) {
                out.report(node.place(call.span), "the stage uses both wget and curl");
            }
        }
    }
}
