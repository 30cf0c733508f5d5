//! `ctrbuild tag`.

use crate::args::Global;
use crate::machine;
use ctrbuild::Error;
use std::process::ExitCode;

pub fn run(global: &Global, source: &str, target: &str) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    ctrbuild::images::tag(&session.store, source, target)?;
    Ok(ExitCode::SUCCESS)
}
