//! What to look for: profiles, rules on and off, and the file `ctrbuild.toml` that says so.
//!
//! ```toml
//! [lint]
//! profile = "default"             # default, buildkit, hadolint, all
//! failure-threshold = "warning"   # error, warning, info, style, hint, none
//! exclude = ["vendor/**"]
//! trusted-registries = ["docker.io", "*.example.com"]
//! strict-labels = false
//! shellcheck = "shellcheck"       # a program that is found on PATH, or an absolute path
//!
//! [lint.rules]                    # on, off, or a severity; names of other tools work too
//! DL3008 = "off"
//! pipefail = "error"
//!
//! [lint.labels]                   # email, hash, text, rfc3339, semver, spdx, url
//! "org.opencontainers.image.source" = "url"
//!
//! [[lint.override]]
//! paths = ["tests/**"]
//! rules = { DL3006 = "off" }
//! ```

mod place;

use crate::IgnoreFile;
use crate::custom::{CustomRule, CustomRuleV1};
use crate::rule::{Default as RuleDefault, Group, Rule};
use crate::shellcheck::{self, Checker};
use diagnostic::Severity;
use dockerfile::glob;
use oci::Platform;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which rules run where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// All rules that are on by themselves.
    #[default]
    Default,
    /// BuildKit's checks alone, exactly as BuildKit reports them.
    Buildkit,
    /// hadolint's rules and the shell rules alone.
    Hadolint,
    /// Every rule.
    All,
}

/// What is said about one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// It does not run.
    Off,
    /// It runs with its own severity.
    On,
    /// It runs with this severity.
    As(Severity),
}

/// What a label's value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelType {
    /// An e-mail address.
    Email,
    /// A git commit.
    Hash,
    /// Anything.
    #[serde(alias = "rawtext")]
    Text,
    /// A date and time.
    Rfc3339,
    /// A semantic version.
    Semver,
    /// A licence expression.
    Spdx,
    /// An address.
    Url,
}

/// What to look for in one recipe.
#[derive(Clone, Debug)]
pub struct Options {
    /// The rules to start with.
    pub profile: Profile,
    /// What is said about rules; the last word on one counts.
    pub levels: Vec<(&'static Rule, Level)>,
    /// The platform; guessed from the recipe where `None`.
    pub platform: Option<Platform>,
    /// The ignore file of the context.
    pub ignore: Option<IgnoreFile>,
    /// Registries that images may come from; any where empty.
    pub trusted_registries: Vec<String>,
    /// Labels that must be there, and what they hold.
    pub labels: BTreeMap<String, LabelType>,
    /// Whether only those labels may be there.
    pub strict_labels: bool,
    /// Whether comments in the recipe may silence rules.
    pub inline: bool,
    /// Rules of users.
    pub custom: Vec<CustomRule>,
    /// What is said about findings that only ShellCheck knows, by the number of their id.
    pub shellcheck_levels: Vec<(u32, Level)>,
    /// Says what ShellCheck finds; it is not asked where `None`.
    pub shellcheck: Option<Arc<dyn Checker>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            profile: Profile::Default,
            levels: Vec::new(),
            platform: None,
            ignore: None,
            trusted_registries: Vec::new(),
            labels: BTreeMap::new(),
            strict_labels: false,
            inline: true,
            custom: Vec::new(),
            shellcheck_levels: Vec::new(),
            shellcheck: None,
        }
    }
}

impl Options {
    /// Options of a profile.
    pub fn of(profile: Profile) -> Self {
        Self { profile, ..Self::default() }
    }

    /// The severity a rule runs with; `None` where it does not run.
    pub fn severity(&self, rule: &Rule) -> Option<Severity> {
        let said =
            self.levels.iter().rev().find(|(other, _)| other.name == rule.name).map(|(_, level)| *level);
        match said {
            Some(Level::Off) => return None,
            Some(Level::On) => return Some(rule.severity),
            Some(Level::As(severity)) => return Some(severity),
            None => {}
        }
        let on = match self.profile {
            Profile::Default => rule.default == RuleDefault::On,
            Profile::All => true,
            Profile::Buildkit => rule.group == Group::Buildkit,
            Profile::Hadolint => {
                let known =
                    rule.aliases.iter().any(|alias| alias.starts_with("DL") || alias.starts_with("SC"));
                known && !rule.aliases.contains(&"DL3057")
            }
        };
        on.then_some(rule.severity)
    }

    /// Sets what is said about a rule.
    ///
    /// # Errors
    /// There is no rule of that name, or no such level.
    pub fn set(&mut self, name: &str, level: &str) -> Result<(), ConfigError> {
        let level =
            read_level(level).ok_or_else(|| ConfigError::Level { rule: name.into(), level: level.into() })?;
        let mut found = false;
        for rule in crate::RULES.iter().filter(|rule| rule.is_called(name)) {
            self.levels.push((rule, level));
            found = true;
        }
        match (found, shellcheck::code(name)) {
            (true, _) => Ok(()),
            (false, Some(code)) => {
                self.shellcheck_levels.push((code, level));
                Ok(())
            }
            (false, None) => Err(ConfigError::UnknownRule { name: name.into(), near: near_rule(name) }),
        }
    }
}

