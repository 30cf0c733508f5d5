//! DL3001: Some commands make no sense in a container.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "pointless-command",
    aliases: &["DL3001"],
    group: Group::Hadolint,
    severity: Severity::Info,
    default: Default::On,
    summary: "Some commands make no sense in a container",
    why: "A build has no services, no terminal and no users that wait: ssh, vim, shutdown, service, ps, free, top, kill and mount do nothing useful there.",
    bad: r#"FROM alpine:3.20
RUN service nginx start
"#,
    good: r#"FROM alpine:3.20
CMD ["nginx"]
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let names = ["free", "kill", "mount", "ps", "service", "shutdown", "ssh", "top", "vim"];
    for (node, call) in cx.calls().filter(|(_, call)| names.contains(&call.name.as_str())) {
        out.report(node.place(call.span), format!("{} makes no sense in a build", call.name));
    }
}
