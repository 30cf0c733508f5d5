//! Package managers are faster with a cache mount.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "prefer-cache-mount",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Hint,
    default: Default::Off,
    summary: "Package managers are faster with a cache mount",
    why: "`RUN --mount=type=cache` keeps what was fetched between builds and out of the image.",
    bad: r#"FROM node:22
RUN npm ci
"#,
    good: r#"FROM node:22
RUN --mount=type=cache,target=/root/.npm npm ci
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, run, script) in cx.runs() {
        if crate::context::mounts(run).any(|(mount, _)| mount.kind == dockerfile::MountType::Cache) {
            continue;
        }
        let call = script.calls.iter().find_map(|call| {
            let folder = match call.name.as_str() {
                "npm" if call.has_any(&["ci", "install"]) => "/root/.npm",
                "yarn" if call.has_any(&["install"]) => "/usr/local/share/.cache/yarn",
                "go" if call.has_any(&["build", "install"]) => "/root/.cache/go-build",
                "cargo" if call.has_any(&["build", "install"]) => "/usr/local/cargo/registry",
                "apt-get" if call.has_any(&["install"]) => "/var/cache/apt",
                "dnf" | "yum" if call.has_any(&["install"]) => "/var/cache/dnf",
                _ if call.is_pip_install() => "/root/.cache/pip",
                _ => return None,
            };
            Some((call, folder))
        });
        if let Some((call, folder)) = call {
            out.report(node.place(call.span), format!("a cache mount at {folder} would make this faster"));
        }
    }
}
