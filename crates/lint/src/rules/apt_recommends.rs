//! DL3015: apt-get install should have --no-install-recommends.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "apt-recommends",
    aliases: &["DL3015"],
    group: Group::Hadolint,
    severity: Severity::Info,
    default: Default::On,
    summary: "apt-get install should have --no-install-recommends",
    why: "Recommended packages are seldom needed and often large.",
    bad: r#"FROM debian:12
RUN apt-get install -y curl=7.88.*
"#,
    good: r#"FROM debian:12
RUN apt-get install -y --no-install-recommends curl=7.88.*
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, call) in cx.calls() {
        let refused =
            call.flag(&["no-install-recommends"]) || call.has_any(&["APT::Install-Recommends=false"]);
        if !call.is("apt-get", &["install"]) || refused {
            continue;
        }
        let finding = out.report(node.place(call.span), "recommended packages are installed too");
        let install = call.args.iter().find(|arg| arg.text == "install").map(|arg| arg.span);
        let fix = install.and_then(|span| {
            super::shared::insert_after(node, span, " --no-install-recommends", "add --no-install-recommends")
        });
        if let Some(fix) = fix {
            // A package that is only recommended may be needed after all.
            finding.fix(Fix { applicability: Applicability::Unsafe, ..fix });
        }
    }
}
