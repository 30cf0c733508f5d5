//! `ctrbuild from`.

use super::{build, working};
use crate::args::{FromArgs, Global, ProgressMode};
use crate::{machine, progress};
use ctrbuild::{Error, containers};
use oci::Platform;
use std::process::ExitCode;

pub fn run(global: &Global, args: &FromArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let platform = match &args.platform {
        None => None,
        Some(p) => {
            let parsed = Platform::parse(p, &session.host);
            Some(parsed.map_err(|e| build::usage(e.to_string()).hint(e.hint()))?)
        }
    };
    let pull = build::pull_policy(args.pull.as_deref())?;
    let setup = working::setup(&session, "default", "/".into())?;
    let observer = match args.quiet {
        true => progress::observer(ProgressMode::Quiet),
        false => working::observer(),
    };
    super::wait_or_exit(async {
        let name = args.name.as_deref();
        let made =
            containers::create(&session, &setup, &*observer, &args.image, name, platform.as_ref(), pull);
        println!("{}", made.await?);
        Ok(ExitCode::SUCCESS)
    })
}
