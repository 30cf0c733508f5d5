//! DL3022: COPY --from should name an earlier stage.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "unknown-from",
    aliases: &["DL3022"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "COPY --from should name an earlier stage",
    why: "Another name is taken as an image, which is fetched, with the tag latest where it has none.",
    bad: r#"FROM alpine:3.20
COPY --from=build /a /a
"#,
    good: r#"FROM alpine:3.20 AS build
FROM alpine:3.20
COPY --from=build /a /a
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let mut names = std::collections::HashSet::new();
    let mut stages = cx.stages().iter().peekable();
    for node in cx.nodes.iter().filter(|node| !node.onbuild) {
        while let Some(stage) = stages.next_if(|stage| stage.index <= node.stage) {
            names.extend(stage.name.as_deref());
        }
        let Instruction::Copy(copy) = node.instruction else { continue };
        let Some(from) = &copy.from else { continue };
        let name = from.value.trim_matches(['"', '\'']);
        let known = names.contains(name.to_lowercase().as_str());
        let index = name.parse::<usize>().is_ok_and(|index| index <= node.stage);
        if !known && !index && !name.contains(':') {
            out.report(from.range, format!("no earlier stage is called {name:?}"));
        }
    }
}
