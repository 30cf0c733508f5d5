//! Where a name is made and where it is used.

use super::View;
use crate::index::{Doubt, Found, Role, StageRole};
use diagnostic::TextRange;
use serde_json::{Value, json};

/// Where the name at a place is made.
pub fn definition(view: &View<'_>, offset: u32) -> Option<TextRange> {
    let index = &view.analysis.index;
    match index.at(offset)? {
        Found::Variable(one) => index.declaration(one).map(|one| one.range),
        Found::Stage(one) => Some(stage_name(view, one.stage)?.1),
    }
}

/// The FROM of a stage: all of it, and its name or what stands for it.
pub fn stage_name(view: &View<'_>, stage: usize) -> Option<(TextRange, TextRange)> {
    let from = &view.analysis.parsed.recipe.stages.get(stage)?.from;
    Some((from.range, from.node.name.as_ref().map_or(from.keyword.range, |word| word.range)))
}

/// Every place of the name at a place, with whether it makes it.
pub fn places(view: &View<'_>, offset: u32) -> Vec<(TextRange, bool)> {
    let index = &view.analysis.index;
    match index.at(offset) {
        Some(Found::Variable(one)) if one.doubt == Some(Doubt::Assigned) => index
            .variables
            .iter()
            .filter(|other| other.name == one.name && other.node == one.node && other.doubt == one.doubt)
            .map(|other| (other.range, false))
            .collect(),
        Some(Found::Variable(one)) if one.known => {
            index.places(&one.name, one.place).map(|one| (one.range, one.role.declares())).collect()
        }
        // A variable that the recipe does not make, such as one of the base image: where else it is used there.
        Some(Found::Variable(one)) => index
            .variables
            .iter()
            .filter(|other| other.name == one.name && other.place == one.place && !other.known)
            .map(|other| (other.range, false))
            .collect(),
        Some(Found::Stage(one)) => {
            let mut out: Vec<(TextRange, bool)> =
                index.of_stage(one.stage).map(|one| (one.range, one.role == StageRole::Name)).collect();
            if out.iter().all(|(_, name)| !name)
                && let Some((_, range)) = stage_name(view, one.stage)
            {
                out.push((range, true));
                out.sort();
            }
            out
        }
        None => Vec::new(),
    }
}

/// References as locations.
pub fn references(view: &View<'_>, offset: u32, declarations: bool) -> Vec<Value> {
    let places = places(view, offset).into_iter().filter(|(_, makes)| declarations || !makes);
    places.map(|(range, _)| view.location(range)).collect()
}

/// The same for the document on the screen: written or read.
pub fn highlights(view: &View<'_>, offset: u32) -> Vec<Value> {
    places(view, offset)
        .into_iter()
        .map(|(range, makes)| json!({"range": view.text.range(range), "kind": if makes { 3 } else { 2 }}))
        .collect()
}

/// How a declaration is called in words.
pub const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Env => "ENV",
        _ => "ARG",
    }
}