/// `error`, `warning`, … as hadolint and others write them.
pub fn read_severity(text: &str) -> Option<Severity> {
    Some(match text.to_ascii_lowercase().as_str() {
        "error" => Severity::Error,
        "warning" | "warn" => Severity::Warning,
        "info" => Severity::Info,
        "style" => Severity::Style,
        "hint" => Severity::Hint,
        _ => return None,
    })
}

fn read_level(text: &str) -> Option<Level> {
    match text.to_ascii_lowercase().as_str() {
        "off" | "ignore" | "none" | "false" => Some(Level::Off),
        "on" | "true" => Some(Level::On),
        other => read_severity(other).map(Level::As),
    }
}

fn near_rule(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    crate::RULES.iter().map(|rule| rule.name).find(|known| known.to_ascii_lowercase().contains(&lower))
}

/// Why configuration can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not TOML, or not of the expected shape.
    #[error("can't read the configuration: {message}")]
    Toml {
        /// What the reader says, with the place.
        message: String,
    },
    /// No such rule.
    #[error("there is no rule {name:?}")]
    UnknownRule {
        /// As written.
        name: String,
        /// What may have been meant.
        near: Option<&'static str>,
    },
    /// Neither on, off nor a severity.
    #[error("rule {rule:?} can't be set to {level:?}")]
    Level {
        /// The rule.
        rule: String,
        /// As written.
        level: String,
    },
    /// A threshold that is none.
    #[error("{text:?} is no severity")]
    Severity {
        /// As written.
        text: String,
    },
    /// A path that is no glob.
    #[error("pattern {pattern:?} has a syntax error")]
    Pattern {
        /// As written.
        pattern: String,
    },
    /// A rule of the user's own can't be used.
    #[error("rule {name:?} of the configuration: {message}")]
    Custom {
        /// Its name.
        name: String,
        /// What is wrong with it.
        message: String,
        /// The value that is wrong.
        culprit: Option<String>,
    },
    /// Any of these, with its place.
    #[error("line {line}, column {column}: {error}")]
    At {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong.
        error: Box<ConfigError>,
    },
}

