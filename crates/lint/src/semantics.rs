//! What the builder will make of a recipe, as far as that is known without a registry: variables, stages,
//! working folders, users, shells, and the facts BuildKit's checks are about.
//!
//! The walk has BuildKit's order (its Dockerfile frontend, `dockerfile2llb`), every stage is a target, and
//! base images are taken as empty. Where BuildKit would stop with an error, the place is remembered in
//! [`Semantics::fatal`] and the walk goes on, so that one fault does not hide others.

mod platform;
mod stage;

pub use platform::guess as guess_platform;
pub(crate) use platform::is_windows_image as is_windows_name;
pub(crate) use stage::is_remote;

use diagnostic::TextRange;
use dockerfile::word::{Lexer, Variables};
use dockerfile::{Instruction, Located, Parsed, Phase, Stage, Word};
use oci::{Platform, Reference};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// BuildKit's checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Check {
    StageNameCasing,
    FromAsCasing,
    NoEmptyContinuation,
    ConsistentInstructionCasing,
    DuplicateStageName,
    ReservedStageName,
    JsonArgsRecommended,
    MaintainerDeprecated,
    UndefinedArgInFrom,
    WorkdirRelativePath,
    UndefinedVar,
    MultipleInstructionsDisallowed,
    LegacyKeyValueFormat,
    InvalidBaseImagePlatform,
    RedundantTargetPlatform,
    SecretsUsedInArgOrEnv,
    InvalidDefaultArgInFrom,
    FromPlatformFlagConstDisallowed,
    CopyIgnoredFile,
    InvalidDefinitionDescription,
    ExposeProtoCasing,
    ExposeInvalidFormat,
}

/// One fact that a check reports.
#[derive(Clone, Debug)]
pub struct Event {
    /// Which check.
    pub check: Check,
    /// The bytes it is about; they start on `line`.
    pub range: TextRange,
    /// The line BuildKit reports.
    pub line: u32,
    /// First line of the instruction whose `# check=` comment may silence it; `None` where only the
    /// directive of the file can.
    pub scope: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// A better place inside of a long instruction.
    pub detail: Option<TextRange>,
}

/// Where a build would stop.
#[derive(Clone, Debug)]
pub struct Fatal {
    /// How many events came before.
    pub events: usize,
    /// Why.
    pub message: String,
    /// Where.
    pub range: TextRange,
    /// Whether the parser or another check reports it already.
    pub known: bool,
}

/// What is set when an instruction runs.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Variables that expand: ENV and ARG.
    pub env: Rc<Env>,
    /// ENV alone, which stays in the image.
    pub image_env: Rc<Env>,
    /// WORKDIR; `None` where none was given.
    pub workdir: Option<Rc<str>>,
    /// USER; `None` where none was given.
    pub user: Option<Rc<str>>,
    /// SHELL; `None` where none was given.
    pub shell: Option<Rc<[String]>>,
    /// Names of ARG, without those of the global scope that were never asked for.
    pub args: Rc<BTreeSet<String>>,
    /// A WORKDIR was given in this recipe.
    pub workdir_set: bool,
}

/// Variables by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env(pub BTreeMap<String, String>);

impl Variables for Env {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.0.get(name).map(|value| Cow::Borrowed(value.as_str()))
    }
}

/// Where a stage starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// An earlier stage.
    Stage(usize),
    /// Nothing at all.
    Scratch,
    /// An image, variables expanded.
    Image(String),
}

/// A stage as the walk saw it.
#[derive(Clone, Debug)]
pub struct StageFacts {
    /// Where it starts from.
    pub base: Base,
    /// What is set before each instruction.
    pub before: Vec<State>,
    /// What is set at the end.
    pub end: State,
    /// Stages that COPY and RUN take files from.
    pub reads: BTreeSet<usize>,
}

/// Everything the walk found.
#[derive(Clone, Debug, Default)]
pub struct Semantics {
    /// In BuildKit's order.
    pub events: Vec<Event>,
    /// The first fault that stops a build.
    pub fatal: Option<Fatal>,
    /// Every stage.
    pub stages: Vec<StageFacts>,
    /// ARG before the first FROM, and predefined variables.
    pub globals: Env,
}

/// What the walk needs to know beside the recipe.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Target and build platform.
    pub platform: &'a Platform,
    /// Patterns of the ignore file, if there is one.
    pub ignore: Option<&'a crate::IgnoreFile>,
}

/// Walks a recipe.
pub fn walk(parsed: &Parsed, facts: &Facts<'_>) -> Semantics {
    let mut walk = Walk {
        parsed,
        facts,
        out: Semantics::default(),
        lexer: Lexer::new(parsed.recipe.directives.escape.as_char()),
        casing_lower: false,
        kept: 0,
    };
    walk.run();
    walk.out
}

pub(crate) struct Walk<'a> {
    pub parsed: &'a Parsed,
    pub facts: &'a Facts<'a>,
    pub out: Semantics,
    pub lexer: Lexer,
    casing_lower: bool,
    /// How much was remembered so far.
    pub(crate) kept: usize,
}

