//! The command line: arguments, terminal, environment, exit codes.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 130 and 143 for SIGINT and SIGTERM, 141
//! where nobody reads standard output any more. Standard output carries
//! data only (digests, lists, archives); everything said to people goes to standard error.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod machine;
mod progress;
mod render;
mod table;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Steps are started by this same program: must come before any thread exists.
    sandbox::reexec();
    end_with_the_reader();
    let cli = args::Cli::parse_from(args::Cli::complete(std::env::args_os()));
    match run(cli) {
        Ok(code) => code,
        Err(e) => {
            render::failure(&e, None);
            ExitCode::FAILURE
        }
    }
}

/// `ctrbuild images | head`: who reads standard output may stop at any time, which is no fault of ours.
/// `println!` panics then; the exit code is that of programs that SIGPIPE ends.
fn end_with_the_reader() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let closed =
            |text: &str| text.starts_with("failed printing to stdout") && text.contains("Broken pipe");
        if info.payload().downcast_ref::<String>().is_some_and(|text| closed(text)) {
            std::process::exit(141);
        }
        default(info);
    }));
}

fn run(cli: args::Cli) -> Result<ExitCode, ctrbuild::Error> {
    let (global, command) = cli.split();
    if command.needs_ids() && sandbox::userns::needed() {
        // An ordinary user: start over as the root of a user namespace.
        let code = sandbox::userns::reexec_in_userns()?;
        return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
    }
    commands::run(&global, command)
}
