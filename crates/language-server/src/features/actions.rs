//! What can be done about findings: repair one, silence one, repair all that keeps the meaning.
//!
//! A repair is offered only if it passed the gate of crate `lint`, and silencing only if it silences.

use super::{View, diagnostics};
use crate::analysis::Analysis;
use crate::edits;
use diagnostic::{Applicability, TextRange};
use dockerfile::syntax::{ItemKind, TokenKind};
use lint::{Finding, fix};
use serde_json::{Value, json};

/// Most findings of one request that are looked at: each costs another look at the recipe.
const MAX_FINDINGS: usize = 12;

/// The kind of the action that repairs all.
pub const FIX_ALL: &str = "source.fixAll.ctrbuild";

/// Which actions are asked for.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// All there are.
    All,
    /// Whether there is something to repair here: editors ask that at every move of the cursor.
    Glance,
    /// Those of these kinds, and kinds below them.
    Kinds(&'a [Value]),
}

impl Asked<'_> {
    fn wants(self, kind: &str) -> bool {
        match self {
            Self::All => true,
            Self::Glance => kind == "quickfix",
            Self::Kinds(kinds) => kinds.iter().filter_map(Value::as_str).any(|asked| {
                let below = kind.strip_prefix(asked).map(|rest| rest.is_empty() || rest.starts_with('.'));
                asked.is_empty() || below == Some(true)
            }),
        }
    }
}

/// Actions for a range.
pub fn all(view: &View<'_>, range: TextRange, asked: Asked<'_>) -> Vec<Value> {
    let mut out = Vec::new();
    if asked.wants("quickfix") {
        let touches = |finding: &&Finding| {
            finding.diagnostic.range.start <= range.end && range.start <= finding.diagnostic.range.end
        };
        let near: Vec<&Finding> =
            view.analysis.report().findings.iter().filter(touches).take(MAX_FINDINGS).collect();
        out.extend(near.iter().filter_map(|finding| repair(view, finding)));
        for finding in near {
            out.extend(silence(view, finding, Extent::Instruction));
            out.extend(silence(view, finding, Extent::File));
        }
    }
    if asked.wants(FIX_ALL) {
        out.extend(fix_all(view));
    }
    out
}

fn repair(view: &View<'_>, finding: &Finding) -> Option<Value> {
    let analysis = view.analysis;
    let fix = finding.diagnostic.fix.as_ref()?;
    fix::prove(&analysis.parsed, finding, &analysis.options).ok()?;
    let safe = fix.applicability == Applicability::Safe;
    let title = match safe {
        true => fix.title.clone(),
        false => format!("{} (may change what is built)", fix.title),
    };
    let mut edits: Vec<(TextRange, String)> =
        fix.edits.iter().map(|edit| (edit.range, edit.replacement.clone())).collect();
    edits.sort_by_key(|(range, _)| *range);
    Some(json!({
        "title": title,
        "kind": "quickfix",
        "isPreferred": safe,
        "diagnostics": [diagnostics::one(view, finding)],
        "edit": view.workspace_edit(&edits),
    }))
}

/// Where a rule is to be silent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Instruction,
    File,
}

fn silence(view: &View<'_>, finding: &Finding, extent: Extent) -> Option<Value> {
    if finding.rule.is_none() && finding.diagnostic.is_error() {
        return None;
    }
    let analysis = view.analysis;
    let rule = finding.diagnostic.rule.as_ref();
    let edit = match extent {
        Extent::Instruction => above(view, finding.scope?, rule, "ignore=")?,
        Extent::File => {
            let first = analysis.parsed.statements.first()?;
            above(view, first.lines.first, rule, "ignore-file=")?
        }
    };
    let text = edits::apply(view.text.as_str(), std::slice::from_ref(&edit))?;
    let after = Analysis::new(analysis.parsed.source.name(), &text, analysis.options.clone());
    let count = |analysis: &Analysis| {
        analysis.report().findings.iter().filter(|one| one.diagnostic.rule == rule).count()
    };
    let whole = after.parsed.statements.len() == analysis.parsed.statements.len()
        && after.parsed.errors.len() == analysis.parsed.errors.len();
    let enough = match extent {
        Extent::Instruction => count(&after) < count(analysis),
        Extent::File => count(&after) == 0,
    };
    let title = match extent {
        Extent::Instruction => format!("silence {rule} here"),
        Extent::File => format!("silence {rule} in this file"),
    };
    (whole && enough).then(|| {
        json!({
            "title": title,
            "kind": "quickfix",
            "diagnostics": [diagnostics::one(view, finding)],
            "edit": view.workspace_edit(&[edit]),
        })
    })
}

/// A comment above an instruction: one that is there gets another name, else there is a new line above the
/// comments that belong to the instruction, as the last of those may be its description.
fn above(view: &View<'_>, line: u32, rule: &str, verb: &str) -> Option<(TextRange, String)> {
    let parsed = &view.analysis.parsed;
    let start = parsed.source.line_range(line).start;
    let items = parsed.tree.items();
    let at = items.partition_point(|item| item.range.end <= start);
    let mut place = items.get(at)?.range.start;
    for item in items[..at].iter().rev().take_while(|item| item.kind == ItemKind::Comment) {
        place = item.range.start;
        let comment = parsed.tree.tokens_of(item).iter().find(|token| token.kind == TokenKind::Comment)?;
        let text = view.slice(comment.range);
        let Some(found) = text.find("ctrbuild:") else { continue };
        let list = text[found + "ctrbuild:".len()..].trim_start();
        if text[..found].trim_matches(['#', ' ', '\t']).is_empty()
            && let Some(names) = list.strip_prefix(verb)
        {
            let length = names
                .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | ','))
                .unwrap_or(names.len());
            let end = comment.range.end - (names.len() - length) as u32;
            return Some((TextRange::empty(end), format!(",{rule}")));
        }
    }
    let newline = if view.text.as_str().contains("\r\n") { "\r\n" } else { "\n" };
    Some((TextRange::empty(place), format!("# ctrbuild: {verb}{rule}{newline}")))
}

fn fix_all(view: &View<'_>) -> Option<Value> {
    let analysis = view.analysis;
    let fixable = |finding: &&Finding| {
        finding.diagnostic.fix.as_ref().is_some_and(|fix| fix.applicability == Applicability::Safe)
    };
    analysis.report().findings.iter().find(fixable)?;
    let outcome = analysis.fixed();
    let edits = edits::between(view.text.as_str(), &outcome.text);
    (!edits.is_empty()).then(|| {
        json!({
            "title": format!("fix all that keeps the meaning ({})", outcome.made.len()),
            "kind": FIX_ALL,
            "edit": view.workspace_edit(&edits),
        })
    })
}
