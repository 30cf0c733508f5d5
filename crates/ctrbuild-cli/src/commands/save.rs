//! `ctrbuild save`.

use crate::args::{Global, SaveArgs};
use crate::machine;
use ctrbuild::{Destination, Error, ErrorKind, images};
use std::io::IsTerminal;
use std::process::ExitCode;

pub fn run(global: &Global, args: &SaveArgs) -> Result<ExitCode, Error> {
    let dest = match &args.output {
        Some(path) if path.as_os_str() != "-" => Destination::File(path.clone()),
        _ if std::io::stdout().is_terminal() => {
            return Err(Error::new(ErrorKind::Recipe, "an archive would spoil the terminal")
                .hint("use -o FILE or a pipe"));
        }
        _ => Destination::Stdout,
    };
    let docker = match args.format.as_str() {
        "oci" | "oci-archive" => false,
        "docker" | "docker-archive" => true,
        other => {
            return Err(
                Error::new(ErrorKind::Recipe, format!("there is no format {other:?}")).hint("oci or docker")
            );
        }
    };
    let compression = super::compression(&args.compression)?;
    let session = machine::session(global)?;
    images::save(&session, &args.names, &dest, docker, compression)?;
    Ok(ExitCode::SUCCESS)
}
