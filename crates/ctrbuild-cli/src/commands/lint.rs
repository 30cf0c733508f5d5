//! `ctrbuild lint`: what is wrong with recipes.

use crate::args::{LintArgs, LintFormat};
use ctrbuild::{Error, ErrorKind};
use diagnostic::{Color, SourceFile};
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;

/// Read a recipe, or standard input for `-`.
pub fn read(path: &Path) -> Result<SourceFile, Error> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map_err(|e| Error::world(format!("can't read standard input: {e}")))?;
        return Ok(SourceFile::from_bytes("-", &bytes));
    }
    let bytes = std::fs::read(path)
        .map_err(|e| Error::new(ErrorKind::NotFound, format!("can't read {}: {e}", path.display())))?;
    Ok(SourceFile::from_bytes(path.display().to_string(), &bytes))
}

pub fn run(args: &LintArgs) -> Result<ExitCode, Error> {
    let mut failed = false;
    let color = if std::io::stdout().is_terminal() { Color::Always } else { Color::Never };
    for path in &args.paths {
        let parsed = dockerfile::parse(read(path)?);
        failed |= parsed.has_errors();
        match args.format {
            LintFormat::Text => {
                print!("{}", diagnostic::render_all(&parsed.source, &parsed.diagnostics, color));
            }
            LintFormat::Json => {
                for d in &parsed.diagnostics {
                    println!("{}", diagnostic::to_json_line(&parsed.source, d));
                }
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
