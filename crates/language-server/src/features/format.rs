//! One look for all recipes, as `ctrbuild fmt` has it, in few edits.

use super::View;
use crate::edits;
use diagnostic::{SourceFile, TextRange};
use lint::gate;
use std::collections::BTreeSet;

/// Edits for the whole recipe; `None` where it has errors or the result could not be proven.
pub fn document(view: &View<'_>) -> Option<Vec<(TextRange, String)>> {
    let formatted = lint::fmt::format(&view.analysis.parsed).ok()?;
    Some(edits::between(view.text.as_str(), &formatted.text))
}

/// Those edits that lie on the lines of a range, if they alone keep the meaning.
pub fn range(view: &View<'_>, range: TextRange) -> Option<Vec<(TextRange, String)>> {
    let line = |at: u32| view.text.position(at).line;
    let (first, last) = (line(range.start), line(range.end));
    let mut edits = document(view)?;
    edits.retain(|(range, _)| {
        first <= line(range.start) && line(range.end) <= last + 1 && line(range.start) <= last
    });
    let text = edits::apply(view.text.as_str(), &edits)?;
    let parsed = &view.analysis.parsed;
    let next = dockerfile::parse(SourceFile::new(parsed.source.name(), text));
    gate::same(parsed, &next, &BTreeSet::new()).ok()?;
    Some(edits)
}
