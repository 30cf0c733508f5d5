//! Secrets should not be printed.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "secret-echo",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Secrets should not be printed",
    why: "What a step prints is kept in logs.",
    bad: r#"FROM alpine:3.20
RUN --mount=type=secret,id=token,env=TOKEN echo "$TOKEN"
"#,
    good: r#"FROM alpine:3.20
RUN --mount=type=secret,id=token,env=TOKEN fetch
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, run, script) in cx.runs() {
        let secrets: Vec<dockerfile::Mount> = crate::context::mounts(run)
            .map(|(mount, _)| mount)
            .filter(|mount| mount.kind == dockerfile::MountType::Secret)
            .collect();
        for call in &script.calls {
            let prints = matches!(call.name.as_str(), "echo" | "printf" | "cat");
            // A redirection keeps it out of the log.
            let text =
                script.mapped.text.get(call.span.start as usize..call.span.end as usize).unwrap_or_default();
            if !prints || text.contains('>') || script.pipes > 0 {
                continue;
            }
            let shown = secrets.iter().find(|mount| {
                let by_env = mount.env.as_ref().is_some_and(|name| {
                    call.args.iter().any(|arg| arg.text.contains(&format!("${{{name}}}")))
                });
                let target = if mount.target.is_empty() {
                    format!("/run/secrets/{}", mount.id)
                } else {
                    mount.target.clone()
                };
                by_env || (call.name == "cat" && !mount.id.is_empty() && call.has_any(&[&target]))
            });
            if let Some(mount) = shown {
                out.report(node.place(call.span), format!("secret {:?} is printed", mount.id));
            }
        }
    }
}