/// The place of an instruction, for events.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub keyword: TextRange,
    pub line: u32,
    pub range: TextRange,
}

impl<T> From<&Located<T>> for Place {
    fn from(node: &Located<T>) -> Self {
        Self { keyword: node.keyword.range, line: node.lines.first, range: node.range }
    }
}

impl<'a> Walk<'a> {
    /// Reports at `exact` if that is on the instruction's first line, else at its keyword.
    pub fn report(
        &mut self,
        check: Check,
        place: Place,
        scope: Option<u32>,
        exact: TextRange,
        message: String,
    ) {
        let same_line = self.parsed.source.line_of(exact.start) == place.line;
        let (range, detail) = if same_line { (exact, None) } else { (place.keyword, Some(exact)) };
        self.out.events.push(Event { check, range, line: place.line, scope, message, detail });
    }

    pub fn stop(&mut self, range: TextRange, message: String, known: bool) {
        if self.out.fatal.is_none() {
            self.out.fatal = Some(Fatal { events: self.out.events.len(), message, range, known });
        }
    }

    fn run(&mut self) {
        let parsed = self.parsed;
        if let Some(error) = parsed.errors.iter().find(|error| error.phase == Phase::Parse) {
            self.stop(error.range, error.buildkit_message(), true);
        }
        if let Some(text) = parsed.recipe.directives.check.as_ref()
            && let Err(message) = crate::suppress::check_options(&text.value)
        {
            self.stop(text.range, message, false);
        }
        for empty in &parsed.empty_continuations {
            let range = parsed.source.line_range(empty.line);
            let place = Place { keyword: range, line: empty.line, range };
            self.report(Check::NoEmptyContinuation, place, None, range, "empty continuation line".into());
            if let Some(event) = self.out.events.last_mut() {
                event.detail = Some(empty.range);
            }
        }
        self.statements();
        self.stage_names();
        self.casing();
        let platform = self.facts.platform.clone();
        let defaults = platform::arguments(&platform, parsed.recipe.stages.last());
        let globals = self.meta_args(defaults);
        self.default_bases(&globals);
        if let Err((range, message)) = &globals {
            self.stop(*range, message.clone(), false);
        }
        self.out.globals = globals.unwrap_or_default();
        if parsed.recipe.stages.is_empty() {
            self.stop(TextRange::default(), "dockerfile contains no stages to build".into(), true);
            return;
        }
        self.stages();
    }

    /// What BuildKit notices while it reads instructions one by one.
    fn statements(&mut self) {
        let parsed = self.parsed;
        let mut errors = parsed.errors.iter().filter(|error| error.phase == Phase::Instructions).peekable();
        for statement in &parsed.statements {
            let place = Place {
                keyword: statement.keyword.range,
                line: statement.lines.first,
                range: statement.range,
            };
            let scope = Some(statement.lines.first);
            let keyword = statement.keyword.value.as_str();
            match keyword.to_ascii_lowercase().as_str() {
                "maintainer" => {
                    let message =
                        "MAINTAINER is deprecated: use LABEL org.opencontainers.image.authors".to_owned();
                    self.report(Check::MaintainerDeprecated, place, scope, statement.keyword.range, message);
                }
                "from" => self.words_of_from(statement, place),
                _ => {}
            }
            while errors.peek().is_some_and(|error| error.lines.first == statement.lines.first) {
                if let Some(error) = errors.next() {
                    self.stop(error.range, error.buildkit_message(), true);
                }
            }
            let keys: Vec<&str> = match keyword.to_ascii_lowercase().as_str() {
                "arg" => {
                    statement.args.iter().map(|arg| arg.value.split('=').next().unwrap_or_default()).collect()
                }
                "from" => statement.args.get(2).map(|name| name.as_str()).into_iter().collect(),
                _ => continue,
            };
            let Some(comment) = statement.comments.last() else { continue };
            let lower: Vec<String> = keys.iter().map(|key| key.to_lowercase()).collect();
            let first = comment.split(' ').next().unwrap_or_default();
            let described = match keyword.eq_ignore_ascii_case("from") {
                true => lower.iter().any(|key| key == first),
                false => keys.contains(&first),
            };
            if described || keys.is_empty() {
                continue;
            }
            let name = if keys.len() > 1 { "<arg_key>" } else { keys[0] };
            let message = format!("the comment above should read `# {name} <description>`");
            self.report(Check::InvalidDefinitionDescription, place, scope, statement.keyword.range, message);
        }
    }

    fn words_of_from(&mut self, statement: &dockerfile::syntax::Statement, place: Place) {
        let scope = Some(place.line);
        let keyword = statement.keyword.value.as_str();
        if let [_, _, name] = statement.args.as_slice()
            && name.value.to_lowercase() != name.value
        {
            let message = format!("stage name {:?} should be lowercase", name.value);
            self.report(Check::StageNameCasing, place, scope, name.range, message);
        }
        let Some(word) = statement.args.get(1).filter(|_| statement.args.len() >= 3) else { return };
        let fits = match (keyword == keyword.to_lowercase(), keyword == keyword.to_uppercase()) {
            (true, _) => word.value == word.value.to_lowercase(),
            (_, true) => word.value == word.value.to_uppercase(),
            _ => true,
        };
        if !fits {
            let message = format!("`{}` and `{keyword}` should have the same case", word.value);
            self.report(Check::FromAsCasing, place, scope, word.range, message);
        }
    }

