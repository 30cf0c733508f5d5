//! `ctrbuild completion`: what shells need to complete command lines.

use crate::args::Cli;
use clap::CommandFactory;
use clap_complete::Shell;
use ctrbuild::Error;
use std::io::Write;
use std::process::ExitCode;

pub fn run(shell: Shell) -> Result<ExitCode, Error> {
    // Into memory first: the generator panics where it can't write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ctrbuild", &mut script);
    let mut out = std::io::stdout().lock();
    match out.write_all(&script).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::from(141)),
        Err(e) => Err(Error::world(format!("can't write the output: {e}"))),
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}
