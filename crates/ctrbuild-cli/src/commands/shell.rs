//! `ctrbuild shell --failed`: a look at what a failed step left.

use super::attach;
use crate::args::{Global, ShellArgs};
use crate::machine;
use ctrbuild::{Error, ErrorKind};
use diagnostic::sanitize;
use std::process::ExitCode;
use worker::{FailedStep, KeptNetwork};

pub fn run(global: &Global, args: &ShellArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let Some(step) = FailedStep::load(&session.store).map_err(|e| Error::from(&e))? else {
        return Err(Error::new(ErrorKind::NotFound, "no failed step is kept").hint(
            "the next build that fails keeps its step; `ctrbuild prune` may have removed the last one",
        ));
    };
    let runtime = sandbox::Runtime::new()?;
    let interactive = attach::at_a_terminal();
    let stack = match step.network() {
        KeptNetwork::Isolated => super::build_network::any_stack(),
        _ => None,
    };
    if interactive {
        if args.command.is_empty() {
            eprintln!("{}\n{}", sanitize(step.name()), sanitize(step.status()));
            eprintln!("changes are discarded; the step ran: {}", sanitize(&step.args().join(" ")));
        }
        match step.network() {
            KeptNetwork::AllowList => {
                eprintln!("there is no network here: the step's was limited by --allow-net")
            }
            KeptNetwork::Isolated if stack.is_none() => {
                eprintln!("there is no network here: neither pasta nor slirp4netns is installed");
            }
            _ => {}
        }
    }
    let mut env = Vec::new();
    if interactive {
        // What full-screen programs and line editors need to know.
        env.extend(std::env::var("TERM").ok().map(|value| ("TERM".to_string(), value)));
    }
    let enter = |input, output| {
        step.enter(&session.snapshotter, &runtime, &args.command, &env, stack.as_ref(), input, output)
            .map_err(|e| Error::from(&e))
    };
    let (code, signal) = attach::attach(interactive, |input, output| {
        let entered = enter(input, output)?;
        let killer = entered.killer().map_err(|e| Error::from(&e))?;
        Ok(attach::Attached { killer, ended: Box::new(|| entered.wait().map_err(|e| Error::from(&e))) })
    })?;
    Ok(attach::exit_code(code, signal))
}
