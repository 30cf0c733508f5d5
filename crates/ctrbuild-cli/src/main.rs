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
mod style;
mod table;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Steps are started by this same program: must come before any thread exists.
    sandbox::reexec();
    end_without_output();
    let cli = args::Cli::parse_from(args::Cli::complete(std::env::args_os()));
    match run(cli) {
        Ok(code) => code,
        Err(e) => match commands::ended_by_signal() {
            // That was said, and whatever failed for it is no news.
            Some(code) => ExitCode::from(code),
            None => {
                render::failure(&e, None);
                ExitCode::FAILURE
            }
        },
    }
}

/// `println!` panics where standard output takes nothing. `ctrbuild images | head`: who reads it may stop at any time,
/// which is no fault of ours, and the exit code is that of programs that SIGPIPE ends. Anything else, such as a full
/// disk, is a failure as others are. With standard error it is the same, but that nothing can be said.
fn end_without_output() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload().downcast_ref::<String>().map_or("", String::as_str);
        match text.strip_prefix("failed printing to ") {
            Some(cause) if cause.contains("Broken pipe") => std::process::exit(141),
            Some(cause) => {
                let cause = cause.trim_start_matches("stdout: ").trim_start_matches("stderr: ");
                render::failure(&ctrbuild::Error::world(format!("can't write the output: {cause}")), None);
                std::process::exit(1);
            }
            None => default(info),
        }
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
