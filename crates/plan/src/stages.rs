//! Stages: which there are, which are needed, what they start from, in which order they are lowered.
//!
//! The order of work follows BuildKit, because its errors and its scoping do: global ARGs, then every
//! FROM is expanded, then `--from` names are bound, then bases are resolved, then ONBUILD triggers are
//! added (which may need more bases), then the needed stages are lowered in order of the file.

mod bases;

use crate::expand;
use crate::limits::{StageLimits, check_stages};
use crate::lower::Lowering;
use crate::request::*;
use crate::state::{Env, StageState};
use crate::suggest::nearest;
use crate::{Outcome, Plan, PlanError};
use dockerfile::instruction::{Escape, Instruction, Lines, Located, Recipe, Stage};
use oci::Platform;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Index into [`Planner::nodes`].
type NodeId = usize;

/// How often ONBUILD triggers may lead to further triggers.
const MAX_TRIGGERS: usize = 1000;

/// A stage of the recipe, or an image that `--from` names.
struct Node {
    /// Name for people and for `--from`.
    name: String,
    base: Base,
    /// `--platform` of FROM, expanded.
    platform: Option<Platform>,
    lines: Lines,
    commands: Vec<Command>,
    /// ONBUILD instructions written in the stage itself; a child stage runs them.
    onbuild: Vec<String>,
    /// ONBUILD triggers were added to `commands` already.
    triggered: bool,
    ignore_cache: bool,
    /// Not a stage of the recipe.
    foreign: bool,
}

/// What a node starts from.
enum Base {
    Scratch,
    Stage(NodeId),
    /// An image name, normalised; or a named context of that name.
    Image {
        name: String,
    },
    /// A named context that replaces the whole stage.
    Context {
        name: String,
    },
}

/// An instruction with its bound sources.
#[derive(Clone)]
pub(crate) struct Command {
    pub instruction: Located<Instruction>,
    /// For COPY: the one `--from`. For RUN: one an entry of `mounts`.
    pub sources: Vec<Option<NodeId>>,
    pub from_trigger: bool,
}

pub(crate) struct Planner<'a> {
    recipe: &'a Recipe,
    request: &'a Request,
    facts: &'a Facts,
    pub escape: Escape,
    pub target_platform: Platform,
    pub global_args: Env,
    nodes: Vec<Node>,
    stage_count: usize,
    by_name: HashMap<String, NodeId>,
}

impl<'a> Planner<'a> {
    pub fn new(recipe: &'a Recipe, request: &'a Request, facts: &'a Facts) -> Result<Self, PlanError> {
        let Some(last) = recipe.stages.last() else {
            return Err(PlanError::new("dockerfile contains no stages to build")
                .hint("start a stage with FROM, such as `FROM debian:bookworm` or `FROM scratch`"));
        };
        let target_platform = request.platform.clone().unwrap_or_else(|| request.build_platform.clone());
        let target_name = request.target.clone().or_else(|| last.name.clone()).unwrap_or_default();
        let mut planner = Planner {
            recipe,
            request,
            facts,
            escape: recipe.directives.escape,
            global_args: default_args(request, &target_platform, &target_name),
            target_platform,
            nodes: Vec::new(),
            stage_count: recipe.stages.len(),
            by_name: HashMap::new(),
        };
        planner.global_args()?;
        Ok(planner)
    }

    pub fn run(mut self) -> Result<Outcome, PlanError> {
        let recipe = self.recipe;
        for stage in &recipe.stages {
            self.add_stage(stage)?;
        }
        let target = self.target()?;
        check_stages(&self.request.step_limits, self.nodes.iter().map(|n| n.name.as_str()))?;
        for stage in &recipe.stages {
            self.bind(stage)?;
        }
        self.refuse_cycles()?;
        for round in 0.. {
            let needed = self.reachable(target);
            let questions = self.open_questions(&needed)?;
            if !questions.is_empty() {
                return Ok(Outcome::Need(questions));
            }
            if !self.add_triggers(&needed)? {
                return self.lower(target, &needed);
            }
            if round > MAX_TRIGGERS {
                break;
            }
        }
        Err(PlanError::new("too many ONBUILD triggers"))
    }

