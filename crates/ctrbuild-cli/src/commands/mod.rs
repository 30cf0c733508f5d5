//! The commands, one file each.

mod attach;
mod build;
mod build_limits;
mod build_network;
mod call;
mod check;
mod commit;
mod completion;
mod config;
mod containers;
mod copy;
mod debug;
mod df;
mod fmt;
mod fmt_diff;
mod from;
mod history;
mod image_tree;
mod images;
mod images_format;
mod import;
mod inspect;
mod inspect_format;
mod interrupt;
mod lint;
mod lint_explain;
mod lint_files;
mod lint_shellcheck;
mod lint_since;
mod load;
mod login;
mod lsp;
mod mount;
mod os_image;
mod plan;
mod prune;
mod pull;
mod push;
mod reviewed;
mod rm;
mod rmi;
mod run_in;
mod save;
mod search;
mod shell;
mod store;
mod tag;
mod template;
mod working;

use crate::args::{Command, CompressionArgs, Global, ImageArgs, ImageCommand};
use ctrbuild::{Compression, Error, ErrorKind};
use std::process::ExitCode;

/// Run a command to its exit code.
pub fn run(global: &Global, command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Build(args) => build::run(global, &args),
        Command::Plan(args) => plan::run(global, &args),
        Command::Lint(args) => lint::run(&args),
        Command::Fmt(args) => fmt::run(&args),
        Command::Lsp(args) => lsp::run(&args),
        Command::Images(args) => images::run(global, &args),
        Command::Image(ImageArgs { command, list }) => match command {
            None => images::run(global, &list),
            Some(ImageCommand::Ls(args)) => images::run(global, &args),
            Some(ImageCommand::Tree(args)) => image_tree::run(global, &args),
            Some(ImageCommand::Rm(args)) => rmi::run(global, &args),
            Some(ImageCommand::History(args)) => history::run(global, &args),
            Some(ImageCommand::Inspect(args)) => inspect::run(global, &args),
            Some(ImageCommand::Tag { source, target }) => tag::run(global, &source, &target),
        },
        Command::Tag { source, target } => tag::run(global, &source, &target),
        Command::Rmi(args) => rmi::run(global, &args),
        Command::History(args) => history::run(global, &args),
        Command::Inspect(args) => inspect::run(global, &args),
        Command::Pull(args) => pull::run(global, &args),
        Command::Push(args) => push::run(global, &args),
        Command::Login(args) => login::login(&args),
        Command::Logout(args) => login::logout(&args),
        Command::Load(args) => load::run(global, &args),
        Command::Save(args) => save::run(global, &args),
        Command::Import(args) => import::run(global, &args),
        Command::From(args) => from::run(global, &args),
        Command::Run(args) => run_in::run(global, &args),
        Command::Copy(args) => copy::run(global, &args, copy::Kind::Copy),
        Command::Add(args) => copy::run(global, &args, copy::Kind::Add),
        Command::Config(args) => config::run(global, &args),
        Command::Mount(args) => mount::mount(global, &args),
        Command::Umount(args) => mount::umount(global, &args),
        Command::Containers(args) => containers::run(global, &args),
        Command::Rm(args) => rm::run(global, &args),
        Command::Commit(args) => commit::run(global, &args),
        Command::Search(args) => search::run(global, &args),
        Command::OsImage(command) => os_image::run(global, &command),
        Command::Df => df::run(global),
        Command::Prune(args) => prune::run(global, &args),
        Command::Shell(args) => shell::run(global, &args),
        Command::Store(command) => store::run(global, &command),
        Command::Debug(command) => debug::run(global, &command),
        Command::Completion { shell } => completion::run(shell),
        Command::Version => {
            println!("ctrbuild {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
    }
}

pub use interrupt::ended_by as ended_by_signal;

/// What the options say of compression.
fn compression(args: &CompressionArgs) -> Result<Option<Compression>, Error> {
    Compression::parse(args.compression.as_deref(), args.compression_level.as_deref())
        .map_err(|e| Error::new(ErrorKind::Recipe, e))
}

/// Run async work to its end, or to the first SIGINT or SIGTERM: then the work is dropped (which kills
/// its steps) and the exit code is 130 or 143. A second signal ends the process at once.
pub fn wait<T>(work: impl Future<Output = Result<T, Error>>) -> Result<Result<T, ExitCode>, Error> {
    let mut signals = interrupt::signals()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(crate::machine::processors().clamp(1, 8))
        .enable_all()
        .build()
        .map_err(|e| Error::world(format!("can't start the async runtime: {e}")))?;
    let outcome = runtime.block_on(async {
        let signal = tokio::select! {
            done = work => return done.map(Ok),
            signal = signals.next() => signal,
        };
        // Steps are being killed while the runtime shuts down.
        interrupt::dropped();
        eprintln!("cancelled");
        Ok(Err(ExitCode::from(interrupt::exit_code(signal))))
    });
    // Steps were killed when the work was dropped; what they leave is removed by threads that may need a
    // moment, but a thread that waits for another process's lock must not keep us.
    runtime.shutdown_timeout(std::time::Duration::from_millis(1500));
    outcome
}

/// As [`wait`] for commands that have nothing to say after a signal.
pub fn wait_or_exit(work: impl Future<Output = Result<ExitCode, Error>>) -> Result<ExitCode, Error> {
    Ok(wait(work)?.unwrap_or_else(|code| code))
}
