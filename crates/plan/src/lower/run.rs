//! RUN: a process in a container.

use super::{Instr, Lowering};
use crate::path;
use crate::request::{Entitlement, NetworkDefault};
use crate::state::{DEFAULT_PATH, MakesLayer, Root, StageState};
use crate::{PlanError, expand};
use dockerfile::instruction::{self as ast, Mount, MountType, Script, Sharing};
use graph::*;

/// Where a `#!` heredoc is mounted.
const PIPES: &str = "/dev/pipes";

impl Lowering<'_> {
    pub(super) fn run(
        &mut self,
        state: &mut StageState,
        at: &Instr<'_>,
        run: &ast::Run,
        sources: &[Option<&StageState>],
    ) -> Result<(), PlanError> {
        if state.platform.os == "windows" {
            return Err(PlanError::new("RUN in a Windows image needs a Windows machine").hint(
                "run the step in a stage of this machine's platform (FROM --platform=$BUILDPLATFORM …) and COPY its result",
            ));
        }
        let network = self.network(run.network)?;
        let security = match run.security {
            ast::Security::Sandbox => SecurityMode::Sandbox,
            ast::Security::Insecure => {
                self.require(Entitlement::SecurityInsecure)?;
                SecurityMode::Insecure
            }
        };
        if let Some(device) = run.devices.iter().find(|d| d.required) {
            return Err(PlanError::new(format!("device {} is not available", device.name))
                .hint("no CDI specification on this machine offers it; look in /etc/cdi and /var/run/cdi"));
        }

        let mut inputs = Vec::new();
        let mut mounts = Vec::new();
        let mut secret_env = Vec::new();
        let args = match run.script() {
            Script::Exec(args) => args,
            Script::Shell(text) => state.with_shell(&text),
            Script::File { name, body } => {
                let input = self.script_file(&name, body, state, at);
                inputs.push(Input {
                    edge: input.into(),
                    selector: Selector::Paths(vec![PathSelector::of("/")]),
                });
                mounts.push(ExecMount {
                    target: PIPES.into(),
                    readonly: true,
                    kind: MountKind::Bind { input: Some(0), source: "/".into() },
                });
                state.with_shell(&format!("{PIPES}/{name}"))
            }
        };
        let shown = self.history(state, &args);

        for (i, mount) in run.mounts.iter().enumerate() {
            let mount = Mount::parse(&mount.value, |text| expand::word(text, self.escape, &state.env))?;
            let source = sources.get(i).copied().flatten();
            self.mount(state, &mount, source, &mut inputs, &mut mounts, &mut secret_env)?;
        }

        let base = self.as_root(state);
        let root = base.map(|base| {
            inputs.push(Input { edge: base.into(), selector: Selector::Whole });
            inputs.len() - 1
        });
        let mut env = state.env.clone();
        if env.get("PATH").is_none() {
            env.set("PATH", DEFAULT_PATH);
        }
        let exec = ExecOp {
            root,
            args,
            env: env.to_vec(),
            cwd: state.workdir().to_string(),
            user: state.image.config.user.clone(),
            hostname: self.request.hostname.clone(),
            network,
            security,
            mounts,
            secret_env,
            uncached: Uncached {
                proxy_env: self.proxy.clone(),
                extra_hosts: self.request.extra_hosts.clone(),
                limits: self.stage.limits.for_step(self.stage.done + 1, &self.request.limits),
            },
        };
        let name = expand::shown(at.code, self.escape, &state.env);
        let name = self.next_name(&name, &state.platform, at.from_trigger);
        let vertex = self.graph.push(Vertex {
            op: Op::Exec(Box::new(exec)),
            inputs,
            platform: state.platform.clone(),
            provenance: self.provenance(name, at.lines),
        });
        state.root = Root::Vertex(vertex);
        state.commit(shown, MakesLayer::Yes);
        Ok(())
    }

    /// `RUN |2 A=1 B=2 /bin/sh -c …`: the ARGs that were in scope, each once, in order of declaration.
    fn history(&self, state: &StageState, args: &[String]) -> String {
        let mut declared: Vec<(&str, &str)> = Vec::new();
        for arg in &state.args {
            let value = state.env.get(&arg.name).or(arg.value.as_deref()).unwrap_or_default();
            match declared.iter_mut().find(|(name, _)| *name == arg.name) {
                Some(entry) => entry.1 = value,
                None => declared.push((&arg.name, value)),
            }
        }
        let mut words = Vec::new();
        if !declared.is_empty() {
            words.push(format!("|{}", declared.len()));
            words.extend(declared.iter().map(|(name, value)| format!("{name}={value}")));
        }
        words.extend(args.iter().cloned());
        format!("RUN {} # buildkit", words.join(" "))
    }

    fn require(&self, entitlement: Entitlement) -> Result<(), PlanError> {
        if self.request.allow.contains(&entitlement) {
            return Ok(());
        }
        let name = entitlement.name();
        Err(PlanError::new(format!("{name} is not allowed")).hint(format!("allow it with --allow {name}")))
    }

    fn network(&self, of_run: ast::Network) -> Result<NetworkMode, PlanError> {
        Ok(match (of_run, self.request.network) {
            (ast::Network::None, _) => NetworkMode::None,
            (ast::Network::Host, _) => {
                self.require(Entitlement::NetworkHost)?;
                NetworkMode::Host
            }
            (ast::Network::Default, NetworkDefault::Default) => NetworkMode::Default,
            (ast::Network::Default, NetworkDefault::None) => NetworkMode::None,
            (ast::Network::Default, NetworkDefault::Host) => NetworkMode::Host,
        })
    }

    /// A vertex that holds a `#!` heredoc as an executable file.
    fn script_file(&mut self, name: &str, body: String, state: &StageState, at: &Instr<'_>) -> VertexRef {
        let mkfile = MkfileAction { path: format!("/{name}"), mode: 0o755, data: body.into_bytes() };
        let provenance = self.provenance("[internal] preparing inline document".into(), at.lines);
        self.graph.push(Vertex {
            op: Op::File(FileOp { base: None, actions: vec![FileAction::Mkfile(mkfile)] }),
            inputs: Vec::new(),
            platform: state.platform.clone(),
            provenance,
        })
    }

    fn mount(
        &mut self,
        state: &StageState,
        mount: &Mount,
        source: Option<&StageState>,
        inputs: &mut Vec<Input>,
        mounts: &mut Vec<ExecMount>,
        secret_env: &mut Vec<SecretEnv>,
    ) -> Result<(), PlanError> {
        let target = || -> Result<String, PlanError> {
            let target = path::clean(&path::join(
                if mount.target.starts_with('/') { "/" } else { state.workdir() },
                &mount.target,
            ));
            if target == "/" {
                return Err(PlanError::new("invalid mount target \"/\"").hint("name a folder below /"));
            }
            Ok(target)
        };
        let drive = source.map_or("", |stage| stage.drive());
        let within = path::on_drive(drive, path::join("/", &mount.source));
        let kind = match mount.kind {
            MountType::Bind => {
                let input = self.mount_input(state, source, Whence::Context, &within, inputs);
                MountKind::Bind { input, source: within }
            }
            MountType::Cache => {
                let input = self.mount_input(state, source, Whence::Empty, &within, inputs);
                let id = if mount.id.is_empty() { path::clean(&mount.target) } else { mount.id.clone() };
                let sharing = match mount.sharing.unwrap_or_default() {
                    Sharing::Shared => CacheSharing::Shared,
                    Sharing::Private => CacheSharing::Private,
                    Sharing::Locked => CacheSharing::Locked,
                };
                let owner = (mount.uid.is_some() || mount.gid.is_some() || mount.mode.is_some()).then(|| {
                    MountOwner {
                        uid: mount.uid.unwrap_or(0),
                        gid: mount.gid.unwrap_or(0),
                        mode: mount.mode.unwrap_or(0o755),
                    }
                });
                MountKind::Cache { id, sharing, input, source: within, owner }
            }
            MountType::Tmpfs if path::clean(&within) != "/" => {
                return Err(PlanError::new(format!("mount source {within:?}: no such file or directory"))
                    .hint("a tmpfs is empty at first: leave source out"));
            }
            MountType::Tmpfs => MountKind::Tmpfs { size: u64::try_from(mount.size).ok().filter(|s| *s > 0) },
            MountType::Secret => {
                let named = if mount.source.is_empty() { &mount.id } else { &mount.source };
                let id = if named.is_empty() { path::base(&mount.target).to_string() } else { named.clone() };
                if let Some(name) = &mount.env {
                    let name = if name.is_empty() { path::base(&id).to_string() } else { name.clone() };
                    secret_env.push(SecretEnv { name, id: id.clone(), required: mount.required });
                    if mount.target.is_empty() {
                        return Ok(());
                    }
                }
                let target = match mount.target.as_str() {
                    "" => format!("/run/secrets/{}", path::base(&id)),
                    _ => target()?,
                };
                let kind = MountKind::Secret {
                    id,
                    required: mount.required,
                    uid: mount.uid.unwrap_or(0),
                    gid: mount.gid.unwrap_or(0),
                    mode: mount.mode.unwrap_or(0o400),
                };
                mounts.push(ExecMount { target, readonly: true, kind });
                return Ok(());
            }
            MountType::Ssh => {
                if !mount.source.is_empty() {
                    return Err(PlanError::new("ssh does not support source"));
                }
                let number = mounts.iter().filter(|m| matches!(m.kind, MountKind::Ssh { .. })).count();
                let target = match mount.target.as_str() {
                    "" => format!("/run/buildkit/ssh_agent.{number}"),
                    _ => target()?,
                };
                let kind = MountKind::Ssh {
                    id: if mount.id.is_empty() { "default".into() } else { mount.id.clone() },
                    required: mount.required,
                    uid: mount.uid.unwrap_or(0),
                    gid: mount.gid.unwrap_or(0),
                    mode: mount.mode.unwrap_or(0o600),
                };
                mounts.push(ExecMount { target, readonly: false, kind });
                return Ok(());
            }
        };
        mounts.push(ExecMount { target: target()?, readonly: mount.read_only, kind });
        Ok(())
    }

    /// The input that a mount reads from; `None` is an empty folder.
    fn mount_input(
        &mut self,
        state: &StageState,
        source: Option<&StageState>,
        otherwise: Whence,
        within: &str,
        inputs: &mut Vec<Input>,
    ) -> Option<usize> {
        let vertex = match (source, otherwise) {
            (Some(stage), _) => match stage.root {
                Root::Vertex(v) | Root::Local(v) => v,
                Root::Empty => return None,
            },
            (None, Whence::Context) => self.main_context(&state.platform),
            (None, Whence::Empty) => return None,
        };
        // One input a mount: sources of different mounts are different parts of a key.
        inputs.push(Input { edge: vertex.into(), selector: Selector::Paths(vec![PathSelector::of(within)]) });
        Some(inputs.len() - 1)
    }
}

/// What a mount without `from` shows.
enum Whence {
    Context,
    Empty,
}
