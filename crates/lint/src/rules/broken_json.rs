//! This looks like a JSON array but is none.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "broken-json",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Warning,
    default: Default::On,
    summary: "This looks like a JSON array but is none",
    why: "What can't be read as JSON is taken as shell text or as paths: single quotes, missing commas and trailing commas are the usual reasons.",
    bad: r#"FROM alpine:3.20
CMD ['a', 'b']
"#,
    good: r#"FROM alpine:3.20
CMD ["a", "b"]
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for node in &cx.nodes {
        let text = match node.instruction {
            Instruction::Cmd(dockerfile::Cmd { command: Command::Shell(text) })
            | Instruction::Entrypoint(dockerfile::Entrypoint { command: Command::Shell(text) }) => text,
            Instruction::Run(run) => match &run.command {
                Command::Shell(text) if run.heredocs.is_empty() => text,
                _ => continue,
            },
            _ => continue,
        };
        let value = text.value.trim();
        let test = value.starts_with("[ ") && value.ends_with(" ]") && !value.contains(',');
        if !value.starts_with('[') || !value.ends_with(']') || value.starts_with("[[") || test {
            continue;
        }
        let finding = out.report(text.range, "this is no JSON: it is taken as shell text");
        let fixed = value.replace('\'', "\"");
        let same = cx.source().slice(text.range) == text.value;
        if same && !value.contains('"') && serde_json::from_str::<Vec<String>>(&fixed).is_ok() {
            finding.fix(Fix::replace("use double quotes", Applicability::Unsafe, text.range, fixed));
        }
    }
}
