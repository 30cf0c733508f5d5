//! Repairs what rules know how to repair.
//!
//! Each fix must pass [`crate::gate`] and make its finding go away; one that does not is left out and named.

use crate::gate::{self, Refusal};
use crate::{Finding, Options, lint};
use diagnostic::{Applicability, Fix, SourceFile};
use dockerfile::Parsed;
use std::collections::BTreeSet;

/// Most rounds of fixing: a fix may make room for another.
const MAX_ROUNDS: usize = 12;

/// Which fixes to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that keep the meaning.
    Safe,
    /// All.
    All,
}

/// A fix that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The rule.
    pub rule: String,
    /// The line of the text it was made in.
    pub line: u32,
    /// What was done.
    pub title: String,
}

/// A fix that did not pass the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The rule.
    pub rule: String,
    /// The line.
    pub line: u32,
    /// Why.
    pub refusal: Refusal,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The new text.
    pub text: String,
    /// What was done, in order.
    pub made: Vec<Made>,
    /// What was not done.
    pub dropped: Vec<Dropped>,
}

/// Makes fixes until there are none left. The text is the old one where nothing could be done.
pub fn fix(parsed: &Parsed, options: &Options, which: Which) -> Outcome {
    let mut outcome = Outcome { text: parsed.source.text().to_owned(), ..Outcome::default() };
    if !parsed.source.is_utf8() {
        outcome.dropped.push(Dropped { rule: String::new(), line: 1, refusal: Refusal::NotUtf8 });
        return outcome;
    }
    let name = parsed.source.name().to_owned();
    let mut current = parsed.clone();
    for _ in 0..MAX_ROUNDS {
        let findings = lint(&current, options).findings;
        let wanted: Vec<(&Finding, &Fix)> = findings
            .iter()
            .filter_map(|finding| Some((finding, finding.diagnostic.fix.as_ref()?)))
            .filter(|(_, fix)| which == Which::All || fix.applicability == Applicability::Safe)
            .filter(|(finding, _)| {
                let line = current.source.line_of(finding.diagnostic.range.start);
                !outcome
                    .dropped
                    .iter()
                    .any(|dropped| dropped.rule == finding.diagnostic.rule && dropped.line == line)
            })
            .collect();
        let batch = without_overlaps(&wanted);
        if batch.is_empty() {
            break;
        }
        let made = |finding: &Finding, fix: &Fix, parsed: &Parsed| Made {
            rule: finding.diagnostic.rule.to_string(),
            line: parsed.source.line_of(finding.diagnostic.range.start),
            title: fix.title.clone(),
        };
        if let Ok(next) = attempt(&current, &batch, options, &name) {
            outcome.made.extend(batch.iter().map(|(finding, fix)| made(finding, fix, &current)));
            current = next;
            continue;
        }
        // One of them does not pass: make the first that does.
        let mut progress = false;
        for (finding, fix) in &batch {
            match attempt(&current, &[(*finding, *fix)], options, &name) {
                Ok(next) => {
                    outcome.made.push(made(finding, fix, &current));
                    current = next;
                    progress = true;
                    break;
                }
                Err(refusal) => outcome.dropped.push(Dropped {
                    rule: finding.diagnostic.rule.to_string(),
                    line: current.source.line_of(finding.diagnostic.range.start),
                    refusal,
                }),
            }
        }
        if !progress {
            break;
        }
    }
    outcome.text = current.source.text().to_owned();
    outcome
}

/// The recipe with the fix of one finding made, where it passes the gate and makes the finding go away.
///
/// # Errors
/// The finding has no fix, or why it can't be made.
pub fn prove(parsed: &Parsed, finding: &Finding, options: &Options) -> Result<Parsed, Refusal> {
    if !parsed.source.is_utf8() {
        return Err(Refusal::NotUtf8);
    }
    let fix = finding.diagnostic.fix.as_ref().ok_or(Refusal::Useless)?;
    attempt(parsed, &[(finding, fix)], options, parsed.source.name())
}

fn without_overlaps<'a>(wanted: &[(&'a Finding, &'a Fix)]) -> Vec<(&'a Finding, &'a Fix)> {
    let mut taken: Vec<diagnostic::TextRange> = Vec::new();
    let mut out = Vec::new();
    for (finding, fix) in wanted {
        let touches =
            |a: diagnostic::TextRange, b: diagnostic::TextRange| a.start <= b.end && b.start <= a.end;
        if fix.edits.iter().any(|edit| taken.iter().any(|range| touches(*range, edit.range))) {
            continue;
        }
        taken.extend(fix.edits.iter().map(|edit| edit.range));
        out.push((*finding, *fix));
    }
    out
}

fn attempt(
    current: &Parsed,
    batch: &[(&Finding, &Fix)],
    options: &Options,
    name: &str,
) -> Result<Parsed, Refusal> {
    let whole = Fix {
        title: String::new(),
        applicability: Applicability::Safe,
        edits: batch.iter().flat_map(|(_, fix)| fix.edits.iter().cloned()).collect(),
    };
    let text = whole.apply(current.source.text()).ok_or(Refusal::Edits)?;
    let next = dockerfile::parse(SourceFile::new(name, text));
    let touched: BTreeSet<usize> = current
        .statements
        .iter()
        .enumerate()
        .filter(|(_, statement)| {
            whole.edits.iter().any(|edit| {
                edit.range.start <= statement.range.end && statement.range.start <= edit.range.end
            })
        })
        .map(|(index, _)| index)
        .collect();
    let drops_comments = batch.iter().all(|(finding, _)| finding.diagnostic.rule == "unused-suppression");
    match gate::same(current, &next, &touched) {
        Err(Refusal::Comments) if drops_comments => {}
        result => result?,
    }
    let count = |parsed: &Parsed, rule: &str| {
        lint(parsed, options).findings.iter().filter(|finding| finding.diagnostic.rule == rule).count()
    };
    let rules: BTreeSet<&str> = batch.iter().map(|(finding, _)| finding.diagnostic.rule.as_ref()).collect();
    for rule in rules {
        if count(&next, rule) >= count(current, rule) {
            return Err(Refusal::Useless);
        }
    }
    Ok(next)
}