    /// ARGs before the first FROM.
    fn global_args(&mut self) -> Result<(), PlanError> {
        for arg in &self.recipe.meta_args {
            for pair in &arg.node.args {
                let value = match (self.request.build_args.get(&pair.key), &pair.value) {
                    (Some(given), _) => Some(given.clone()),
                    // The default is not even looked at where a value is given.
                    (None, Some(default)) => Some(
                        expand::word(default, self.escape, &self.global_args).map_err(|e| e.at(arg.lines))?,
                    ),
                    (None, None) => None,
                };
                if let Some(value) = value {
                    self.global_args.set(&pair.key, &value);
                }
            }
        }
        Ok(())
    }

    fn add_stage(&mut self, stage: &Stage) -> Result<(), PlanError> {
        let lines = stage.from.lines;
        let written = stage.base();
        let base_name = expand::word(written, self.escape, &self.global_args).map_err(|e| e.at(lines))?;
        if base_name.is_empty() {
            return Err(PlanError::new(format!("base name ({written}) should not be blank")).at(lines).hint(
                "a variable in FROM must be a global ARG with a value, declared before the first FROM",
            ));
        }
        let platform =
            stage.platform().map(|p| self.stage_platform(p)).transpose().map_err(|e| e.at(lines))?;
        let name = stage.name.clone().unwrap_or_default();
        let base = if !name.is_empty() && self.context(&name, platform.as_ref()).is_some() {
            Base::Context { name: name.clone() }
        } else if let Some(earlier) = self.by_name.get(&base_name) {
            Base::Stage(*earlier)
        } else if base_name == "scratch" {
            Base::Scratch
        } else {
            Base::Image { name: base_name }
        };
        let id = self.nodes.len();
        self.nodes.push(Node {
            name: if name.is_empty() { format!("stage-{}", stage.index) } else { name.clone() },
            base,
            platform,
            lines,
            commands: Vec::new(),
            onbuild: Vec::new(),
            triggered: false,
            ignore_cache: match &self.request.no_cache {
                NoCache::UseCache => false,
                NoCache::All => true,
                NoCache::Stages(names) => names.iter().any(|n| n.eq_ignore_ascii_case(&name)),
            },
            foreign: false,
        });
        if !name.is_empty() {
            self.by_name.insert(name, id);
        }
        Ok(())
    }

    fn stage_platform(&self, written: &str) -> Result<Platform, PlanError> {
        let text = expand::word(written, self.escape, &self.global_args)?;
        if text.is_empty() {
            return Err(PlanError::new(format!("empty platform value from expression {written}")));
        }
        Platform::parse(&text, &self.request.build_platform)
            .map_err(|e| PlanError::new(format!("failed to parse platform {written}: {e}")).hint(e.hint()))
    }

    fn target(&self) -> Result<NodeId, PlanError> {
        let Some(target) = &self.request.target else { return Ok(self.stage_count - 1) };
        self.by_name.get(&target.to_lowercase()).copied().ok_or_else(|| {
            let names = || self.by_name.keys().map(String::as_str);
            let hint = match nearest(target, names()) {
                Some(near) => format!("did you mean {near}?"),
                None if self.by_name.is_empty() => {
                    "no stage of this recipe has a name (FROM … AS name)".into()
                }
                None => format!(
                    "the recipe has {}",
                    names().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
                ),
            };
            PlanError::new(format!("target stage {target:?} could not be found")).hint(hint)
        })
    }

    /// Bind `--from` and mount sources of a stage's instructions.
    fn bind(&mut self, stage: &Stage) -> Result<(), PlanError> {
        let mut commands = Vec::with_capacity(stage.instructions.len());
        for instruction in &stage.instructions {
            if let Instruction::Onbuild(on) = &instruction.node {
                self.nodes[stage.index].onbuild.push(on.expression.clone());
            }
            commands.push(self.command(instruction.clone(), false)?);
        }
        self.nodes[stage.index].commands = commands;
        Ok(())
    }

