//! `ctrbuild run`: a command in a working container.

use super::{attach, build, working};
use crate::args::{Global, RunArgs};
use crate::machine;
use ctrbuild::Error;
use ctrbuild::containers::{self, RunRequest};
use std::io::IsTerminal;
use std::process::ExitCode;

pub fn run(global: &Global, args: &RunArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let terminal = args.tty.unwrap_or_else(attach::at_a_terminal);
    if terminal && !std::io::stdin().is_terminal() {
        return Err(build::usage("--tty needs a terminal on standard input").hint("leave out --tty"));
    }
    let mut env = Vec::new();
    for text in &args.env {
        match text.split_once('=') {
            Some(("", _)) => return Err(build::usage("--env needs a name before `=`")),
            Some((name, value)) => env.push((name.to_string(), value.to_string())),
            None => env.extend(std::env::var(text).ok().map(|value| (text.clone(), value))),
        }
    }
    if terminal && !args.env.iter().any(|e| e.starts_with("TERM")) {
        // What full-screen programs and line editors need to know.
        env.extend(std::env::var("TERM").ok().map(|value| ("TERM".to_string(), value)));
    }
    let request = RunRequest {
        args: args.command.clone(),
        env,
        user: args.user.clone(),
        workdir: args.workdir.clone(),
        mounts: args.mount.clone(),
    };
    let setup = working::setup(&session, &args.network, working::context(args.contextdir.as_ref())?)?;
    let observer = working::observer();
    let prepared = super::wait(async {
        let mut container = containers::open_unmounted(&session, &args.container, &*observer).await?;
        let ready = containers::prepare_run(&session, &setup, &*observer, &mut container, &request).await?;
        Ok((container, ready))
    });
    let (mut container, ready) = match prepared? {
        Ok(prepared) => prepared,
        Err(code) => return Ok(code),
    };
    let step = ready.step.clone();
    let ((code, layer), signal) = attach::attach(terminal, |input, output| {
        let running = ready.start(worker::Attached { input, output })?;
        let killer = running.killer().map_err(|e| Error::from(&e))?;
        Ok(attach::Attached { killer, ended: Box::new(|| running.wait().map_err(|e| Error::from(&e))) })
    })?;
    // Also what a command that failed has changed: it is there to be looked at, or gone on from.
    container.push(&session.store, layer, step)?;
    Ok(attach::exit_code(code, signal))
}
