//! `ctrbuild rm`: remove working containers.

use crate::args::{Global, RmArgs};
use crate::{machine, render};
use ctrbuild::{Error, containers};
use std::process::ExitCode;

pub fn run(global: &Global, args: &RmArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let names = match args.all {
        true => containers::list(&session.store)?.into_iter().map(|c| c.id).collect(),
        false => args.containers.clone(),
    };
    let mut code = ExitCode::SUCCESS;
    for name in &names {
        match containers::remove(&session.store, name) {
            Ok(id) => println!("{id}"),
            Err(e) => {
                render::failure(&e, None);
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
