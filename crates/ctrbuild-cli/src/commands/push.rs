//! `ctrbuild push`.

use crate::args::{Global, PushArgs};
use crate::machine;
use crate::progress;
use ctrbuild::{BuildObserver, Error, images};
use std::process::ExitCode;
use std::sync::Arc;

pub fn run(global: &Global, args: &PushArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let to = images::parse_name(args.destination.as_deref().unwrap_or(&args.name))?;
    let compression = super::compression(&args.compression)?;
    let observer: Arc<dyn BuildObserver> = progress::observer(match args.quiet {
        true => crate::args::ProgressMode::Quiet,
        false => crate::args::ProgressMode::Plain,
    });
    if !args.quiet {
        eprintln!("The push refers to a repository [{}]", to.repository());
    }
    super::wait_or_exit(async {
        let content = images::push(&session, &args.name, &to, compression, observer.transfers()).await?;
        println!(
            "{}: digest: {} size: {}",
            to.tag().unwrap_or("latest"),
            content.digest(),
            content.top.bytes().len()
        );
        Ok(ExitCode::SUCCESS)
    })
}
