//! DL3026: Images should come from trusted registries.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "trusted-registry",
    aliases: &["DL3026"],
    group: Group::Hadolint,
    severity: Severity::Error,
    default: Default::On,
    summary: "Images should come from trusted registries",
    why: "Which ones those are says `trusted-registries` in the configuration; without it this rule is silent.",
    bad: "",
    good: r#"FROM alpine:3.20
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let allowed = &cx.options.trusted_registries;
    if allowed.is_empty() {
        return;
    }
    let trusts = |image: &str| {
        let Ok(reference) = oci::Reference::parse(image) else { return true };
        let host = reference.domain();
        allowed.iter().any(|allow| match (allow.strip_prefix('*'), allow.strip_suffix('*')) {
            _ if allow == "*" => true,
            (Some(end), _) => host.ends_with(end),
            (_, Some(start)) => host.starts_with(start),
            _ => host == allow || (host == "docker.io" && allow == "hub.docker.com"),
        })
    };
    for (stage, from) in cx.froms() {
        if let Some(crate::semantics::Base::Image(image)) = cx.facts(stage.index).map(|facts| &facts.base)
            && !trusts(image)
        {
            out.report(from.node.base.range, format!("{image} is of no trusted registry"));
        }
    }
    for node in &cx.nodes {
        let Instruction::Copy(copy) = node.instruction else { continue };
        let Some(from) = &copy.from else { continue };
        let stage =
            cx.stages().iter().any(|stage| stage.name.as_deref() == Some(from.value.to_lowercase().as_str()));
        if !stage && from.value.parse::<usize>().is_err() && !trusts(&from.value) {
            out.report(from.range, format!("{} is of no trusted registry", from.value));
        }
    }
}
