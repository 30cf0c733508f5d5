//! One finding about a source file.

use crate::TextRange;
use std::borrow::Cow;

/// How grave a finding is. The order is from grave to slight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The recipe can't be built.
    Error,
    /// It can be built but is probably not what was meant.
    Warning,
    /// Worth knowing.
    Info,
    /// A matter of taste.
    Style,
    /// A remark for editors.
    Hint,
}

impl Severity {
    /// The word that is shown and written to JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Style => "style",
            Self::Hint => "hint",
        }
    }
}

/// A second place that matters, with what it has to do with the finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub range: TextRange,
    /// What is there; may be empty.
    pub message: String,
}

/// Whether a fix may be applied without being looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Applicability {
    /// Keeps the meaning of the recipe.
    Safe,
    /// May change what is built.
    Unsafe,
}

/// Replaces the text in `range`; an empty range inserts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// What goes away.
    pub range: TextRange,
    /// What comes in its place.
    pub replacement: String,
}

/// A change that makes the finding go away. Edits are sorted by place and do not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// What the change does, in the imperative: `use the absolute path`.
    pub title: String,
    /// Whether it keeps the meaning.
    pub applicability: Applicability,
    /// The changes.
    pub edits: Vec<Edit>,
}

impl Fix {
    /// A fix of one edit.
    pub fn replace(
        title: impl Into<String>,
        applicability: Applicability,
        range: TextRange,
        with: impl Into<String>,
    ) -> Self {
        Self { title: title.into(), applicability, edits: vec![Edit { range, replacement: with.into() }] }
    }

    /// The text with every edit made. `None` where edits overlap or lie outside of `text`.
    pub fn apply(&self, text: &str) -> Option<String> {
        let mut edits: Vec<&Edit> = self.edits.iter().collect();
        edits.sort_by_key(|edit| edit.range);
        let mut out = String::with_capacity(text.len());
        let mut done = 0;
        for edit in edits {
            out.push_str(text.get(done..edit.range.start as usize)?);
            out.push_str(&edit.replacement);
            text.get(edit.range.as_usize())?;
            done = edit.range.end as usize;
        }
        out.push_str(text.get(done..)?);
        Some(out)
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The rule or error code, such as `unknown-instruction` or `StageNameCasing`.
    pub rule: Cow<'static, str>,
    /// How grave it is.
    pub severity: Severity,
    /// What is wrong; lower-case, no final period.
    pub message: String,
    /// Where.
    pub range: TextRange,
    /// Other places that matter.
    pub labels: Vec<Label>,
    /// Facts that explain the message.
    pub notes: Vec<String>,
    /// What to do about it.
    pub help: Option<String>,
    /// Where the rule is documented.
    pub url: Option<Cow<'static, str>>,
    /// How a tool can repair it.
    pub fix: Option<Fix>,
}

impl Diagnostic {
    /// A finding without labels, notes, help and fix.
    pub fn new(
        rule: impl Into<Cow<'static, str>>,
        severity: Severity,
        range: TextRange,
        message: impl Into<String>,
    ) -> Self {
        Self {
            rule: rule.into(),
            severity,
            message: message.into(),
            range,
            labels: Vec::new(),
            notes: Vec::new(),
            help: None,
            url: None,
            fix: None,
        }
    }

    /// An error.
    pub fn error(rule: impl Into<Cow<'static, str>>, range: TextRange, message: impl Into<String>) -> Self {
        Self::new(rule, Severity::Error, range, message)
    }

    /// A warning.
    pub fn warning(rule: impl Into<Cow<'static, str>>, range: TextRange, message: impl Into<String>) -> Self {
        Self::new(rule, Severity::Warning, range, message)
    }

    /// Adds another place.
    #[must_use]
    pub fn label(mut self, range: TextRange, message: impl Into<String>) -> Self {
        self.labels.push(Label { range, message: message.into() });
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Sets the hint.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Sets the documentation's address.
    #[must_use]
    pub fn url(mut self, url: impl Into<Cow<'static, str>>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// Sets the fix.
    #[must_use]
    pub fn fix(mut self, fix: Fix) -> Self {
        self.fix = Some(fix);
        self
    }

    /// Whether the recipe can't be built because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixes_apply() {
        let fix = Fix {
            title: "t".into(),
            applicability: Applicability::Safe,
            edits: vec![
                Edit { range: TextRange::new(4, 5), replacement: "X".into() },
                Edit { range: TextRange::new(0, 0), replacement: ">".into() },
            ],
        };
        assert_eq!(fix.apply("abcdef").as_deref(), Some(">abcdXf"));
        assert_eq!(fix.apply("abc"), None);
        let overlap = Fix {
            edits: vec![
                Edit { range: TextRange::new(0, 3), replacement: String::new() },
                Edit { range: TextRange::new(2, 4), replacement: String::new() },
            ],
            ..fix
        };
        assert_eq!(overlap.apply("abcdef"), None);
    }
}
