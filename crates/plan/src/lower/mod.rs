//! Lowering: one instruction changes the state of its stage and adds vertices to the graph.

mod config;
mod files;
mod run;

use crate::PlanError;
use crate::expand;
use crate::limits::StageLimits;
use crate::request::Request;
use crate::stages::Command;
use crate::state::{Env, Root, StageState, drive};
use dockerfile::instruction::{Escape, Instruction, Lines, Spanned};
use graph::*;
use oci::Platform;

/// What lowering of all stages shares.
pub(crate) struct Lowering<'a> {
    request: &'a Request,
    global_args: &'a Env,
    escape: Escape,
    /// `SOURCE_DATE_EPOCH`: the time of what instructions make.
    epoch: Option<i64>,
    graph: Graph,
    /// The main context, once something uses it.
    context: Option<VertexRef>,
    proxy: Vec<(String, String)>,
    stage: StageProgress,
}

/// Numbers for `[stage 2/5]`.
struct StageProgress {
    name: String,
    done: usize,
    total: usize,
    ignore_cache: bool,
    limits: StageLimits,
}

/// Variables that RUN gets without any ARG.
pub fn is_proxy(name: &str) -> bool {
    ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"]
        .contains(&name.to_ascii_lowercase().as_str())
}

impl<'a> Lowering<'a> {
    pub fn new(request: &'a Request, global_args: &'a Env, escape: Escape, epoch: Option<i64>) -> Self {
        let mut proxy = Vec::new();
        for (name, value) in request.build_args.iter().filter(|(n, _)| is_proxy(n)) {
            for name in [name.to_ascii_uppercase(), name.to_ascii_lowercase()] {
                proxy.retain(|(n, _)| *n != name);
                proxy.push((name, value.clone()));
            }
        }
        Lowering {
            request,
            global_args,
            escape,
            epoch,
            graph: Graph::default(),
            context: None,
            proxy,
            stage: StageProgress {
                name: String::new(),
                done: 0,
                total: 0,
                ignore_cache: false,
                limits: StageLimits::default(),
            },
        }
    }

    pub fn begin_stage(&mut self, name: &str, ignore_cache: bool, total: usize, limits: StageLimits) {
        self.stage = StageProgress { name: name.to_string(), done: 0, total, ignore_cache, limits };
    }

    pub fn end_stage(&self, name: &str) -> Result<(), PlanError> {
        self.stage.limits.check(name)
    }

    pub fn finish(self) -> Graph {
        self.graph
    }

    /// `[stage 2/5] COPY a b`, counting one step further.
    fn next_name(&mut self, text: &str, platform: &Platform, from_trigger: bool) -> String {
        self.stage.done += 1;
        let mut out = String::from("[");
        if self.request.multi_platform {
            out.push_str(&format!("{platform} "));
        }
        if !self.stage.name.is_empty() {
            out.push_str(&format!("{} ", self.stage.name));
        }
        let width = self.stage.total.max(1).ilog10() as usize + 1;
        out.push_str(&format!("{:>width$}/{}] ", self.stage.done, self.stage.total));
        if from_trigger {
            out.push_str("ONBUILD ");
        }
        out.push_str(text);
        out
    }

    fn provenance(&self, name: String, lines: Lines) -> Provenance {
        Provenance {
            name,
            stage: self.stage.name.clone(),
            lines: vec![(lines.first, lines.last)],
            ignore_cache: self.stage.ignore_cache,
        }
    }

    /// Add a source vertex, or find the equal one that is there.
    pub fn source(&mut self, source: SourceOp, platform: Platform, name: String, lines: Lines) -> VertexRef {
        let same = |v: &Vertex| match &v.op {
            Op::Source(s) => *s == source && v.platform == platform,
            _ => false,
        };
        if let Some(i) = self.graph.vertices.iter().position(same) {
            return VertexRef(i as u32);
        }
        let provenance = Provenance { name, lines: vec![(lines.first, lines.last)], ..Provenance::default() };
        self.graph.push(Vertex { op: Op::Source(source), inputs: Vec::new(), platform, provenance })
    }

