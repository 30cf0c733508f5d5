//! `ctrbuild debug`: look inside.

use crate::args::{Debug, Global, ProgressMode};
use crate::commands::lint::read;
use crate::{machine, progress};
use ctrbuild::{Error, ErrorKind};
use std::process::ExitCode;

pub fn run(global: &Global, command: &Debug) -> Result<ExitCode, Error> {
    match command {
        Debug::Parse { format, files } => {
            if format != "json" {
                return Err(
                    Error::new(ErrorKind::Recipe, format!("there is no format {format:?}")).hint("json")
                );
            }
            for path in files {
                let parsed = dockerfile::parse(read(path)?);
                let name = path.file_name().map_or_else(|| "-".into(), |n| n.to_string_lossy());
                println!("{}", dockerfile::view::buildkit_json(&name, &parsed));
            }
            Ok(ExitCode::SUCCESS)
        }
        Debug::Tree { file } => {
            let parsed = dockerfile::parse(read(file)?);
            print!("{}", parsed.tree.dump(parsed.source.text()));
            Ok(ExitCode::SUCCESS)
        }
        Debug::Graph(args) => super::plan::run(global, args),
        Debug::Key(args) => {
            let session = machine::session(global)?;
            let request = super::build::request(&session, args)?;
            let observer = progress::observer(ProgressMode::Quiet);
            super::wait_or_exit(async {
                for (plan, keys) in ctrbuild::keys(&session, &request, &*observer).await? {
                    for (v, key) in keys {
                        let name = diagnostic::sanitize(&plan.graph.get(v).provenance.name);
                        println!("#{} {key} {name}", v.0);
                    }
                }
                Ok(ExitCode::SUCCESS)
            })
        }
    }
}
