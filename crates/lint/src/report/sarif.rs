//! SARIF 2.1.0 (OASIS), as GitHub code scanning reads it.

use super::{File, all, fingerprints, places};
use diagnostic::Severity;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

pub(super) fn log(files: &[File<'_>]) -> String {
    let level = |severity: Severity| match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info | Severity::Style | Severity::Hint => "note",
    };
    let mut rules: BTreeMap<&str, Value> = BTreeMap::new();
    for (_, finding) in all(files) {
        rules.entry(finding.diagnostic.rule.as_ref()).or_insert_with(|| match finding.rule {
            Some(rule) => json!({
                "id": rule.name,
                "shortDescription": {"text": rule.summary},
                "fullDescription": {"text": rule.why},
                "defaultConfiguration": {"level": level(rule.severity)},
                "properties": {"tags": rule.aliases},
            }),
            None => json!({"id": finding.diagnostic.rule}),
        });
    }
    let index: BTreeMap<&str, usize> = rules.keys().enumerate().map(|(index, name)| (*name, index)).collect();
    let results: Vec<Value> = all(files)
        .zip(fingerprints(files))
        .map(|((source, finding), fingerprint)| {
            let diagnostic = &finding.diagnostic;
            let region = |start: (u32, u32), end: (u32, u32)| {
                json!({"startLine": start.0, "startColumn": start.1, "endLine": end.0, "endColumn": end.1})
            };
            let (start, end) = places(source, diagnostic);
            let artifact = json!({"uri": uri(source.name())});
            let mut result = json!({
                "ruleId": diagnostic.rule,
                "ruleIndex": index.get(diagnostic.rule.as_ref()),
                "level": level(diagnostic.severity),
                "message": {"text": diagnostic.message},
                "locations": [{"physicalLocation": {"artifactLocation": artifact, "region": region(start, end)}}],
                "partialFingerprints": {"ctrbuild/v1": fingerprint},
            });
            if let Some(fix) = &diagnostic.fix {
                let replacements: Vec<Value> = fix
                    .edits
                    .iter()
                    .map(|edit| {
                        let (from, to) = (source.position(edit.range.start), source.position(edit.range.end));
                        json!({
                            "deletedRegion": region((from.line, from.column), (to.line, to.column)),
                            "insertedContent": {"text": edit.replacement},
                        })
                    })
                    .collect();
                result["fixes"] = json!([{
                    "description": {"text": fix.title},
                    "artifactChanges": [{"artifactLocation": artifact, "replacements": replacements}],
                }]);
            }
            result
        })
        .collect();
    let driver = json!({
        "name": "ctrbuild",
        "semanticVersion": env!("CARGO_PKG_VERSION"),
        "rules": rules.into_values().collect::<Vec<_>>(),
    });
    let run = json!({"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results});
    format!("{}\n", json!({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}))
}

/// A path as a relative reference: characters that mean something in addresses are escaped.
fn uri(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte))
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
