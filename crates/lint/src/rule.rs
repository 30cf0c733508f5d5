//! What a rule is: its names, its words, and the function that looks for it.

use crate::context::{Context, Sink};
use diagnostic::Severity;

/// Where a rule comes from. Profiles are made of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// One of BuildKit's build checks.
    Buildkit,
    /// One of hadolint's rules.
    Hadolint,
    /// A rule about the shell text of RUN, known from ShellCheck.
    Shell,
    /// A rule of this project.
    Own,
}

impl Group {
    /// The word in configuration and reference.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Buildkit => "buildkit",
            Self::Hadolint => "hadolint",
            Self::Shell => "shell",
            Self::Own => "own",
        }
    }
}

/// Whether a rule runs when nothing is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Default {
    /// It runs.
    On,
    /// Only where a profile or the configuration asks for it.
    Off,
}

/// One rule with all that is said about it.
pub struct Rule {
    /// The name: unique, never changed. BuildKit's checks keep BuildKit's name.
    pub name: &'static str,
    /// Names of the same rule in other tools, such as `DL3008` or `SC2086`.
    pub aliases: &'static [&'static str],
    /// Where it comes from.
    pub group: Group,
    /// How grave a finding is.
    pub severity: Severity,
    /// Whether it runs when nothing is configured.
    pub default: Default,
    /// One sentence: what is wrong.
    pub summary: &'static str,
    /// Why that is bad and what to do instead.
    pub why: &'static str,
    /// A recipe with exactly this fault.
    pub bad: &'static str,
    /// The same recipe without it.
    pub good: &'static str,
    /// Looks for it.
    pub check: fn(&Context<'_>, &mut Sink<'_>),
}

impl Rule {
    /// Whether the rule answers to `name` (its own name or an alias), in any case.
    pub fn is_called(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
            || self.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
    }

    /// The page about the rule, as Markdown.
    pub fn document(&self) -> String {
        let mut out = format!("# {}\n\n{}.\n\n", self.name, self.summary);
        let aliases = if self.aliases.is_empty() { "none".to_owned() } else { self.aliases.join(", ") };
        let default = if self.default == Default::On { "on" } else { "off" };
        out.push_str(&format!(
            "| also called | group | severity | by default |\n|---|---|---|---|\n| {aliases} | {} | {} | {default} |\n\n{}\n",
            self.group.name(),
            self.severity.name(),
            self.why,
        ));
        for (title, text) in [("Bad", self.bad), ("Good", self.good)] {
            if !text.is_empty() && !self.bad.is_empty() {
                out.push_str(&format!("\n## {title}\n```dockerfile\n{}\n```\n", text.trim_end()));
            }
        }
        out
    }

    /// The page about the rule, relative to the documentation's root.
    pub fn page(&self) -> String {
        format!("reference/rules/{}.md", self.name)
    }
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Rule").field(&self.name).finish()
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Rule {}
