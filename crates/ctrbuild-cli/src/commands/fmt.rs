//! `ctrbuild fmt`: one look for all recipes, or nothing at all.

use super::{fmt_diff, lint_files};
use crate::args::FmtArgs;
use ctrbuild::Error;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, chown};
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

/// Writes a file whole or not at all, with the mode and, as far as that is allowed, the owner it has. Links stay
/// links; what is read-only stays as it is.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let fail = |e: std::io::Error| Error::world(format!("can't write {}: {e}", path.display()));
    let target = path.canonicalize().map_err(fail)?;
    let old = std::fs::metadata(&target).map_err(fail)?;
    // A rename asks the folder alone, and root may do everything.
    if old.permissions().readonly() {
        return Err(Error::world(format!("can't write {}: it is read-only", path.display())));
    }
    OpenOptions::new().write(true).open(&target).map_err(fail)?;
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = target.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    // Never through something that has that name already.
    let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary).map_err(fail)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.metadata())
        .and_then(|new| match (new.uid(), new.gid()) == (old.uid(), old.gid()) {
            true => Ok(()),
            // Others than root may not give files away.
            false => chown(&temporary, Some(old.uid()), Some(old.gid()))
                .or_else(|e| if e.kind() == ErrorKind::PermissionDenied { Ok(()) } else { Err(e) }),
        })
        .and_then(|()| file.set_permissions(old.permissions()))
        .and_then(|()| std::fs::rename(&temporary, &target));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(fail)
}