    fn stage_names(&mut self) {
        let parsed = self.parsed;
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for stage in &parsed.recipe.stages {
            let Some(name) = stage.name.as_deref() else { continue };
            let exact = stage.from.node.name.as_ref().map_or(stage.from.keyword.range, |word| word.range);
            let place = Place::from(&stage.from);
            if matches!(name, "context" | "scratch") {
                let message = format!("{name:?} is reserved and can't name a stage");
                self.report(Check::ReservedStageName, place, None, exact, message);
            }
            if !seen.insert(name) {
                let message = format!("another stage is called {name:?} too");
                self.report(Check::DuplicateStageName, place, None, exact, message);
            }
        }
    }

    fn casing(&mut self) {
        let parsed = self.parsed;
        let mut words: Vec<(&Word, Place)> = Vec::new();
        for stage in &parsed.recipe.stages {
            words.push((&stage.from.keyword, Place::from(&stage.from)));
            words.extend(stage.instructions.iter().map(|node| (&node.keyword, Place::from(node))));
        }
        let lower = words.iter().filter(|(word, _)| word.value == word.value.to_lowercase()).count();
        let upper = words
            .iter()
            .filter(|(word, _)| {
                word.value == word.value.to_uppercase() && word.value != word.value.to_lowercase()
            })
            .count();
        self.casing_lower = lower > upper;
        for (word, place) in words {
            let (fits, case) = match self.casing_lower {
                true => (word.value == word.value.to_lowercase(), "lowercase"),
                false => (word.value == word.value.to_uppercase(), "uppercase"),
            };
            if !fits {
                let message = format!("`{}` should be in {case} as most instructions are", word.value);
                self.report(Check::ConsistentInstructionCasing, place, None, word.range, message);
            }
        }
    }

    /// ARG before FROM, by their defaults.
    fn meta_args(&self, mut env: Env) -> Result<Env, (TextRange, String)> {
        for arg in self.parsed.recipe.meta_args.iter().flat_map(|node| &node.node.args) {
            let Some(value) = &arg.value else { continue };
            match self.lexer.expand(value, &env) {
                Ok(value) => env.0.insert(arg.key.clone(), value.text),
                Err(error) => return Err((arg.range, error.to_string())),
            };
        }
        Ok(env)
    }

    fn default_bases(&mut self, globals: &Result<Env, (TextRange, String)>) {
        let Ok(globals) = globals else { return };
        let parsed = self.parsed;
        for stage in &parsed.recipe.stages {
            let Ok(base) = self.lexer.expand(stage.base(), globals) else { return };
            if !is_reference(&base.text) {
                let message = format!(
                    "{} is no valid image name with the defaults of its ARGs",
                    dockerfile::word::quote(stage.base())
                );
                let exact = stage.from.node.base.range;
                self.report(Check::InvalidDefaultArgInFrom, Place::from(&stage.from), None, exact, message);
            }
        }
    }
}

/// Whether `text` can name an image.
pub(crate) fn is_reference(text: &str) -> bool {
    Reference::parse(text).is_ok()
}

/// The nearest of `options`, by BuildKit's measure.
pub(crate) fn nearest<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(usize, &str)> = None;
    for option in options {
        if option == word {
            return None;
        }
        // Where the lengths differ that much, so do the words.
        if word.chars().count().abs_diff(option.chars().count()) >= 3 {
            continue;
        }
        let distance = diagnostic::distance(word, option);
        if distance < best.map_or(3, |(best, _)| best) {
            best = Some((distance, option));
        }
    }
    best.map(|(_, option)| option)
}

/// The instructions of a stage with those that fire in it from an earlier stage's ONBUILD.
pub(crate) struct Step<'a> {
    pub instruction: &'a Instruction,
    pub place: Place,
    /// The instruction's own index; `None` for triggers.
    pub index: Option<usize>,
}

/// Steps of a stage: triggers of `base`, then its own.
pub(crate) fn steps<'a>(stage: &'a Stage, base: Option<&'a Stage>) -> Vec<Step<'a>> {
    let mut steps = Vec::new();
    for node in base.iter().flat_map(|base| &base.instructions) {
        if let Instruction::Onbuild(onbuild) = &node.node
            && let Some(trigger) = onbuild.trigger.as_deref()
        {
            let place = Place::from(&stage.from);
            steps.push(Step { instruction: trigger, place, index: None });
        }
    }
    for (index, node) in stage.instructions.iter().enumerate() {
        steps.push(Step { instruction: &node.node, place: Place::from(node), index: Some(index) });
    }
    steps
}
