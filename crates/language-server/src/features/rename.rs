//! Another name for a stage or a variable, or why not.
//!
//! The proof: after the change the recipe must have the same instructions, every name must mean what it meant,
//! and every variable must have the value it had, the new name taken for the old. Anything else is refused
//! with its reason.

use super::View;
use super::navigate::role_name;
use crate::analysis::Analysis;
use crate::edits;
use crate::index::{Doubt, Found, Index, Place, StageName, Variable};
use crate::message::Failure;
use crate::scan;
use diagnostic::TextRange;
use lint::semantics::{Base, Env};
use std::collections::BTreeSet;

/// Variables that mean something to the builder or to every program.
const MEANINGFUL: [&str; 20] = [
    "PATH",
    "HOME",
    "HOSTNAME",
    "TERM",
    "SHELL",
    "USER",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
    "SOURCE_DATE_EPOCH",
    "TARGETSTAGE",
    "IFS",
    "PWD",
];

/// Whether the builder itself sets or reads a variable.
pub fn is_predefined(name: &str) -> bool {
    let platform = ["TARGET", "BUILD"].iter().filter_map(|side| name.strip_prefix(side));
    let mut platform =
        platform.filter(|rest| ["PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT"].contains(rest));
    MEANINGFUL.contains(&name) || name.starts_with("BUILDKIT_") || platform.next().is_some()
}

/// What would be renamed: the range of the name and the name.
///
/// # Errors
/// Why it can't be renamed.
pub fn prepare(view: &View<'_>, offset: u32) -> Result<Option<(TextRange, String)>, Failure> {
    match view.analysis.index.at(offset) {
        Some(Found::Variable(one)) => {
            variable_places(view, one)?;
            Ok(Some((one.range, one.name.clone())))
        }
        Some(Found::Stage(one)) => {
            stage_places(view, one)?;
            Ok(Some((one.range, view.slice(one.range).to_owned())))
        }
        None => Ok(None),
    }
}

/// The edits that give another name.
///
/// # Errors
/// Why it can't be done.
pub fn rename(view: &View<'_>, offset: u32, new: &str) -> Result<Vec<(TextRange, String)>, Failure> {
    let index = &view.analysis.index;
    let (mut places, change) = match index.at(offset) {
        Some(Found::Variable(one)) => {
            if scan::name_length(new) != new.len() || new.is_empty() {
                return Err(Failure::refused(format!("{new:?} is no name of a variable")));
            }
            if is_predefined(new) {
                return Err(Failure::refused(format!(
                    "{new} is a name that the builder or every program knows"
                )));
            }
            let places = variable_places(view, one)?;
            let scopes = index.scopes(&one.name, one.place);
            taken(view, new, &scopes)?;
            (places, Change::Variable { old: &one.name, new, scopes })
        }
        Some(Found::Stage(one)) => {
            check_stage_name(view, new)?;
            (stage_places(view, one)?, Change::Stage)
        }
        None => return Err(Failure::refused("there is no name of a stage or variable here")),
    };
    places.sort();
    places.dedup();
    let edits: Vec<(TextRange, String)> = places.into_iter().map(|range| (range, new.to_owned())).collect();
    let text = edits::apply(view.text.as_str(), &edits)
        .ok_or_else(|| Failure::new(Failure::INTERNAL, "places of a name overlap"))?;
    let name = view.analysis.parsed.source.name();
    let after = Analysis::new(name, &text, view.analysis.options.clone());
    prove(view.analysis, &after, &change)
        .map_err(|why| Failure::refused(format!("the recipe would mean something else: {why}")))?;
    Ok(edits)
}

fn line(view: &View<'_>, range: TextRange) -> u32 {
    view.analysis.parsed.source.line_of(range.start)
}

fn variable_places(view: &View<'_>, one: &Variable) -> Result<Vec<TextRange>, Failure> {
    let index = &view.analysis.index;
    let name = &one.name;
    if is_predefined(name) {
        return Err(Failure::refused(format!("{name} is a name that the builder or every program knows")));
    }
    if matches!(one.doubt, Some(Doubt::Assigned)) {
        return Err(Failure::refused(format!("{name} is a variable of the shell text here")));
    }
    if !one.known {
        return Err(Failure::refused(format!("{name} is not set in this recipe")));
    }
    let scopes = index.scopes(name, one.place);
    for run in &index.assigned {
        if run.names.contains(name) && scopes.contains(&Place::Stage(run.stage)) {
            let line = line(view, run.node);
            return Err(Failure::refused(format!("the shell text on line {line} sets {name} too")));
        }
    }
    let mut out = Vec::new();
    for place in index
        .variables
        .iter()
        .filter(|place| place.name == *name && place.known && scopes.contains(&place.place))
    {
        let line = line(view, place.range);
        match place.doubt {
            None => out.push(place.range),
            Some(Doubt::Quoted) => {
                return Err(Failure::refused(format!(
                    "line {line} has {name} in quotes: what reads it can't be told"
                )));
            }
            Some(Doubt::Split) => {
                return Err(Failure::refused(format!("{name} on line {line} is not written in one piece")));
            }
            Some(Doubt::Foreign) => {
                return Err(Failure::refused(format!(
                    "line {line} names {name} in a shell that is not understood"
                )));
            }
            Some(Doubt::Assigned) => {
                return Err(Failure::refused(format!("the shell text on line {line} sets {name} too")));
            }
        }
    }
    Ok(out)
}

