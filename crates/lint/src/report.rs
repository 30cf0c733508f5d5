//! Findings for people and for other tools.
//!
//! Every format is one function from [`File`]s to text. Lines and columns count from 1, columns in
//! characters; an end is the place behind the last character.

mod json;
mod sarif;
mod xml;

use crate::Finding;
use diagnostic::{Color, Diagnostic, Severity, SourceFile, sanitize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// One recipe and what was found in it.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// The recipe.
    pub source: &'a SourceFile,
    /// What was found.
    pub findings: &'a [Finding],
}

/// A way to write findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// With source frames.
    Text,
    /// One array of objects.
    Json,
    /// SARIF 2.1.0.
    Sarif,
    /// Checkstyle's XML.
    Checkstyle,
    /// Code Climate's JSON, which GitLab reads too.
    Codeclimate,
    /// JUnit's XML.
    Junit,
    /// `file:line:column: severity: message`.
    Gnu,
    /// SonarQube's generic issues.
    Sonarqube,
    /// Annotations of GitHub Actions.
    Github,
}

/// Writes all findings; ends with a newline unless there is nothing to say.
pub fn write(format: Format, files: &[File<'_>], color: Color) -> String {
    match format {
        Format::Text => text(files, color),
        Format::Json => json::findings(files),
        Format::Sarif => sarif::log(files),
        Format::Checkstyle => xml::checkstyle(files),
        Format::Junit => xml::junit(files),
        Format::Codeclimate => codeclimate(files),
        Format::Gnu => gnu(files),
        Format::Sonarqube => sonarqube(files),
        Format::Github => github(files),
    }
}

fn text(files: &[File<'_>], color: Color) -> String {
    let mut out = String::new();
    for file in files {
        for finding in file.findings {
            let aliases = finding.aliases();
            let mut shown = finding.diagnostic.clone();
            if let Some(alias) = aliases.first() {
                shown.rule = format!("{}/{alias}", shown.rule).into();
            }
            out.push_str(&diagnostic::render(file.source, &shown, color));
            out.push('\n');
        }
    }
    out
}

/// Start and end as (line, column).
pub(crate) fn places(source: &SourceFile, diagnostic: &Diagnostic) -> ((u32, u32), (u32, u32)) {
    let place = |offset| {
        let position = source.position(offset);
        (position.line, position.column)
    };
    (place(diagnostic.range.start), place(diagnostic.range.end))
}

/// Names that stay the same while lines move, one a finding in the order of [`all`]. What would have the same
/// name is counted, for tools that take two of one name for one.
fn fingerprints(files: &[File<'_>]) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let each = all(files).map(|(source, finding)| {
        let name = fingerprint(source, finding);
        let count = seen.entry(name.clone()).or_default();
        *count += 1;
        match *count {
            1 => name,
            count => blake3::hash(format!("{name} {count}").as_bytes()).to_hex()[..32].to_owned(),
        }
    });
    each.collect()
}

/// Of the rule, the file and the text of the line.
fn fingerprint(source: &SourceFile, finding: &Finding) -> String {
    let mut hasher = blake3::Hasher::new();
    let line = source.line_text(source.line_of(finding.diagnostic.range.start)).trim();
    for part in [finding.diagnostic.rule.as_ref(), source.name(), line, finding.diagnostic.message.as_str()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

fn all<'a>(files: &'a [File<'a>]) -> impl Iterator<Item = (&'a SourceFile, &'a Finding)> {
    files.iter().flat_map(|file| file.findings.iter().map(|finding| (file.source, finding)))
}

/// An array with each value on a line. Values are written as they come: there may be very many.
fn lines(values: impl Iterator<Item = Value>) -> String {
    let mut out = String::from("[");
    for value in values {
        let _ = write!(out, "{}{value}", if out.len() > 1 { ",\n" } else { "\n" });
    }
    out.push_str(if out.len() > 1 { "\n]\n" } else { "]\n" });
    out
}

fn codeclimate(files: &[File<'_>]) -> String {
    let severity = |severity: Severity| match severity {
        Severity::Error => "critical",
        Severity::Warning => "major",
        Severity::Info => "minor",
        Severity::Style | Severity::Hint => "info",
    };
    let issues = all(files).zip(fingerprints(files)).map(|((source, finding), fingerprint)| {
        let (start, end) = places(source, &finding.diagnostic);
        json!({
            "type": "issue",
            "check_name": finding.diagnostic.rule,
            "description": finding.diagnostic.message,
            "categories": ["Bug Risk"],
            "severity": severity(finding.diagnostic.severity),
            "fingerprint": fingerprint,
            "location": {
                "path": source.name(),
                "positions": {
                    "begin": {"line": start.0, "column": start.1},
                    "end": {"line": end.0, "column": end.1},
                },
                "lines": {"begin": start.0, "end": end.0},
            },
        })
    });
    lines(issues)
}

fn sonarqube(files: &[File<'_>]) -> String {
    let severity = |severity: Severity| match severity {
        Severity::Error => "CRITICAL",
        Severity::Warning => "MAJOR",
        Severity::Info => "MINOR",
        Severity::Style | Severity::Hint => "INFO",
    };
    let issues: Vec<Value> = all(files)
        .map(|(source, finding)| {
            let ((line, column), (end_line, end_column)) = places(source, &finding.diagnostic);
            let mut range = json!({"startLine": line, "endLine": end_line});
            if (end_line, end_column) > (line, column) {
                range["startColumn"] = (column - 1).into();
                range["endColumn"] = (end_column - 1).into();
            }
            json!({
                "engineId": "ctrbuild",
                "ruleId": finding.diagnostic.rule,
                "severity": severity(finding.diagnostic.severity),
                "type": if finding.diagnostic.severity == Severity::Error { "BUG" } else { "CODE_SMELL" },
                "primaryLocation": {
                    "message": finding.diagnostic.message,
                    "filePath": source.name(),
                    "textRange": range,
                },
            })
        })
        .collect();
    format!("{}\n", json!({"issues": issues}))
}

fn gnu(files: &[File<'_>]) -> String {
    let mut out = String::new();
    for (source, finding) in all(files) {
        let ((line, column), _) = places(source, &finding.diagnostic);
        let _ = writeln!(
            out,
            "{}:{line}:{column}: {}: {} [{}]",
            sanitize(source.name()),
            finding.diagnostic.severity.name(),
            sanitize(&finding.diagnostic.message),
            finding.diagnostic.rule,
        );
    }
    out
}

fn github(files: &[File<'_>]) -> String {
    // The log is a terminal too.
    let plain = |text: &str| -> String {
        let lines = text.split_inclusive(['\r', '\n']);
        lines
            .map(|line| {
                line.strip_suffix(['\r', '\n']).map_or_else(
                    || sanitize(line).into_owned(),
                    |rest| format!("{}{}", sanitize(rest), &line[rest.len()..]),
                )
            })
            .collect()
    };
    let data = |text: &str| plain(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let mut out = String::new();
    for (source, finding) in all(files) {
        let ((line, column), (end_line, end_column)) = places(source, &finding.diagnostic);
        let command = match finding.diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            _ => "notice",
        };
        // Columns may be given on one line only.
        let end = if end_line == line { format!(",endColumn={end_column}") } else { String::new() };
        let _ = writeln!(
            out,
            "::{command} file={},line={line},endLine={end_line},col={column}{end},title={}::{}",
            property(source.name()),
            property(&finding.diagnostic.rule),
            data(&finding.diagnostic.message),
        );
    }
    out
}
