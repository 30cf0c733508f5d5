//! `ctrbuild lint`: what is wrong with recipes, and its repair.

use super::lint_files::{self, Configs};
use super::lint_shellcheck::{Program, Programs};
use super::reviewed::{Review, settle};
use super::{fmt, fmt_diff, lint_explain, lint_since};
use crate::args::{LintArgs, LintCommand, LintFormat, LintProfile};
use ctrbuild::{Error, ErrorKind};
use diagnostic::{Color, Severity, SourceFile};
use dockerfile::Parsed;
use lint::baseline::BaselineV1;
use lint::report::{self, Format};
use lint::shellcheck::{Checker, Snippet};
use lint::{Options, Profile, Report, fix};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Read a recipe, or standard input for `-`.
pub fn read(path: &Path) -> Result<SourceFile, Error> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|e| Error::world(format!("can't read standard input: {e}")))?;
        return Ok(SourceFile::from_bytes("-", &bytes));
    }
    let bytes = std::fs::read(path)
        .map_err(|e| Error::new(ErrorKind::NotFound, format!("can't read {}: {e}", path.display())))?;
    Ok(SourceFile::from_bytes(path.display().to_string(), &bytes))
}

/// A recipe and what was found.
struct Done {
    source: Arc<SourceFile>,
    report: Report,
    /// Errors of the parser are not among the findings.
    apart: bool,
}

