//! `ctrbuild fmt`: one look for all recipes, or nothing at all.

use super::{fmt_diff, lint_files};
use crate::args::FmtArgs;
use ctrbuild::Error;
use std::path::Path;
use std::process::ExitCode;

pub fn run(args: &FmtArgs) -> Result<ExitCode, Error> {
    let mut failed = false;
    for input in lint_files::read_all(&args.paths, args.stdin_filename.as_deref())? {
        let parsed = dockerfile::parse(input.source);
        let name = parsed.source.name().to_owned();
        let formatted = match lint::fmt::format(&parsed) {
            Ok(formatted) => formatted,
            Err(refusal) => {
                failed = true;
                eprintln!("{name}: not formatted: {refusal}");
                if input.path.is_none() && !args.check {
                    print!("{}", parsed.source.text());
                }
                continue;
            }
        };
        let changed = formatted.text != parsed.source.text();
        if args.diff {
            print!("{}", fmt_diff::unified(&name, parsed.source.text(), &formatted.text));
        }
        match &input.path {
            None if !args.check && !args.diff => print!("{}", formatted.text),
            Some(path) if changed && !args.check && !args.diff => {
                replace(path, formatted.text.as_bytes())?;
                eprintln!("formatted {name}");
            }
            _ if changed && args.check => {
                failed = true;
                eprintln!("{name} is not formatted");
            }
            _ => {}
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Writes a file whole or not at all, with the mode it has. Links stay links.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let fail = |e: std::io::Error| Error::world(format!("can't write {}: {e}", path.display()));
    let target = path.canonicalize().map_err(fail)?;
    let permissions = std::fs::metadata(&target).map_err(fail)?.permissions();
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = target.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let written = std::fs::write(&temporary, bytes)
        .and_then(|()| std::fs::set_permissions(&temporary, permissions))
        .and_then(|()| std::fs::rename(&temporary, &target));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(fail)
}