    fn command(
        &mut self,
        instruction: Located<Instruction>,
        from_trigger: bool,
    ) -> Result<Command, PlanError> {
        let lines = instruction.lines;
        let sources = match &instruction.node {
            Instruction::Copy(copy) => match &copy.from {
                Some(from) if !from.value.is_empty() => {
                    vec![Some(self.copy_source(&from.value, lines).map_err(|e| e.at(lines))?)]
                }
                _ => Vec::new(),
            },
            Instruction::Run(run) => {
                let mut sources = Vec::with_capacity(run.mounts.len());
                for mount in &run.mounts {
                    sources.push(match mount_from(&mount.value) {
                        Some(from) if !from.is_empty() => Some(self.named_source(&from, lines)),
                        _ => None,
                    });
                }
                sources
            }
            _ => Vec::new(),
        };
        Ok(Command { instruction, sources, from_trigger })
    }

    fn copy_source(&mut self, from: &str, lines: Lines) -> Result<NodeId, PlanError> {
        let expanded = expand::word(from, self.escape, &Env::default());
        if expanded.as_deref() != Ok(from) {
            return Err(PlanError::new("variable expansion is not supported for --from").hint(
                "define a stage with FROM using an ARG from the global scope, and name that stage in --from",
            ));
        }
        match from.parse::<i64>() {
            Ok(index) => usize::try_from(index)
                .ok()
                .filter(|i| *i < self.stage_count)
                .ok_or_else(|| PlanError::new(format!("invalid stage index {index}"))),
            Err(_) => Ok(self.named_source(from, lines)),
        }
    }

    /// A stage, wherever it stands, else an image.
    fn named_source(&mut self, from: &str, lines: Lines) -> NodeId {
        if let Some(id) = self.by_name.get(&from.to_lowercase()) {
            return *id;
        }
        let id = self.nodes.len();
        self.nodes.push(Node {
            name: from.to_string(),
            base: if from == "scratch" { Base::Scratch } else { Base::Image { name: from.to_string() } },
            platform: None,
            lines,
            commands: Vec::new(),
            onbuild: Vec::new(),
            triggered: true,
            ignore_cache: false,
            foreign: true,
        });
        id
    }

    fn dependencies(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let base = match self.nodes[id].base {
            Base::Stage(base) => Some(base),
            _ => None,
        };
        base.into_iter().chain(self.sources_of(id))
    }

    /// The stages that a stage copies and mounts from.
    fn sources_of(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let node = &self.nodes[id];
        let replaced = matches!(node.base, Base::Context { .. });
        node.commands.iter().filter(move |_| !replaced).flat_map(|c| c.sources.iter().flatten().copied())
    }

