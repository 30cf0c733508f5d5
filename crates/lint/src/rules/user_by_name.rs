//! DL3066: USER should be a number.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "user-by-name",
    aliases: &["DL3066"],
    group: Group::Hadolint,
    severity: Severity::Info,
    default: Default::On,
    summary: "USER should be a number",
    why: "Orchestrators that refuse root can only check numbers.",
    bad: r#"FROM alpine:3.20
USER app
"#,
    good: r#"FROM alpine:3.20
USER 1000
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for node in cx.nodes.iter().filter(|node| !node.onbuild) {
        let Instruction::User(user) = node.instruction else { continue };
        let name = user.user.value.split(':').next().unwrap_or_default();
        let args = cx.state(node.stage, node.index).map(|state| state.args.clone()).unwrap_or_default();
        let globals =
            cx.parsed.recipe.meta_args.iter().flat_map(|node| &node.node.args).map(|arg| arg.key.as_str());
        let by_arg = args.iter().map(String::as_str).chain(globals).any(|arg| {
            user.user.value.contains(&format!("${arg}")) || user.user.value.contains(&format!("${{{arg}}}"))
        });
        if !name.bytes().all(|c| c.is_ascii_digit()) && !by_arg {
            out.report(user.user.range, format!("{name} is not a number"));
        }
    }
}
