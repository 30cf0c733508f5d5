//! `ctrbuild import`.

use crate::args::{Global, ImportArgs};
use crate::{machine, table};
use ctrbuild::{Error, ErrorKind, containers, images};
use oci::{ImageConfig, Platform};
use std::fs::File;
use std::io::Read;
use std::process::ExitCode;

pub fn run(global: &Global, args: &ImportArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let name = images::parse_name(&args.name)?;
    let platform = match &args.platform {
        None => session.host.clone(),
        Some(p) => Platform::parse(p, &session.host)
            .map_err(|e| Error::new(ErrorKind::Recipe, e.to_string()).hint(e.hint()))?,
    };
    let input: Box<dyn Read + Send> = match args.file.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(File::open(&args.file).map_err(|e| {
            Error::new(ErrorKind::NotFound, format!("can't read {}: {e}", args.file.display()))
        })?),
    };
    let message = args.message.clone().unwrap_or_else(|| format!("import {}", args.file.display()));
    let created = super::commit::source_date_epoch()?.unwrap_or_else(table::now);
    super::wait_or_exit(async {
        let config =
            containers::with_instructions(&session, ImageConfig::scratch(&platform), &args.change).await?;
        let import = move || images::import(&session, input, &name, config, &message, created);
        println!("{}", par::blocking(import).await?.id());
        Ok(ExitCode::SUCCESS)
    })
}
