//! DL3044: A variable can't be used in the ENV that sets it.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "env-refers-to-itself",
    aliases: &["DL3044"],
    group: Group::Hadolint,
    severity: Severity::Error,
    default: Default::On,
    summary: "A variable can't be used in the ENV that sets it",
    why: "All values of one ENV see the variables of before it.",
    bad: r#"FROM alpine:3.20
ENV A=1 B=$A
"#,
    good: r#"FROM alpine:3.20
ENV A=1
ENV B=$A
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for node in cx.nodes.iter().filter(|node| !node.onbuild) {
        let Instruction::Env(env) = node.instruction else { continue };
        let before = cx.state(node.stage, node.index);
        for (index, pair) in env.pairs.iter().enumerate() {
            let set = before
                .is_some_and(|state| state.env.0.contains_key(&pair.key) || state.args.contains(&pair.key));
            // What is set twice is not added to: the second value knows nothing of the first.
            let again = |other: usize| other > index && env.pairs[other].key == pair.key;
            let mut others = env.pairs.iter().enumerate().filter(|(other, _)| *other != index);
            let mut others = others.by_ref().filter(|(other, _)| !set || again(*other));
            if let Some((_, user)) = others.find(|(_, other)| uses(&other.value, &pair.key)) {
                out.report(user.range, format!("{} is set by the same ENV and not known yet", pair.key));
            }
        }
    }
}

fn uses(value: &str, name: &str) -> bool {
    let plain = format!("${name}");
    let next = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    value.contains(&format!("${{{name}}}"))
        || value.match_indices(&plain).any(|(at, _)| !next(&value[at + plain.len()..]))
}