impl ConfigError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::At { error, .. } => error.hint(),
            Self::UnknownRule { near: Some(near), .. } => Some(format!("did you mean {near}?")),
            Self::UnknownRule { .. } => Some("list all rules with `ctrbuild lint explain`".into()),
            Self::Level { .. } => Some("use on, off, error, warning, info, style or hint".into()),
            Self::Severity { .. } => Some("use error, warning, info, style, hint or none".into()),
            _ => None,
        }
    }
}

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct FileV1 {
    lint: LintV1,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct LintV1 {
    profile: Option<Profile>,
    failure_threshold: Option<String>,
    exclude: Vec<String>,
    trusted_registries: Vec<String>,
    strict_labels: Option<bool>,
    inline: Option<bool>,
    shellcheck: Option<String>,
    rules: BTreeMap<String, String>,
    labels: BTreeMap<String, LabelType>,
    #[serde(rename = "override")]
    overrides: Vec<OverrideV1>,
    rule: Vec<CustomRuleV1>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OverrideV1 {
    paths: Vec<String>,
    rules: BTreeMap<String, String>,
}

/// Configuration of a folder, merged with that of the folders above.
#[derive(Clone, Debug, Default)]
pub struct Config {
    files: Vec<LintV1>,
}

impl Config {
    /// Adds a file; what it says counts more than what was added before.
    ///
    /// # Errors
    /// The text is no configuration, or names rules that there are not.
    pub fn add(&mut self, text: &str) -> Result<(), ConfigError> {
        let at = |place: Option<place::Place>, error: ConfigError| match place {
            Some((line, column)) => ConfigError::At { line, column, error: Box::new(error) },
            None => error,
        };
        let file: FileV1 = toml::from_str(text).map_err(|error| {
            let message = error.message().trim_end().replace('\n', "; ");
            at(error.span().map(|span| place::of(text, span.start)), ConfigError::Toml { message })
        })?;
        let mut probe = Options::default();
        let rules = file.lint.rules.iter().chain(file.lint.overrides.iter().flat_map(|one| &one.rules));
        for (name, level) in rules {
            if file.lint.rule.iter().all(|rule| rule.name != *name) {
                probe.set(name, level).map_err(|error| at(place::of_level(text, name), error))?;
            }
        }
        for (index, rule) in file.lint.rule.iter().enumerate() {
            CustomRule::new(rule.clone()).map_err(|error| {
                let culprit = match &error {
                    ConfigError::Custom { culprit, .. } => culprit.as_deref(),
                    _ => None,
                };
                at(place::of_rule(text, index, culprit), error)
            })?;
        }
        if let Some(said) = file.lint.failure_threshold.as_deref().filter(|said| *said != "none") {
            read_severity(said).ok_or_else(|| {
                let error = ConfigError::Severity { text: said.to_owned() };
                at(place::of_setting(text, "failure-threshold"), error)
            })?;
        }
        let overrides = file.lint.overrides.iter().flat_map(|one| &one.paths);
        for pattern in file.lint.exclude.iter().chain(overrides) {
            glob::matches(pattern, "").map_err(|_| {
                let error = ConfigError::Pattern { pattern: pattern.clone() };
                at(place::of_setting(text, "exclude").filter(|_| file.lint.exclude.contains(pattern)), error)
            })?;
        }
        self.files.push(file.lint);
        Ok(())
    }

    /// Whether a path, relative to the project and with `/`, is left out.
    pub fn excludes(&self, path: &str) -> bool {
        self.files.iter().flat_map(|file| &file.exclude).any(|pattern| glob_matches(pattern, path))
    }

    /// The severity from which on findings fail; `Some(None)` for never.
    pub fn failure_threshold(&self) -> Option<Option<Severity>> {
        self.files.iter().rev().find_map(|file| file.failure_threshold.as_deref()).map(read_severity)
    }

    /// The ShellCheck to ask: a name or a path.
    pub fn shellcheck(&self) -> Option<&str> {
        self.files.iter().rev().find_map(|file| file.shellcheck.as_deref())
    }

    /// Options for the recipe at `path`.
    pub fn options(&self, path: &str) -> Options {
        let mut options = Options::default();
        for file in &self.files {
            options.profile = file.profile.unwrap_or(options.profile);
            options.strict_labels = file.strict_labels.unwrap_or(options.strict_labels);
            options.inline = file.inline.unwrap_or(options.inline);
            if !file.trusted_registries.is_empty() {
                options.trusted_registries.clone_from(&file.trusted_registries);
            }
            options.labels.extend(file.labels.iter().map(|(key, kind)| (key.clone(), *kind)));
            options.custom.extend(file.rule.iter().filter_map(|rule| CustomRule::new(rule.clone()).ok()));
            let matching =
                file.overrides.iter().filter(|one| one.paths.iter().any(|glob| glob_matches(glob, path)));
            for (name, level) in file.rules.iter().chain(matching.flat_map(|one| &one.rules)) {
                // Names were checked when the file was added.
                if options.set(name, level).is_err()
                    && let Some(level) = read_level(level)
                {
                    options
                        .custom
                        .iter_mut()
                        .filter(|rule| rule.name() == name)
                        .for_each(|rule| rule.set(level));
                }
            }
        }
        options
    }
}

/// `*`, `?`, `[…]` inside a path element, `**` over elements; a pattern without `/` fits the last element too.
pub fn glob_matches(pattern: &str, path: &str) -> bool {
    let deep = |pattern: &str| glob::matches_deep(pattern, path).unwrap_or(false);
    let name = path.rsplit('/').next().unwrap_or(path);
    deep(pattern) || (!pattern.contains('/') && glob::matches(pattern, name).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_have_a_place() {
        let place = |text: &str| match Config::default().add(text) {
            Err(ConfigError::At { line, column, error }) => (line, column, error.to_string()),
            other => (0, 0, format!("{other:?}")),
        };
        let (line, column, said) = place("[lint]\nprofil = 1\n");
        assert_eq!((line, column), (2, 1), "{said}");
        assert_eq!(place("[lint\n").0, 1);
        let said = "there is no rule \"NOPE\"".to_owned();
        assert_eq!(place("[lint.rules]\nDL3008 = \"off\"\n  NOPE = \"off\"\n"), (3, 3, said));
        assert_eq!(place("[[lint.override]]\npaths = []\nrules = { no-sudo = \"x\" }\n").1, 11);
        assert_eq!(place("[lint]\nfailure-threshold = \"x\"\n").1, 21);
        assert_eq!(place("[lint]\nexclude = [\"[\"]\n").0, 2);
        let rule = "[[lint.rule]]\nname = \"a\"\nmessage = \"m\"\n";
        let second =
            format!("{rule}{}command = \"é\"\nargs = [\"x\", \"[z\"]\n", rule.replace("\"a\"", "\"b\""));
        let (line, column, said) = place(&second);
        assert_eq!((line, column), (8, 14), "{said}");
        assert!(said.contains("\"[z\" has a syntax error"), "{said}");
        let bad = format!("{rule}command = \"x\"\nbad = \"FROM a\\nRUN y\\n\"\n");
        assert_eq!((place(&bad).0, place(&bad).1), (5, 7), "{}", place(&bad).2);
        assert_eq!(place(&rule.replace("\"a\"", "\"no-sudo\"")).0, 2);
    }
}
