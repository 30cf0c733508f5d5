//! DL3013: Packages of pip should have a version.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "pin-pip",
    aliases: &["DL3013"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Packages of pip should have a version",
    why: "What is installed today may not be what is installed tomorrow, and the cache does not notice.",
    bad: r#"FROM python:3.12
RUN pip install --no-cache-dir flask
"#,
    good: r#"FROM python:3.12
RUN pip install --no-cache-dir flask==3.0.3
"#,
    check,
};

const WITH_VALUE: [&str; 26] = [
    "abi",
    "b",
    "build",
    "e",
    "editable",
    "extra-index-url",
    "f",
    "find-links",
    "i",
    "index-url",
    "implementation",
    "no-binary",
    "only-binary",
    "platform",
    "prefix",
    "progress-bar",
    "proxy",
    "python",
    "python-version",
    "root",
    "root-user-action",
    "src",
    "t",
    "target",
    "trusted-host",
    "upgrade-strategy",
];

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, call) in cx.calls().filter(|(_, call)| call.is_pip_install()) {
        let from_file = call.flag(&["requirement", "constraint", "c"]) || call.has_any(&["-r", "."]);
        if from_file {
            continue;
        }
        let operands = call.operands(&WITH_VALUE);
        let packages =
            operands.iter().skip_while(|arg| arg.text != "install").skip_while(|arg| arg.text == "install");
        if let Some(arg) = packages.into_iter().find(|arg| !is_fixed(&arg.text)) {
            out.report(node.place(arg.span), format!("{} has no version", arg.text));
        }
    }
}

fn is_fixed(package: &str) -> bool {
    let schemes = ["git", "hg+", "svn", "bzr+"];
    let repository = schemes.iter().any(|scheme| package.starts_with(scheme))
        && (package.contains("://") || package.starts_with("git"));
    let compared = ["==", ">=", "<=", ">", "<", "!=", "~="].iter().any(|sign| package.contains(sign));
    compared
        || (repository && package.contains('@'))
        || package.ends_with(".whl")
        || package.ends_with(".tar.gz")
        || (!repository && package.contains('/'))
}