    /// Cycles of COPY and mounts. One that leads through a FROM shows later, as a source that is not yet there.
    fn refuse_cycles(&self) -> Result<(), PlanError> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; self.nodes.len()];
        // Depth first without recursion: a recipe may have very many stages.
        for start in 0..self.stage_count {
            let mut path = vec![(start, self.sources_of(start).collect::<Vec<_>>())];
            if marks[start] != Mark::New {
                continue;
            }
            marks[start] = Mark::Open;
            while let Some((id, todo)) = path.last_mut() {
                match todo.pop() {
                    None => {
                        marks[*id] = Mark::Done;
                        path.pop();
                    }
                    Some(next) if marks[next] == Mark::Open => {
                        let user = &self.nodes[*id];
                        let lines = user
                            .commands
                            .iter()
                            .rfind(|c| c.sources.contains(&Some(next)))
                            .map_or(user.lines, |c| c.instruction.lines);
                        let name = &self.nodes[next].name;
                        return Err(PlanError::new(format!("circular dependency detected on stage: {name}"))
                            .at(lines)
                            .hint("a stage can only copy from stages that do not need it themselves"));
                    }
                    Some(next) if marks[next] == Mark::New => {
                        marks[next] = Mark::Open;
                        let deps = self.sources_of(next).collect();
                        path.push((next, deps));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }

    fn reachable(&self, target: NodeId) -> BTreeSet<NodeId> {
        let mut seen = BTreeSet::new();
        let mut todo = vec![target];
        while let Some(id) = todo.pop() {
            if seen.insert(id) {
                todo.extend(self.dependencies(id));
            }
        }
        seen
    }

    /// Put ONBUILD triggers of the bases in front of the commands. True if any was added.
    fn add_triggers(&mut self, needed: &BTreeSet<NodeId>) -> Result<bool, PlanError> {
        let mut added = false;
        for &id in needed {
            if std::mem::replace(&mut self.nodes[id].triggered, true) {
                continue;
            }
            let triggers = match self.nodes[id].base {
                Base::Stage(base) => self.nodes[base].onbuild.clone(),
                Base::Image { .. } => {
                    self.image_fact(id).map(|f| f.config.config.on_build.clone()).unwrap_or_default()
                }
                Base::Scratch | Base::Context { .. } => Vec::new(),
            };
            if triggers.is_empty() {
                continue;
            }
            if triggers.len() > MAX_TRIGGERS {
                return Err(PlanError::new("too many ONBUILD triggers").at(self.nodes[id].lines));
            }
            let lines = self.nodes[id].lines;
            let mut commands = Vec::with_capacity(triggers.len());
            for text in &triggers {
                let mut instruction = dockerfile::parse_instruction(text).map_err(|e| {
                    PlanError::new(format!("ONBUILD trigger {text:?}: {}", e.message)).at(lines)
                })?;
                instruction.lines = lines;
                commands.push(self.command(instruction, true)?);
            }
            commands.append(&mut self.nodes[id].commands);
            self.nodes[id].commands = commands;
            added = true;
        }
        if added {
            self.refuse_cycles()?;
        }
        Ok(added)
    }

    fn lower(self, target: NodeId, needed: &BTreeSet<NodeId>) -> Result<Outcome, PlanError> {
        let epoch = self.epoch()?;
        let mut lowering = Lowering::new(self.request, &self.global_args, self.escape, epoch);
        let mut states: BTreeMap<NodeId, StageState> = BTreeMap::new();
        // Images first: a stage may copy from one that is named later in the recipe.
        let order = needed
            .iter()
            .filter(|id| self.nodes[**id].foreign)
            .chain(needed.iter().filter(|id| !self.nodes[**id].foreign));
        let lone = self.nodes.len() == 1;
        for &id in order {
            let node = &self.nodes[id];
            let mut state = self.initial_state(id, &states, &mut lowering).map_err(|e| e.at(node.lines))?;
            if !matches!(node.base, Base::Context { .. }) && !node.foreign {
                let name = if lone { "" } else { node.name.as_str() };
                let limits = StageLimits::of(&self.request.step_limits, &node.name, id);
                lowering.begin_stage(name, node.ignore_cache, steps(node), limits);
                for command in &node.commands {
                    let lines = command.instruction.lines;
                    let sources =
                        self.source_states(command, &states, &node.name).map_err(|e| e.at(lines))?;
                    lowering.instruction(&mut state, command, &sources).map_err(|e| e.at(lines))?;
                }
                lowering.end_stage(&node.name)?;
            }
            states.insert(id, state);
        }
        let mut state =
            states.remove(&target).ok_or_else(|| PlanError::new("internal error: target not lowered"))?;
        state.image.config.labels.extend(self.request.labels.clone());
        if let Some(platform) = &self.request.platform {
            if (platform.os == "windows") != (state.platform.os == "windows") {
                let message =
                    format!("{platform} was asked for, but this stage makes an image for {}", state.platform);
                return Err(PlanError::new(message)
                    .hint("layers of Windows images have another form: COPY the files into a stage of that platform")
                    .at(self.nodes[target].lines));
            }
            let same = platform.os == state.image.os && platform.architecture == state.image.architecture;
            state.image.os = platform.os.clone();
            state.image.architecture = platform.architecture.clone();
            if platform.variant.is_some() || !same {
                state.image.variant = platform.variant.clone();
            }
            // What a Windows image runs on is decided by the base it was made from, not by the host that was asked for.
            let inherits = same && platform.os == "windows" && state.image.os_version.is_some();
            if (platform.os_version.is_some() || !same) && !inherits {
                state.image.os_version = platform.os_version.clone();
            }
            if !platform.os_features.is_empty() && !inherits {
                state.image.os_features = platform.os_features.clone();
            }
        }
        let platform = state.image.platform().normalize();
        state.image.set_platform(&platform);
        let result = lowering.as_root(&mut state);
        let unused_args = self.unused_args();
        Ok(Outcome::Plan(Box::new(Plan {
            platform,
            graph: lowering.finish(),
            result,
            config: state.image,
            base: state.base,
            epoch,
            unused_args,
        })))
    }

    fn epoch(&self) -> Result<Option<i64>, PlanError> {
        const NAME: &str = "SOURCE_DATE_EPOCH";
        let value =
            self.request.build_args.get(NAME).map(String::as_str).or_else(|| self.global_args.get(NAME));
        match value {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                PlanError::new(format!("invalid SOURCE_DATE_EPOCH {text:?}"))
                    .hint("it is a number of seconds since 1970-01-01 UTC, such as the output of `date +%s`")
            }),
        }
    }

    /// `--build-arg`s that no ARG of the recipe names and that mean nothing by themselves.
    fn unused_args(&self) -> Vec<String> {
        let mut declared: BTreeSet<&str> = BTreeSet::new();
        for arg in &self.recipe.meta_args {
            declared.extend(arg.node.args.iter().map(|a| a.key.as_str()));
        }
        for command in self.nodes.iter().flat_map(|n| &n.commands) {
            if let Instruction::Arg(arg) = &command.instruction.node {
                declared.extend(arg.args.iter().map(|a| a.key.as_str()));
            }
        }
        let predefined = |name: &str| {
            name == "SOURCE_DATE_EPOCH"
                || name.starts_with("BUILDKIT_")
                || crate::lower::is_proxy(name)
                || default_args(self.request, &self.target_platform, "").get(name).is_some()
        };
        self.request
            .build_args
            .keys()
            .filter(|k| !declared.contains(k.as_str()) && !predefined(k))
            .cloned()
            .collect()
    }

    fn source_states<'s>(
        &self,
        command: &Command,
        states: &'s BTreeMap<NodeId, StageState>,
        stage: &str,
    ) -> Result<Vec<Option<&'s StageState>>, PlanError> {
        let find = |id: &Option<NodeId>| {
            match id {
            None => Ok(None),
            Some(id) => states.get(id).map(Some).ok_or_else(|| {
                let from = &self.nodes[*id].name;
                let message = match &command.instruction.node {
                    Instruction::Copy(_) => format!(
                        "cannot copy from stage {from:?}, it needs to be defined before current stage {stage:?}"
                    ),
                    _ => format!("cannot mount from stage {from:?}, it needs to be defined before current stage {stage:?}"),
                };
                PlanError::new(message)
            }),
        }
        };
        command.sources.iter().map(find).collect()
    }
}

