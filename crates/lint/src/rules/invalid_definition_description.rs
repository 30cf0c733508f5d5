//! A comment above a stage or ARG should describe it.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "InvalidDefinitionDescription",
    aliases: &[],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::Off,
    summary: "A comment above a stage or ARG should describe it",
    why: "`# name text` straight above FROM or ARG is its description. An empty line separates other comments. BuildKit runs this check only where `check=experimental=` asks for it.",
    bad: r#"# check=experimental=InvalidDefinitionDescription

# whatever
FROM alpine:3.20 AS base
"#,
    good: r#"# check=experimental=InvalidDefinitionDescription

# base has the tools
FROM alpine:3.20 AS base
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let asked = cx.parsed.recipe.directives.check.as_ref().is_some_and(|check| {
        crate::suppress::check_options(&check.value)
            .is_ok_and(|options| options.experimental.iter().any(|name| name == "all" || name == RULE.name))
    });
    if asked || cx.options.profile != crate::Profile::Buildkit {
        out.events(Check::InvalidDefinitionDescription);
    }
}
