//! Lint, fix and format recipes.
//!
//! [`lint`] is pure: a parsed recipe and [`Options`] go in, a [`Report`] comes out. A rule is one file in
//! [`rules`] with its code, its words and its examples; [`RULES`] lists them all. Nothing here reads a file,
//! the environment or a clock, or runs a program; configuration and ignore files come as text, and what
//! ShellCheck says by way of [`shellcheck::Checker`].
//! Invariants: a finding's range lies inside the text; [`fix`] and [`format`](fmt::format) give a text only if
//! it passed the gate of [`gate`], else the old one and why.

#![forbid(unsafe_code)]

pub mod baseline;
pub mod config;
pub mod context;
pub mod custom;
pub mod fix;
pub mod fmt;
pub mod gate;
pub mod hadolint;
pub mod project;
pub mod report;
mod rule;
pub mod rules;
pub mod secrets;
pub mod semantics;
pub mod shell;
pub mod shellcheck;
pub mod snapshot;
pub mod suppress;

pub use config::{Config, ConfigError, LabelType, Level, Options, Profile};
pub use context::{Context, Finding, Origin, Sink};
pub use rule::{Default, Group, Rule};
pub use rules::{RULES, find_rule};

use diagnostic::{Diagnostic, Severity};
use dockerfile::Parsed;
use dockerfile::ignore::{self, IgnoreError, Matcher};

/// The patterns of an ignore file.
#[derive(Clone, Debug)]
pub struct IgnoreFile {
    matcher: Matcher,
    exceptions: bool,
    everything: bool,
}

impl IgnoreFile {
    /// Reads the text of a `.dockerignore`.
    ///
    /// # Errors
    /// A pattern has a syntax error, or a line is too long.
    pub fn read(text: &str) -> Result<Self, IgnoreError> {
        let patterns = ignore::read(text)?;
        let exceptions = patterns.iter().any(|pattern| pattern.starts_with('!'));
        let everything = patterns.iter().any(|pattern| matches!(pattern.as_str(), "*" | "**" | "**/*"));
        Ok(Self { matcher: Matcher::new(&patterns)?, exceptions, everything })
    }

    /// Whether a source of COPY is certainly left out. With `!` patterns nothing is certain, as in BuildKit.
    pub fn hides(&self, path: &str) -> bool {
        if self.exceptions || self.matcher.is_empty() {
            return false;
        }
        let path = ignore::clean(path);
        if matches!(path.as_str(), "." | "/" | "") && !self.everything {
            return false;
        }
        self.matcher.matches_or_parent(path.trim_start_matches('/'))
    }

    /// Whether a path of the context is left out. A folder with exceptions in it may be left out itself.
    pub fn leaves_out(&self, path: &str) -> bool {
        let path = ignore::clean(path);
        !self.matcher.is_empty() && self.matcher.matches_or_parent(path.trim_start_matches('/'))
    }

    /// Whether there are patterns that take things in again.
    pub const fn has_exceptions(&self) -> bool {
        self.exceptions
    }
}

/// What was found in one recipe.
#[derive(Clone, Debug, std::default::Default)]
pub struct Report {
    /// Findings in order of the text. Those of the parser are among them, except in the profile of BuildKit.
    pub findings: Vec<Finding>,
    /// Why the recipe can't be built, as the parser says.
    pub errors: Vec<Diagnostic>,
    /// How many findings were silenced by comments.
    pub suppressed: usize,
}

impl Report {
    /// The gravest severity of all findings and errors.
    pub fn worst(&self) -> Option<Severity> {
        let findings = self.findings.iter().map(|finding| finding.diagnostic.severity);
        findings.chain(self.errors.iter().map(|error| error.severity)).min()
    }

    /// Whether anything is at least as grave as `threshold`.
    pub fn fails(&self, threshold: Severity) -> bool {
        self.worst().is_some_and(|worst| worst <= threshold)
    }
}

/// Looks for everything that `options` ask for.
pub fn lint(parsed: &Parsed, options: &Options) -> Report {
    let cx = Context::new(parsed, options);
    let mut findings = Vec::new();
    for rule in RULES {
        let Some(severity) = options.severity(rule) else { continue };
        let mut sink = Sink::new(&cx, rule, severity);
        (rule.check)(&cx, &mut sink);
        findings.extend(sink.finish());
    }
    for rule in &options.custom {
        findings.extend(rule.check(&cx));
    }
    if let Some(checker) = &options.shellcheck {
        shellcheck::check(&cx, checker.as_ref(), &mut findings);
    }
    let errors: Vec<Diagnostic> = parsed.diagnostics.clone();
    if options.profile != Profile::Buildkit {
        findings.extend(errors.iter().map(|error| Finding::of_recipe(&cx, error.clone())));
    }
    let (mut findings, suppressed) = suppress::apply(&cx, findings);
    findings.sort_by(|a, b| {
        let key = |finding: &Finding| (finding.diagnostic.range, finding.diagnostic.rule.clone());
        key(a).cmp(&key(b))
    });
    Report { findings, errors, suppressed }
}
