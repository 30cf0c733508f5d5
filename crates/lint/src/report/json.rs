//! The project's own JSON: an array with one object a finding, each on a line.

use super::{File, all, lines, places};
use diagnostic::{Applicability, Fix, SourceFile};
use serde_json::{Value, json};

/// `file`, `rule`, `aliases`, `severity`, `line`, `column`, `end_line`, `end_column`, `message`, `fix`, and
/// `instruction_line` (where the instruction starts), `help`, `notes`.
pub(super) fn findings(files: &[File<'_>]) -> String {
    let objects = all(files).map(|(source, finding)| {
        let ((line, column), (end_line, end_column)) = places(source, &finding.diagnostic);
        json!({
            "file": source.name(),
            "rule": finding.diagnostic.rule,
            "aliases": finding.aliases(),
            "severity": finding.diagnostic.severity.name(),
            "line": line,
            "column": column,
            "end_line": end_line,
            "end_column": end_column,
            "instruction_line": finding.instruction_line,
            "message": finding.diagnostic.message,
            "help": finding.diagnostic.help,
            "notes": finding.diagnostic.notes,
            "fix": finding.diagnostic.fix.as_ref().map(|change| fix(source, change)),
        })
    });
    lines(objects)
}

fn fix(source: &SourceFile, fix: &Fix) -> Value {
    let edits: Vec<Value> = fix
        .edits
        .iter()
        .map(|edit| {
            let (start, end) = (source.position(edit.range.start), source.position(edit.range.end));
            json!({
                "line": start.line,
                "column": start.column,
                "end_line": end.line,
                "end_column": end.column,
                "replacement": edit.replacement,
            })
        })
        .collect();
    json!({"title": fix.title, "safe": fix.applicability == Applicability::Safe, "edits": edits})
}