/// Steps that progress counts: the base image and everything that makes a layer.
fn steps(node: &Node) -> usize {
    let base = usize::from(matches!(node.base, Base::Image { .. }));
    base + node
        .commands
        .iter()
        .filter(|c| {
            matches!(
                c.instruction.node,
                Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) | Instruction::Workdir(_)
            )
        })
        .count()
}

/// `from` of an unexpanded `--mount` value; it may not hold variables, so it can be read early.
pub(crate) fn mount_from(text: &str) -> Option<String> {
    let field = text
        .split(',')
        .map(|f| f.trim_matches('"'))
        .rfind(|f| f.split_once('=').is_some_and(|(key, _)| key.eq_ignore_ascii_case("from")))?;
    field.split_once('=').map(|(_, value)| value.to_string())
}

/// The automatic platform ARGs.
fn default_args(request: &Request, target: &Platform, stage: &str) -> Env {
    let build = &request.build_platform;
    let text = |v: &Option<String>| v.clone().unwrap_or_default();
    let stage = if stage.is_empty() { "default" } else { stage };
    let short =
        |p: &Platform| Platform { os_version: None, os_features: Vec::new(), ..p.clone() }.to_string();
    let values = [
        ("BUILDPLATFORM", short(build)),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", text(&build.os_version)),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", text(&build.variant)),
        ("TARGETPLATFORM", target.to_string()),
        ("TARGETOS", target.os.clone()),
        ("TARGETOSVERSION", text(&target.os_version)),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", text(&target.variant)),
        ("TARGETSTAGE", stage.to_string()),
    ];
    let mut env = Env::default();
    for (name, value) in values {
        env.set(name, request.build_args.get(name).map_or(value.as_str(), String::as_str));
    }
    env
}
