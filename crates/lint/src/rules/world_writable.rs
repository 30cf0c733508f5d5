//! Files should not be writable for everyone.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "world-writable",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Files should not be writable for everyone",
    why: "chmod 777 lets any process in the container change the file.",
    bad: r#"FROM alpine:3.20
RUN chmod 777 /a
"#,
    good: r#"FROM alpine:3.20
RUN chmod 755 /a
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let open = |mode: &str| {
        let digits = mode.trim_start_matches('0');
        matches!(digits, "777" | "666")
            || mode.ends_with("777") && mode.len() == 4 && !mode.starts_with('1')
            || mode == "a+rwx"
            || mode == "ugo+rwx"
    };
    for (node, call) in cx.calls().filter(|(_, call)| call.name == "chmod") {
        if let Some(arg) = call.operands(&[]).first().filter(|arg| open(&arg.text)) {
            out.report(node.place(arg.span), format!("mode {} lets everyone write", arg.text));
        }
    }
    for node in &cx.nodes {
        let mode = match node.instruction {
            Instruction::Copy(copy) => &copy.chmod,
            Instruction::Add(add) => &add.chmod,
            _ => continue,
        };
        if let Some(mode) = mode.as_ref().filter(|mode| open(&mode.value)) {
            out.report(mode.range, format!("mode {} lets everyone write", mode.value));
        }
    }
}