    fn main_context(&mut self, platform: &Platform) -> VertexRef {
        if let Some(v) = self.context {
            return v;
        }
        let op = Op::Source(SourceOp::Local(LocalSource { name: "context".into() }));
        let name = "[internal] load build context".to_string();
        let provenance = Provenance { name, ..Provenance::default() };
        let v = self.graph.push(Vertex { op, inputs: Vec::new(), platform: platform.clone(), provenance });
        self.context = Some(v);
        v
    }

    /// The root as a vertex that has layers: a local folder is copied into one.
    pub fn as_root(&mut self, state: &mut StageState) -> Option<VertexRef> {
        match state.root {
            Root::Empty => None,
            Root::Vertex(v) => Some(v),
            Root::Local(v) => {
                let selector = PathSelector::everything();
                let provenance = Provenance {
                    name: format!("{} into a layer", self.graph.get(v).provenance.name),
                    ..Provenance::default()
                };
                let vertex = Vertex {
                    op: Op::File(FileOp {
                        base: None,
                        actions: vec![FileAction::Copy(CopyAction {
                            from: CopyFrom::Input { input: 0, selector: selector.clone() },
                            dest: format!("{}/", drive(&state.platform)),
                            owner: None,
                            mode: None,
                            contents_only: true,
                            unpack: false,
                        })],
                    }),
                    inputs: vec![Input { edge: v.into(), selector: Selector::Paths(vec![selector]) }],
                    platform: state.platform.clone(),
                    provenance,
                };
                let root = self.graph.push(vertex);
                state.root = Root::Vertex(root);
                Some(root)
            }
        }
    }

    pub fn instruction(
        &mut self,
        state: &mut StageState,
        command: &Command,
        sources: &[Option<&StageState>],
    ) -> Result<(), PlanError> {
        let at = &command.instruction;
        let lower = Instr { lines: at.lines, code: &at.code, from_trigger: command.from_trigger };
        match &at.node {
            Instruction::Run(run) => self.run(state, &lower, run, sources),
            Instruction::Copy(copy) => self.copy(state, &lower, copy, sources.first().copied().flatten()),
            Instruction::Add(add) => self.add(state, &lower, add),
            Instruction::Workdir(workdir) => self.workdir(state, &lower, workdir),
            Instruction::Arg(arg) => self.arg(state, arg),
            Instruction::Env(env) => self.env(state, env),
            Instruction::Label(label) => self.label(state, label),
            Instruction::Maintainer(m) => self.maintainer(state, m),
            Instruction::Cmd(cmd) => self.cmd(state, cmd),
            Instruction::Entrypoint(entrypoint) => self.entrypoint(state, entrypoint),
            Instruction::Healthcheck(check) => self.healthcheck(state, check),
            Instruction::Expose(expose) => self.expose(state, expose),
            Instruction::User(user) => self.user(state, user),
            Instruction::Volume(volume) => self.volume(state, volume),
            Instruction::StopSignal(signal) => self.stop_signal(state, signal),
            Instruction::Shell(shell) => self.shell(state, shell),
            Instruction::Onbuild(onbuild) => self.onbuild(state, onbuild),
        }
    }

    fn word(&self, state: &StageState, word: &Spanned<String>) -> Result<String, PlanError> {
        expand::word(&word.value, self.escape, &state.env)
    }

    fn optional_word(
        &self,
        state: &StageState,
        word: &Option<Spanned<String>>,
    ) -> Result<Option<String>, PlanError> {
        // A flag without a value (`--chown=`) is as good as none.
        Ok(word.as_ref().map(|w| self.word(state, w)).transpose()?.filter(|w| !w.is_empty()))
    }
}

/// Where an instruction stands and how it reads.
pub(crate) struct Instr<'a> {
    pub lines: Lines,
    pub code: &'a str,
    pub from_trigger: bool,
}
