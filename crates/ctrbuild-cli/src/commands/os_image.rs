//! `ctrbuild os-image`.

use crate::args::{Global, OsImage};
use ctrbuild::Error;
use std::process::ExitCode;

pub fn run(global: &Global, command: &OsImage) -> Result<ExitCode, Error> {
    let _ = (global, command);
    Err(Error::world("not wired yet"))
}
