//! Addresses in a recipe that a browser can open: base images on the web pages of their registries, frontends,
//! and what ADD fetches.

use super::View;
use diagnostic::TextRange;
use dockerfile::Instruction;
use lint::semantics::Base;
use oci::Reference;
use serde_json::{Value, json};

/// All links.
pub fn all(view: &View<'_>) -> Vec<Value> {
    let parsed = &view.analysis.parsed;
    let mut out = Vec::new();
    let mut push = |range: TextRange, target: Option<String>| {
        if let Some(target) = target.filter(|_| !range.is_empty()) {
            out.push(json!({"range": view.text.range(range), "target": target}));
        }
    };
    if let Some(syntax) = &parsed.recipe.directives.syntax {
        let name = syntax.value.split(' ').next().unwrap_or_default();
        let line = view.slice(syntax.range);
        if let Some(at) = line.find(name).filter(|_| !name.is_empty()) {
            let start = syntax.range.start + at as u32;
            push(TextRange::new(start, start + name.len() as u32), page(name));
        }
    }
    for stage in &parsed.recipe.stages {
        if let Some(Base::Image(image)) =
            view.analysis.semantics.stages.get(stage.index).map(|facts| &facts.base)
        {
            push(stage.from.node.base.range, page(image));
        }
        for node in &stage.instructions {
            let Instruction::Add(add) = &node.node else { continue };
            for source in &add.transfer.sources {
                let is_web = ["http://", "https://"].iter().any(|scheme| source.value.starts_with(scheme));
                let is_plain = !source.value.contains(['$', '\\', '"']);
                push(source.range, (is_web && is_plain).then(|| source.value.clone()));
            }
        }
    }
    out
}

/// The page about an image, for registries that have such pages.
pub fn page(image: &str) -> Option<String> {
    let reference = Reference::parse(image).ok()?;
    let (registry, repository) = (reference.domain(), reference.path());
    Some(match registry {
        "docker.io" => match repository.strip_prefix("library/") {
            Some(name) => format!("https://hub.docker.com/_/{name}"),
            None => format!("https://hub.docker.com/r/{repository}"),
        },
        "quay.io" => format!("https://quay.io/repository/{repository}"),
        "ghcr.io" => format!("https://ghcr.io/{repository}"),
        "gcr.io" => format!("https://gcr.io/{repository}"),
        "mcr.microsoft.com" => format!("https://mcr.microsoft.com/artifact/mar/{repository}/about"),
        "public.ecr.aws" => format!("https://gallery.ecr.aws/{repository}"),
        _ => return None,
    })
}
