//! `ctrbuild build --check`: BuildKit's build checks, without building.

use ctrbuild::{Error, ErrorKind, Recipe};
use diagnostic::SourceFile;
use lint::{IgnoreFile, Options, Profile};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The ignore file that a build would use: beside the recipe, else in the context.
fn ignore_text(recipe: &Recipe, context: Option<&str>) -> Option<String> {
    let beside = recipe.path.as_ref().map(|p| {
        let mut name = p.clone().into_os_string();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    let inside = context.map(|c| Path::new(c).join(".dockerignore"));
    beside.into_iter().chain(inside).find_map(|p| std::fs::read_to_string(p).ok())
}

/// Check a recipe.
pub fn run(recipe: &Recipe, context: Option<&str>) -> Result<ExitCode, Error> {
    let parsed = dockerfile::parse(SourceFile::new(recipe.name.clone(), recipe.text.clone()));
    if let Some(e) = parsed.first_error() {
        let mut error = Error::new(ErrorKind::Recipe, e.buildkit_message()).maybe_hint(e.kind.hint());
        error.lines.push(e.lines);
        crate::render::failure(&error, Some(recipe));
        return Ok(ExitCode::FAILURE);
    }
    let mut options = Options::of(Profile::Buildkit);
    options.ignore = ignore_text(recipe, context)
        .as_deref()
        .map(IgnoreFile::read)
        .transpose()
        .map_err(|e| Error::new(ErrorKind::Recipe, e.to_string()).maybe_hint(e.hint()))?;
    let report = lint::lint(&parsed, &options);
    let color = crate::style::color_of(&std::io::stdout());
    for finding in &report.findings {
        print!("{}", diagnostic::render(&parsed.source, &finding.diagnostic, color));
    }
    match report.findings.len() {
        0 => eprintln!("Check complete, no warnings found."),
        1 => eprintln!("Check complete, 1 warning has been found!"),
        n => eprintln!("Check complete, {n} warnings have been found!"),
    }
    Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
