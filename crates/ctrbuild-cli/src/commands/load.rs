//! `ctrbuild load`.

use crate::args::{Global, LoadArgs};
use crate::machine;
use ctrbuild::{Error, images};
use std::process::ExitCode;

pub fn run(global: &Global, args: &LoadArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let source = match &args.input {
        Some(path) => images::LoadSource::Path(path),
        None => images::LoadSource::Stream(Box::new(std::io::stdin())),
    };
    for loaded in images::load(&session, source, args.force)? {
        if args.quiet {
            continue;
        }
        match loaded.references.as_slice() {
            [] => println!("Loaded image ID: {}", loaded.digest),
            names => names.iter().for_each(|n| println!("Loaded image: {}", n.familiar())),
        }
    }
    Ok(ExitCode::SUCCESS)
}
