//! Every place where a stage or a variable is named, and which one is meant.
//!
//! Scopes are those of the language: an ARG before the first FROM is seen by FROM and by what asks for it with
//! `ARG name`; a stage sees what it and the stages it starts from set before. Which stage is which base is
//! taken from the walk of crate `lint`. A place whose bytes are not the plain name (it continues over a line,
//! or quotes stand in it) is known but can't be edited.

mod build;

use diagnostic::TextRange;
use std::collections::{BTreeMap, BTreeSet};

/// Where a variable lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Before the first FROM, and in FROM.
    Global,
    /// In a stage.
    Stage(usize),
}

/// What a place does with a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// ARG with a default.
    Arg,
    /// ARG without a default, which may ask for the global one.
    Import,
    /// ENV.
    Env,
    /// A use that the builder expands.
    Use,
    /// A use in the shell text of RUN.
    Shell,
    /// A use at run time: CMD, ENTRYPOINT, HEALTHCHECK.
    Runtime,
    /// The comment that describes an ARG.
    Comment,
}

impl Role {
    /// Whether it makes the variable.
    pub const fn declares(self) -> bool {
        matches!(self, Self::Arg | Self::Import | Self::Env)
    }
}

/// One place that names a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The name alone.
    pub range: TextRange,
    /// The name.
    pub name: String,
    /// Where it lives.
    pub place: Place,
    /// What is done with it.
    pub role: Role,
    /// The recipe sets a variable of this name before.
    pub known: bool,
    /// Something else stands in the way of knowing what is meant.
    pub doubt: Option<Doubt>,
    /// Index of the instruction in its stage.
    pub instruction: Option<usize>,
    /// All of the instruction.
    pub node: TextRange,
}

/// Why it is not certain that a place means the variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The shell text sets a variable of that name itself.
    Assigned,
    /// It stands where it does not expand; what reads the text may expand it.
    Quoted,
    /// The bytes are not the plain name.
    Split,
    /// Not a shell whose text is understood.
    Foreign,
}

/// What a place does with a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageRole {
    /// `AS name`.
    Name,
    /// FROM.
    Base,
    /// `COPY --from`.
    Copy,
    /// `RUN --mount=from=`.
    Mount,
    /// The comment that describes it.
    Comment,
}

/// One place that names a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageName {
    /// The name alone.
    pub range: TextRange,
    /// Which stage.
    pub stage: usize,
    /// What is done with it.
    pub role: StageRole,
    /// The bytes are the name: it is no number, no variable, and has no quotes in it.
    pub plain: bool,
    /// The stage in which this stands.
    pub within: usize,
    /// All of the instruction.
    pub node: TextRange,
}

/// Text of RUN that sets variables by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The instruction.
    pub node: TextRange,
    /// Its stage.
    pub stage: usize,
    /// Names that are set.
    pub names: BTreeSet<String>,
}

/// All names of a recipe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// In order of the text.
    pub variables: Vec<Variable>,
    /// In order of the text.
    pub stages: Vec<StageName>,
    /// RUNs whose text sets variables.
    pub assigned: Vec<Assigned>,
    /// The stage that each stage starts from.
    pub parents: Vec<Option<usize>>,
    /// Variables set at the end of each stage, those of its bases too; with ENV among them where `true`.
    pub ends: Vec<BTreeMap<String, bool>>,
}

pub use build::build;

/// What stands at a place.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// A variable.
    Variable(&'a Variable),
    /// A stage.
    Stage(&'a StageName),
}

impl Index {
    /// What is named at a byte, the end of the name included.
    pub fn at(&self, offset: u32) -> Option<Found<'_>> {
        let touches = |range: TextRange| range.start <= offset && offset <= range.end;
        let end = self.variables.partition_point(|one| one.range.start <= offset);
        let near = self.variables[..end].iter().rev().take(4).find(|one| touches(one.range));
        if let Some(one) = near {
            return Some(Found::Variable(one));
        }
        let end = self.stages.partition_point(|one| one.range.start <= offset);
        self.stages[..end].iter().rev().take(4).find(|one| touches(one.range)).map(Found::Stage)
    }

    /// Every scope that shares the variable of this name with `place`.
    pub fn scopes(&self, name: &str, place: Place) -> BTreeSet<Place> {
        // `--build-arg` sets them all, and the global one gives its default to those without.
        let args: BTreeSet<Place> = self
            .variables
            .iter()
            .filter(|one| matches!(one.role, Role::Arg | Role::Import) && one.name == name)
            .map(|one| one.place)
            .collect();
        let from_parent = |stage: usize| {
            let parent = self.parents.get(stage).copied().flatten()?;
            self.ends.get(parent)?.contains_key(name).then_some(parent)
        };
        let mut children: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for stage in 0..self.parents.len() {
            if let Some(parent) = from_parent(stage) {
                children.entry(parent).or_default().push(stage);
            }
        }
        let mut seen = BTreeSet::new();
        let mut next = vec![place];
        while let Some(place) = next.pop() {
            if !seen.insert(place) {
                continue;
            }
            if args.contains(&place) {
                next.extend(args.iter().copied());
            }
            if let Place::Stage(stage) = place {
                next.extend(from_parent(stage).map(Place::Stage));
                next.extend(children.get(&stage).into_iter().flatten().copied().map(Place::Stage));
            }
        }
        seen
    }

    /// Every place of the variable of this name that `place` sees.
    pub fn places<'a>(&'a self, name: &'a str, place: Place) -> impl Iterator<Item = &'a Variable> {
        let scopes = self.scopes(name, place);
        self.variables
            .iter()
            .filter(move |one| one.name == name && one.known && scopes.contains(&one.place))
            .filter(|one| !matches!(one.doubt, Some(Doubt::Assigned | Doubt::Quoted)))
    }

    /// Every place of a stage.
    pub fn of_stage(&self, stage: usize) -> impl Iterator<Item = &StageName> {
        self.stages.iter().filter(move |one| one.stage == stage)
    }

    /// Where a variable is made that a place names: the nearest before it in its stage, in the stages below, or
    /// before the first FROM. For an ARG that asks for the global one that is the global one.
    pub fn declaration<'a>(&'a self, of: &'a Variable) -> Option<&'a Variable> {
        if !of.known || matches!(of.doubt, Some(Doubt::Assigned)) {
            return None;
        }
        let global = || {
            self.variables
                .iter()
                .find(|one| one.place == Place::Global && one.role.declares() && one.name == of.name)
        };
        match of.role {
            Role::Import => return global().or(Some(of)),
            Role::Arg | Role::Env => return self.variables.iter().find(|one| one.range == of.range),
            _ => {}
        }
        let Place::Stage(mut stage) = of.place else { return global() };
        let runtime = of.role == Role::Runtime;
        let mut before = if runtime { u32::MAX } else { of.node.start };
        // In one ARG a name may use those before it.
        let own =
            |one: &Variable| one.node == of.node && one.role != Role::Env && one.range.start < of.range.start;
        for _ in 0..=self.parents.len() {
            let found = self.variables.iter().rev().find(|one| {
                one.place == Place::Stage(stage)
                    && one.role.declares()
                    && one.name == of.name
                    && (!runtime || one.role == Role::Env)
                    && (one.node.start < before
                        || own(one)
                        || (of.role == Role::Comment && one.node == of.node))
            });
            if found.is_some() {
                return found;
            }
            stage = self.parents.get(stage).copied().flatten()?;
            before = u32::MAX;
        }
        None
    }
}
