//! Findings that are known and left for later.
//!
//! A finding is known by its file, its rule and the text of its instruction without blanks at line ends and
//! indentation, so that it stays known while other lines move. The file is JSON:
//! `{"version": 1, "findings": {"PATH": {"RULE": {"HASH": COUNT}}}}`.

use crate::Finding;
use diagnostic::SourceFile;
use dockerfile::Parsed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why a baseline can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaselineError {
    /// Not JSON, or not of this shape.
    #[error("can't read the baseline: {0}")]
    Json(String),
    /// Written by a newer version.
    #[error("the baseline has version {0}, which is not known")]
    Version(u32),
}

type ByHash = BTreeMap<String, usize>;

/// Known findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaselineV1 {
    version: u32,
    findings: BTreeMap<String, BTreeMap<String, ByHash>>,
}

impl Default for BaselineV1 {
    fn default() -> Self {
        Self { version: 1, findings: BTreeMap::new() }
    }
}

impl BaselineV1 {
    /// Reads a baseline.
    ///
    /// # Errors
    /// The text is none.
    pub fn read(text: &str) -> Result<Self, BaselineError> {
        let baseline: Self =
            serde_json::from_str(text).map_err(|error| BaselineError::Json(error.to_string()))?;
        match baseline.version {
            1 => Ok(baseline),
            other => Err(BaselineError::Version(other)),
        }
    }

    /// The text to keep.
    pub fn write(&self) -> String {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        format!("{text}\n")
    }

    /// Adds the findings of a recipe.
    pub fn add(&mut self, parsed: &Parsed, findings: &[Finding]) {
        for finding in findings {
            let rules = self.findings.entry(parsed.source.name().to_owned()).or_default();
            let hashes = rules.entry(finding.diagnostic.rule.to_string()).or_default();
            *hashes.entry(hash(parsed, finding)).or_default() += 1;
        }
    }

    /// Drops findings that are known, each as often as it is known.
    pub fn drop_known(&self, parsed: &Parsed, findings: &mut Vec<Finding>) {
        let Some(mut left) = self.findings.get(parsed.source.name()).cloned() else { return };
        findings.retain(|finding| {
            let known = left
                .get_mut(finding.diagnostic.rule.as_ref())
                .and_then(|hashes| hashes.get_mut(&hash(parsed, finding)));
            match known {
                Some(count) if *count > 0 => {
                    *count -= 1;
                    false
                }
                _ => true,
            }
        });
    }
}

fn hash(parsed: &Parsed, finding: &Finding) -> String {
    let statement =
        parsed.statements.iter().find(|statement| statement.lines.first == finding.instruction_line);
    let text = match statement {
        Some(statement) => parsed.source.slice(statement.range).to_owned(),
        None => line_of(&parsed.source, finding),
    };
    let normal: Vec<&str> = text.split_whitespace().collect();
    blake3::hash(normal.join(" ").as_bytes()).to_hex()[..16].to_owned()
}

fn line_of(source: &SourceFile, finding: &Finding) -> String {
    source.line_text(source.line_of(finding.diagnostic.range.start)).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, lint};

    fn findings(text: &str) -> (Parsed, Vec<Finding>) {
        let parsed = dockerfile::parse(SourceFile::new("Dockerfile", text));
        let findings = lint(&parsed, &Options::default()).findings;
        (parsed, findings)
    }

    #[test]
    fn known_findings_stay_known() {
        let (parsed, all) = findings("FROM alpine\nRUN apk add \\\n  curl\n");
        assert!(!all.is_empty());
        let mut baseline = BaselineV1::default();
        baseline.add(&parsed, &all);
        let baseline = BaselineV1::read(&baseline.write()).unwrap_or_default();
        let (parsed, mut moved) = findings("# a\n\nFROM alpine\nRUN apk add \\\n      curl\nRUN sudo x\n");
        baseline.drop_known(&parsed, &mut moved);
        let rules: Vec<_> = moved.iter().map(|finding| finding.diagnostic.rule.to_string()).collect();
        assert!(rules.contains(&"no-sudo".to_owned()) && !rules.contains(&"pin-apk".to_owned()), "{rules:?}");
        assert!(BaselineV1::read("{\"version\":2,\"findings\":{}}").is_err());
    }
}
