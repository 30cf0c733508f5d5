//! DL3047: wget should not show its progress bar.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "wget-progress",
    aliases: &["DL3047"],
    group: Group::Hadolint,
    severity: Severity::Info,
    default: Default::On,
    summary: "wget should not show its progress bar",
    why: "It fills the log with thousands of lines.",
    bad: r#"FROM alpine:3.20
RUN wget https://example.com/a
"#,
    good: r#"FROM alpine:3.20
RUN wget --progress=dot:giga https://example.com/a
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let quiet = ["progress", "q", "quiet", "o", "output-file", "a", "append-output", "no-verbose"];
    for (node, call) in cx.calls() {
        if call.name != "wget" || call.flag(&quiet) || call.has_any(&["-nv"]) {
            continue;
        }
        let finding = out.report(node.place(call.span), "wget fills the log with its progress");
        // busybox's wget has no such flag.
        let busybox =
            cx.image(node.stage).is_some_and(|image| image.contains("alpine") || image.contains("busybox"));
        if let Some(fix) = super::shared::insert_after(
            node,
            call.name_span,
            " --progress=dot:giga",
            "add --progress=dot:giga",
        )
        .filter(|_| !busybox)
        {
            finding.fix(Fix { applicability: Applicability::Unsafe, ..fix });
        }
    }
}
