//! DL3016: Packages of npm should have a version.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "pin-npm",
    aliases: &["DL3016"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Packages of npm should have a version",
    why: "What is installed today may not be what is installed tomorrow, and the cache does not notice.",
    bad: r#"FROM node:22
RUN npm install -g pnpm
"#,
    good: r#"FROM node:22
RUN npm install -g pnpm@9.12.0
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, call) in cx.calls().filter(|(_, call)| call.is("npm", &["install"])) {
        let operands = call.operands(&["loglevel", "registry"]);
        if operands.first().is_none_or(|arg| arg.text != "install") {
            continue;
        }
        if let Some(arg) =
            operands.iter().skip_while(|arg| arg.text == "install").find(|arg| !is_fixed(&arg.text))
        {
            out.report(node.place(arg.span), format!("{} has no version", arg.text));
        }
    }
}

fn is_fixed(package: &str) -> bool {
    if ["git://", "git+ssh://", "git+http://", "git+https://"].iter().any(|start| package.starts_with(start))
    {
        return package.contains('#');
    }
    let local = ["/", "./", "../", "~/"].iter().any(|start| package.starts_with(start));
    let archive = [".tar", ".tar.gz", ".tgz"].iter().any(|end| package.ends_with(end));
    local || archive || package.strip_prefix('@').unwrap_or(package).contains('@')
}
