//! DL3025: CMD, ENTRYPOINT and HEALTHCHECK should be JSON arrays.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "json-arguments",
    aliases: &["DL3025"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::Off,
    summary: "CMD, ENTRYPOINT and HEALTHCHECK should be JSON arrays",
    why: "In shell form a shell is process 1 and passes no signals on. JSONArgsRecommended says the same, but not where SHELL is set.",
    bad: r#"FROM alpine:3.20
CMD nginx
"#,
    good: r#"FROM alpine:3.20
CMD ["nginx"]
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for node in cx.nodes.iter().filter(|node| !node.onbuild) {
        let command = match node.instruction {
            Instruction::Cmd(cmd) => &cmd.command,
            Instruction::Entrypoint(entrypoint) => &entrypoint.command,
            Instruction::Healthcheck(dockerfile::Healthcheck::Check(check)) => &check.command,
            _ => continue,
        };
        if matches!(command, Command::Shell(_)) {
            let finding = out.report(
                node.located.keyword.range,
                format!("{} is not a JSON array", node.instruction.name()),
            );
            if let Some(fix) = super::shared::exec_form(cx, node) {
                finding.fix(fix);
            }
        }
    }
}
