//! Diagnostics as JSON: one object a finding, for tools.

use crate::{Applicability, Diagnostic, SourceFile, TextRange};
use serde_json::{Value, json};

/// A diagnostic as an object: `rule`, `severity`, `message`, `file`, `range` (`start`/`end`, each with byte
/// `offset`, 1-based `line` and `column` in characters), `labels`, `notes`, `help`, `url`, `fix`.
pub fn to_json(file: &SourceFile, diagnostic: &Diagnostic) -> Value {
    let fix = diagnostic.fix.as_ref().map(|fix| {
        json!({
            "title": fix.title,
            "safe": fix.applicability == Applicability::Safe,
            "edits": fix.edits.iter().map(|edit| json!({
                "range": range(file, edit.range),
                "replacement": edit.replacement,
            })).collect::<Vec<_>>(),
        })
    });
    json!({
        "rule": diagnostic.rule,
        "severity": diagnostic.severity.name(),
        "message": diagnostic.message,
        "file": file.name(),
        "range": range(file, diagnostic.range),
        "labels": diagnostic.labels.iter().map(|label| json!({
            "range": range(file, label.range),
            "message": label.message,
        })).collect::<Vec<_>>(),
        "notes": diagnostic.notes,
        "help": diagnostic.help,
        "url": diagnostic.url,
        "fix": fix,
    })
}

/// The same as one line of text without the final newline.
pub fn to_json_line(file: &SourceFile, diagnostic: &Diagnostic) -> String {
    to_json(file, diagnostic).to_string()
}

fn range(file: &SourceFile, range: TextRange) -> Value {
    let place = |offset| {
        let position = file.position(offset);
        json!({"offset": offset, "line": position.line, "column": position.column})
    };
    json!({"start": place(range.start), "end": place(range.end)})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fix;

    #[test]
    fn shape() {
        let file = SourceFile::new("Dockerfile", "FROM a\nRUM x\n");
        let range = TextRange::new(7, 10);
        let diagnostic = Diagnostic::error("unknown-instruction", range, "unknown instruction: RUM")
            .help("did you mean RUN?")
            .fix(Fix::replace("write RUN", Applicability::Unsafe, range, "RUN"));
        let value = to_json(&file, &diagnostic);
        assert_eq!(value["range"]["start"], json!({"offset": 7, "line": 2, "column": 1}));
        assert_eq!(value["range"]["end"]["column"], 4);
        assert_eq!(value["severity"], "error");
        assert_eq!(value["fix"]["edits"][0]["replacement"], "RUN");
        assert_eq!(value["fix"]["safe"], false);
        assert!(!to_json_line(&file, &diagnostic).contains('\n'));
    }
}