pub fn run(args: &LintArgs) -> Result<ExitCode, Error> {
    let mut configs = match (&args.config, args.no_config) {
        (Some(path), _) => Configs::fixed(Some(path))?,
        (None, true) => Configs::fixed(None)?,
        (None, false) => Configs::default(),
    };
    match &args.command {
        Some(LintCommand::Explain { rule }) => return lint_explain::run(rule.as_deref(), &configs.of(None)?),
        Some(LintCommand::Migrate { file }) => return migrate(file),
        None => {}
    }
    let baseline =
        args.baseline.as_deref().filter(|_| !args.write_baseline).map(read_baseline).transpose()?;
    let mut written = BaselineV1::default();
    let mut threshold = None;
    let mut all: Vec<Done> = Vec::new();
    let mut drifted = false;
    let mut programs = Programs::default();
    let mut inputs = Vec::new();
    for input in lint_files::read_all(&args.paths, args.stdin_filename.as_deref())? {
        let config = configs.of(input.path.as_deref())?;
        let name = input.source.name().to_owned();
        if config.excludes(&name) {
            continue;
        }
        threshold = threshold.or_else(|| config.failure_threshold());
        let options = options(args, config.options(&name), input.path.as_deref())?;
        // A snapshot must not depend on which ShellCheck there is.
        let program = args.shellcheck.as_deref().or(config.shellcheck().map(OsStr::new));
        let program = match program.filter(|_| !args.snapshot) {
            Some(program) => programs.get(program)?,
            None => None,
        };
        inputs.push((input.path, input.source, options, program));
    }
    ask(&inputs);
    programs.failure()?;
    for (path, source, mut options, program) in inputs {
        let mut parsed = dockerfile::parse(source);
        options.shellcheck = program.map(|program| program as Arc<dyn Checker>);
        if args.fix || args.unsafe_fixes {
            match repair(args, parsed, &options, path.as_deref(), &programs)? {
                Repaired::Written(next) => parsed = *next,
                Repaired::Shown { changed } => {
                    drifted |= changed && args.diff;
                    continue;
                }
            }
        }
        if args.snapshot {
            drifted |= snapshot(args, &parsed, &options, path.as_deref())?;
            continue;
        }
        let mut report = lint::lint(&parsed, &options);
        if let Some(revision) = &args.since {
            lint_since::keep_changed(revision, path.as_deref(), &parsed, &mut report.findings)?;
        }
        match (&baseline, args.write_baseline) {
            (_, true) => written.add(&parsed, &report.findings),
            (Some(baseline), _) => baseline.drop_known(&parsed, &mut report.findings),
            _ => {}
        }
        // Trees of many recipes would take memory for nothing.
        all.push(Done { source: parsed.source, report, apart: options.profile == Profile::Buildkit });
    }
    programs.failure()?;
    if args.snapshot || args.diff {
        return Ok(if drifted { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    if args.write_baseline {
        let path = args.baseline.clone().unwrap_or_else(|| PathBuf::from("ctrbuild-baseline.json"));
        std::fs::write(&path, written.write())
            .map_err(|e| Error::world(format!("can't write {}: {e}", path.display())))?;
        eprintln!("wrote {}", path.display());
        return Ok(ExitCode::SUCCESS);
    }
    show(args, &all)?;
    let threshold = match args.failure_threshold.as_deref() {
        Some("none") => None,
        Some(text) => Some(lint::config::read_severity(text).ok_or_else(|| {
            Error::world(format!("{text:?} is no severity"))
                .hint("use error, warning, info, style, hint or none")
        })?),
        None => threshold.unwrap_or(Some(Severity::Warning)),
    };
    let failed = threshold.is_some_and(|threshold| {
        all.iter().any(|done| {
            let worst = done.report.findings.iter().map(|finding| finding.diagnostic.severity).min();
            worst.is_some_and(|worst| worst <= threshold) || (done.apart && !done.report.errors.is_empty())
        })
    });
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

type Asked = (Option<PathBuf>, SourceFile, Options, Option<Arc<Program>>);

/// Asks each ShellCheck about all recipes at once.
fn ask(inputs: &[Asked]) {
    let mut by_program: BTreeMap<*const Program, (&Program, Vec<Snippet>)> = BTreeMap::new();
    for (_, source, options, program) in inputs {
        let Some(program) = program else { continue };
        let (_, all) = by_program.entry(Arc::as_ptr(program)).or_insert((program, Vec::new()));
        let parsed = dockerfile::parse(source.clone());
        all.extend(lint::shellcheck::snippets(&lint::Context::new(&parsed, options)));
    }
    by_program.into_values().for_each(|(program, all)| program.ask(all));
}

fn show(args: &LintArgs, all: &[Done]) -> Result<(), Error> {
    let files: Vec<report::File<'_>> = all
        .iter()
        .map(|done| report::File { source: &done.source, findings: &done.report.findings })
        .collect();
    let format = match args.format {
        LintFormat::Text => Format::Text,
        LintFormat::Json => Format::Json,
        LintFormat::Sarif => Format::Sarif,
        LintFormat::Checkstyle => Format::Checkstyle,
        LintFormat::Codeclimate | LintFormat::Gitlab => Format::Codeclimate,
        LintFormat::Junit => Format::Junit,
        LintFormat::Gnu => Format::Gnu,
        LintFormat::Sonarqube => Format::Sonarqube,
        LintFormat::Github => Format::Github,
    };
    let color = match args.output {
        None => crate::style::color_of(&std::io::stdout()),
        Some(_) => Color::Never,
    };
    let text = report::write(format, &files, color);
    match &args.output {
        Some(path) => std::fs::write(path, text)
            .map_err(|e| Error::world(format!("can't write {}: {e}", path.display())))?,
        // A reader that has seen enough is no failure.
        None => drop(std::io::stdout().write_all(text.as_bytes())),
    }
    // In BuildKit's profile only its checks are data; why a recipe can't be built is for people.
    for done in all.iter().filter(|done| done.apart) {
        for error in &done.report.errors {
            eprint!("{}", diagnostic::render(&done.source, error, Color::Never));
        }
    }
    if args.format == LintFormat::Text {
        let count: usize = all.iter().map(|done| done.report.findings.len()).sum();
        let silenced: usize = all.iter().map(|done| done.report.suppressed).sum();
        let fixable = all
            .iter()
            .flat_map(|done| &done.report.findings)
            .filter(|finding| finding.diagnostic.fix.is_some())
            .count();
        let number = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        let mut line = format!("{} in {}", number(count, "finding"), number(all.len(), "recipe"));
        if fixable > 0 {
            line.push_str(&format!(", {fixable} can be fixed with --fix or --unsafe-fixes"));
        }
        if silenced > 0 {
            line.push_str(&format!(", {silenced} silenced by comments"));
        }
        eprintln!("{line}");
    }
    Ok(())
}

fn options(args: &LintArgs, mut options: Options, path: Option<&Path>) -> Result<Options, Error> {
    if let Some(profile) = args.profile {
        options.profile = match profile {
            LintProfile::Default => Profile::Default,
            LintProfile::Buildkit => Profile::Buildkit,
            LintProfile::Hadolint => Profile::Hadolint,
            LintProfile::All => Profile::All,
        };
    }
    options.inline &= !args.no_inline;
    let fail = |e: lint::ConfigError| {
        let error = Error::world(e.to_string());
        match e.hint() {
            Some(hint) => error.hint(hint),
            None => error,
        }
    };
    for name in args.ignore.iter().flat_map(|names| names.split(',')) {
        options.set(name.trim(), "off").map_err(fail)?;
    }
    for name in args.enable.iter().flat_map(|names| names.split(',')) {
        options.set(name.trim(), "on").map_err(fail)?;
    }
    if !args.trusted_registry.is_empty() {
        options.trusted_registries.clone_from(&args.trusted_registry);
    }
    if let Some(platform) = &args.platform {
        let parsed = oci::Platform::parse(platform, &crate::machine::host_platform());
        options.platform = Some(parsed.map_err(|e| Error::world(e.to_string()).hint(e.hint()))?);
    }
    options.ignore = lint_files::ignore_file(path);
    Ok(options)
}

/// What became of a recipe that was repaired.
enum Repaired {
    /// It is in its file; the rest of the findings is to be reported.
    Written(Box<Parsed>),
    /// The difference, or the recipe of standard input, is on standard output, which has no room for more.
    Shown { changed: bool },
}

fn repair(
    args: &LintArgs,
    parsed: Parsed,
    options: &Options,
    path: Option<&Path>,
    programs: &Programs,
) -> Result<Repaired, Error> {
    let which = if args.unsafe_fixes { fix::Which::All } else { fix::Which::Safe };
    let outcome = fix::fix(&parsed, options, which);
    // A ShellCheck that fails finds nothing, which would look like success.
    programs.failure()?;
    let name = parsed.source.name().to_owned();
    for dropped in &outcome.dropped {
        match dropped.rule.as_str() {
            // None of its rules: the whole file can't be edited.
            "" => eprintln!("{name}: not fixed: {}", dropped.refusal),
            rule => eprintln!("{name}:{}: not fixed: {rule}: {}", dropped.line, dropped.refusal),
        }
    }
    let changed = outcome.text != parsed.source.text();
    if args.diff {
        print!("{}", fmt_diff::unified(&name, parsed.source.text(), &outcome.text));
        return Ok(Repaired::Shown { changed });
    }
    let Some(path) = path else {
        print!("{}", outcome.text);
        return Ok(Repaired::Shown { changed });
    };
    if !changed {
        return Ok(Repaired::Written(Box::new(parsed)));
    }
    fmt::replace(path, outcome.text.as_bytes())?;
    let made = outcome.made.len();
    eprintln!("{name}: {made} {}", if made == 1 { "fix" } else { "fixes" });
    Ok(Repaired::Written(Box::new(dockerfile::parse(SourceFile::new(name, outcome.text)))))
}

/// Compares or renews a snapshot. Whether it has drifted.
fn snapshot(args: &LintArgs, parsed: &Parsed, options: &Options, path: Option<&Path>) -> Result<bool, Error> {
    let text = lint::snapshot::snapshot(parsed, options);
    let Some(path) = path else {
        print!("{text}");
        return Ok(false);
    };
    settle(path, "snap", &text, Review::of(args.accept, args.check))
}

fn read_baseline(path: &Path) -> Result<BaselineV1, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::new(ErrorKind::NotFound, format!("can't read {}: {e}", path.display())))?;
    BaselineV1::read(&text).map_err(|e| {
        Error::world(format!("{}: {e}", path.display())).hint("make it again with --write-baseline")
    })
}

fn migrate(file: &Path) -> Result<ExitCode, Error> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| Error::new(ErrorKind::NotFound, format!("can't read {}: {e}", file.display())))?;
    let toml =
        lint::hadolint::migrate(&text).map_err(|e| Error::world(format!("{}: {e}", file.display())))?;
    print!("{toml}");
    Ok(ExitCode::SUCCESS)
}
