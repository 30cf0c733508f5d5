//! All that is known of one version of a recipe. Made when it is first asked for.

use crate::index::{self, Index};
use diagnostic::SourceFile;
use dockerfile::Parsed;
use lint::fix::{self, Outcome, Which};
use lint::semantics::Semantics;
use lint::{Context, Options, Report};
use std::cell::OnceCell;

/// A recipe, read.
#[derive(Debug)]
pub struct Analysis {
    /// The parsed text.
    pub parsed: Parsed,
    /// What to look for.
    pub options: Options,
    /// What the builder will make of it.
    pub semantics: Semantics,
    /// Its names.
    pub index: Index,
    report: OnceCell<Report>,
    fixed: OnceCell<Outcome>,
}

impl Analysis {
    /// Reads a text.
    pub fn new(name: &str, text: &str, options: Options) -> Self {
        let parsed = dockerfile::parse(SourceFile::new(name, text));
        let (index, semantics) = {
            let cx = Context::new(&parsed, &options);
            (index::build(&cx), cx.semantics)
        };
        Self { parsed, options, semantics, index, report: OnceCell::new(), fixed: OnceCell::new() }
    }

    /// What is wrong with it.
    pub fn report(&self) -> &Report {
        self.report.get_or_init(|| lint::lint(&self.parsed, &self.options))
    }

    /// It with every repair that keeps the meaning.
    pub fn fixed(&self) -> &Outcome {
        self.fixed.get_or_init(|| fix::fix(&self.parsed, &self.options, Which::Safe))
    }

    /// The text.
    pub fn text(&self) -> &str {
        self.parsed.source.text()
    }
}
