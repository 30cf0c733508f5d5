//! `ctrbuild rmi`.

use crate::args::{Global, RmiArgs};
use crate::{machine, render};
use ctrbuild::Error;
use ctrbuild::images::RemovedName;
use std::process::ExitCode;

pub fn run(global: &Global, args: &RmiArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let mut code = ExitCode::SUCCESS;
    for name in &args.names {
        match ctrbuild::images::remove(&session.store, name, args.force) {
            Ok(removed) => {
                for r in removed {
                    match r {
                        RemovedName::Untagged(name) => println!("Untagged: {name}"),
                        RemovedName::Deleted(digest) => println!("Deleted: {digest}"),
                    }
                }
            }
            Err(e) => {
                render::failure(&e, None);
                code = ExitCode::FAILURE;
            }
        }
    }
    // Space comes back at once, not with the next build.
    session.store.gc(&Default::default())?;
    Ok(code)
}
