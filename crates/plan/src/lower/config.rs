//! Instructions that only change the image's configuration.

use super::Lowering;
use crate::gofmt;
use crate::state::{DeclaredArg, MakesLayer, StageState};
use crate::{PlanError, expand};
use dockerfile::instruction as ast;
use dockerfile::port::PortWord;
use oci::Healthcheck;

/// ARGs that steer the builder and are no variables of a stage.
const NOT_IN_ENV: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

impl Lowering<'_> {
    pub(super) fn arg(&self, state: &mut StageState, arg: &ast::Arg) -> Result<(), PlanError> {
        let mut words = Vec::with_capacity(arg.args.len());
        for pair in &arg.args {
            let given = self.request.build_args.get(&pair.key);
            let value = match (given, &pair.value) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(expand::word(default, self.escape, &state.env)?),
                (None, None) => self.global_args.get(&pair.key).map(str::to_string),
            };
            if let Some(value) = &value
                && !NOT_IN_ENV.contains(&pair.key.as_str())
            {
                state.env.set(&pair.key, value);
            }
            words.push(match &value {
                Some(v) => format!("{}={v}", pair.key),
                None => pair.key.clone(),
            });
            state.args.push(DeclaredArg { name: pair.key.clone(), value });
        }
        state.commit(format!("ARG {}", words.join(" ")), MakesLayer::No);
        Ok(())
    }

    /// Names and values, all expanded with the variables from before the instruction.
    fn pairs(&self, state: &StageState, pairs: &[ast::Pair]) -> Result<Vec<(String, String)>, PlanError> {
        let expand = |text: &str| expand::word(text, self.escape, &state.env);
        pairs.iter().map(|p| Ok((expand(&p.key)?, expand(&p.value)?))).collect()
    }

    pub(super) fn env(&self, state: &mut StageState, env: &ast::Env) -> Result<(), PlanError> {
        let mut message = String::from("ENV");
        let os = state.image.os.clone();
        for (name, value) in self.pairs(state, &env.pairs)? {
            message.push_str(&format!(" {name}={value}"));
            state.env.set(&name, &value);
            state.image.config.set_env(&name, &value, &os);
        }
        state.commit(message, MakesLayer::No);
        Ok(())
    }

    pub(super) fn label(&self, state: &mut StageState, label: &ast::Label) -> Result<(), PlanError> {
        let mut message = String::from("LABEL");
        for (name, value) in self.pairs(state, &label.pairs)? {
            message.push_str(&format!(" {name}={value}"));
            state.image.config.labels.insert(name, value);
        }
        state.commit(message, MakesLayer::No);
        Ok(())
    }

    pub(super) fn maintainer(&self, state: &mut StageState, m: &ast::Maintainer) -> Result<(), PlanError> {
        state.image.author = m.name.value.clone();
        state.commit(format!("MAINTAINER {}", m.name.value), MakesLayer::No);
        Ok(())
    }

    fn command_line(state: &StageState, command: &ast::Command) -> Vec<String> {
        match command {
            ast::Command::Exec(words) => words.iter().map(|w| w.value.clone()).collect(),
            ast::Command::Shell(text) => state.with_shell(&text.value),
        }
    }

    pub(super) fn cmd(&self, state: &mut StageState, cmd: &ast::Cmd) -> Result<(), PlanError> {
        let args = Self::command_line(state, &cmd.command);
        state.commit(format!("CMD {}", gofmt::quote_list(&args)), MakesLayer::No);
        state.image.config.cmd = Some(args);
        state.image.config.args_escaped = true;
        state.cmd_set = true;
        Ok(())
    }

    pub(super) fn entrypoint(&self, state: &mut StageState, e: &ast::Entrypoint) -> Result<(), PlanError> {
        let args = Self::command_line(state, &e.command);
        state.commit(format!("ENTRYPOINT {}", gofmt::quote_list(&args)), MakesLayer::No);
        state.image.config.entrypoint = Some(args).filter(|a| !a.is_empty());
        if !state.cmd_set {
            state.image.config.cmd = None;
        }
        Ok(())
    }

    pub(super) fn healthcheck(
        &self,
        state: &mut StageState,
        check: &ast::Healthcheck,
    ) -> Result<(), PlanError> {
        let nanos = |d: std::time::Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
        let health = match check {
            ast::Healthcheck::None => Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() },
            ast::Healthcheck::Check(c) => {
                let test = match &c.command {
                    ast::Command::Shell(text) => vec!["CMD-SHELL".to_string(), text.value.clone()],
                    ast::Command::Exec(words) => std::iter::once("CMD".to_string())
                        .chain(words.iter().map(|w| w.value.clone()))
                        .collect(),
                };
                Healthcheck {
                    test,
                    interval: nanos(c.interval),
                    timeout: nanos(c.timeout),
                    start_period: nanos(c.start_period),
                    start_interval: nanos(c.start_interval),
                    retries: i64::from(c.retries),
                    ..Healthcheck::default()
                }
            }
        };
        let message = format!(
            "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            gofmt::plain_list(&health.test),
            gofmt::duration(health.interval),
            gofmt::duration(health.timeout),
            gofmt::duration(health.start_period),
            gofmt::duration(health.start_interval),
            health.retries
        );
        state.commit(message, MakesLayer::No);
        state.image.config.healthcheck = Some(health);
        Ok(())
    }

    pub(super) fn expose(&self, state: &mut StageState, expose: &ast::Expose) -> Result<(), PlanError> {
        let mut exposed = Vec::new();
        for word in &expose.ports {
            for port in expand::words(&word.value, self.escape, &state.env)? {
                exposed.extend(PortWord::read(&port).and_then(|word| word.recorded()).map_err(|e| {
                    PlanError::new(e.to_string())
                        .hint("write a port as NUMBER, NUMBER-NUMBER or NUMBER/tcp|udp|sctp")
                })?);
            }
        }
        state.commit(format!("EXPOSE {}", gofmt::plain_list(&exposed)), MakesLayer::No);
        state.image.config.exposed_ports.extend(exposed);
        Ok(())
    }

    pub(super) fn user(&self, state: &mut StageState, user: &ast::User) -> Result<(), PlanError> {
        let user = self.word(state, &user.user)?;
        state.commit(format!("USER {user}"), MakesLayer::No);
        state.image.config.user = user;
        Ok(())
    }

    pub(super) fn volume(&self, state: &mut StageState, volume: &ast::Volume) -> Result<(), PlanError> {
        let mut volumes = Vec::with_capacity(volume.volumes.len());
        for word in &volume.volumes {
            let path = self.word(state, word)?;
            if path.is_empty() {
                return Err(PlanError::new("VOLUME specified can not be an empty string"));
            }
            volumes.push(path);
        }
        state.commit(format!("VOLUME {}", gofmt::plain_list(&volumes)), MakesLayer::No);
        state.image.config.volumes.extend(volumes);
        Ok(())
    }

    pub(super) fn stop_signal(&self, state: &mut StageState, s: &ast::StopSignal) -> Result<(), PlanError> {
        let name = self.word(state, &s.signal)?;
        if !dockerfile::signal::is_valid(&name) {
            return Err(PlanError::new(format!("invalid signal: {name}"))
                .hint("name a signal such as SIGTERM or SIGQUIT, or its number"));
        }
        state.commit(format!("STOPSIGNAL {name}"), MakesLayer::No);
        state.image.config.stop_signal = name;
        Ok(())
    }

    pub(super) fn shell(&self, state: &mut StageState, shell: &ast::Shell) -> Result<(), PlanError> {
        let words: Vec<String> = shell.shell.iter().map(|w| w.value.clone()).collect();
        state.commit(format!("SHELL {}", gofmt::plain_list(&words)), MakesLayer::No);
        state.image.config.shell = Some(words);
        Ok(())
    }

    pub(super) fn onbuild(&self, state: &mut StageState, onbuild: &ast::Onbuild) -> Result<(), PlanError> {
        state.image.config.on_build.push(onbuild.expression.clone());
        Ok(())
    }
}