/// Whether the new name is in use where the old one lives.
fn taken(view: &View<'_>, new: &str, scopes: &BTreeSet<Place>) -> Result<(), Failure> {
    let index = &view.analysis.index;
    let other = index.variables.iter().find(|one| one.name == new && scopes.contains(&one.place));
    if let Some(other) = other {
        let line = line(view, other.range);
        let what = if other.role.declares() { role_name(other.role) } else { "a variable" };
        return Err(Failure::refused(format!("{new} is {what} on line {line} already")));
    }
    let run = index
        .assigned
        .iter()
        .find(|run| run.names.contains(new) && scopes.contains(&Place::Stage(run.stage)));
    match run {
        Some(run) => Err(Failure::refused(format!(
            "the shell text on line {} sets {new} already",
            line(view, run.node)
        ))),
        None => Ok(()),
    }
}

fn check_stage_name(view: &View<'_>, new: &str) -> Result<(), Failure> {
    let lower = new.to_lowercase();
    let fits = lower.starts_with(|c: char| c.is_ascii_lowercase())
        && lower.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'));
    if !fits {
        return Err(Failure::refused(format!("{new:?} is no name of a stage")));
    }
    if matches!(lower.as_str(), "scratch" | "context") {
        return Err(Failure::refused(format!("{new} is reserved")));
    }
    let recipe = &view.analysis.parsed.recipe;
    if let Some(stage) = recipe.stages.iter().find(|stage| stage.name.as_deref() == Some(&lower)) {
        let line = stage.from.lines.first;
        return Err(Failure::refused(format!("the stage on line {line} is called {new} already")));
    }
    Ok(())
}

fn stage_places(view: &View<'_>, one: &StageName) -> Result<Vec<TextRange>, Failure> {
    let recipe = &view.analysis.parsed.recipe;
    let stage = recipe.stages.get(one.stage).ok_or_else(|| Failure::refused("there is no such stage"))?;
    let Some(name) = &stage.name else {
        return Err(Failure::refused("the stage has no name"));
    };
    if recipe.stages.iter().filter(|other| other.name.as_ref() == Some(name)).count() > 1 {
        return Err(Failure::refused(format!("several stages are called {name}")));
    }
    let mut out = Vec::new();
    for place in view.analysis.index.of_stage(one.stage) {
        let text = view.slice(place.range);
        if place.plain {
            out.push(place.range);
        } else if text.parse::<usize>().is_err() {
            let line = line(view, place.range);
            return Err(Failure::refused(format!("line {line} names the stage by {text}")));
        } else if place.range == one.range {
            return Err(Failure::refused("the stage is named by its number here"));
        }
    }
    Ok(out)
}

enum Change<'a> {
    Variable { old: &'a str, new: &'a str, scopes: BTreeSet<Place> },
    Stage,
}

impl Change<'_> {
    /// A name after the change as it was before.
    fn back<'n>(&'n self, name: &'n str, place: Place) -> &'n str {
        match self {
            Self::Variable { old, new, scopes } if name == *new && scopes.contains(&place) => old,
            _ => name,
        }
    }

    /// Whether variables are those of before.
    fn same(&self, before: &Env, after: &Env, place: Place) -> bool {
        before.0.len() == after.0.len()
            && after.0.iter().all(|(name, value)| {
                let name = self.back(name, place);
                // TARGETSTAGE is the name of a stage.
                name == "TARGETSTAGE" || before.0.get(name) == Some(value)
            })
    }
}

fn prove(before: &Analysis, after: &Analysis, change: &Change<'_>) -> Result<(), String> {
    let kinds = |analysis: &Analysis| analysis.parsed.errors.len();
    if kinds(before) != kinds(after) || before.parsed.statements.len() != after.parsed.statements.len() {
        return Err("it would have other errors".into());
    }
    same_names(&before.index, &after.index, change)?;
    if !change.same(&before.semantics.globals, &after.semantics.globals, Place::Global) {
        return Err("ARGs before the first FROM would have other values".into());
    }
    let stages = before.semantics.stages.iter().zip(&after.semantics.stages).enumerate();
    if before.semantics.stages.len() != after.semantics.stages.len() {
        return Err("it would have other stages".into());
    }
    for (index, (old, new)) in stages {
        let bases = match (&old.base, &new.base) {
            (Base::Image(old), Base::Image(new)) => old == new,
            (old, new) => old == new,
        };
        if !bases || old.reads != new.reads {
            return Err(format!("stage {index} would take files from somewhere else"));
        }
        let place = Place::Stage(index);
        let states = old.before.iter().chain([&old.end]).zip(new.before.iter().chain([&new.end]));
        for (old, new) in states {
            let same = change.same(&old.env, &new.env, place)
                && change.same(&old.image_env, &new.image_env, place)
                && old.workdir == new.workdir
                && old.user == new.user
                && old.shell == new.shell;
            if !same {
                return Err(format!("variables of stage {index} would have other values"));
            }
        }
    }
    Ok(())
}

/// Every name must be where it was and mean what it meant.
fn same_names(before: &Index, after: &Index, change: &Change<'_>) -> Result<(), String> {
    if before.variables.len() != after.variables.len() || before.stages.len() != after.stages.len() {
        return Err("another name would be caught".into());
    }
    for (old, new) in before.variables.iter().zip(&after.variables) {
        let same = old.name == change.back(&new.name, new.place)
            && (old.place, old.role, old.known, old.doubt) == (new.place, new.role, new.known, new.doubt);
        if !same {
            return Err(format!("{} would mean something else", new.name));
        }
    }
    for (old, new) in before.stages.iter().zip(&after.stages) {
        if (old.stage, old.role, old.plain, old.within) != (new.stage, new.role, new.plain, new.within) {
            return Err("a stage would be caught by its new name".into());
        }
    }
    if before.parents != after.parents {
        return Err("a stage would start from another".into());
    }
    Ok(())
}
