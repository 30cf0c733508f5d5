//! Findings: those of `ctrbuild lint`.

use super::View;
use diagnostic::Severity;
use lint::Finding;
use serde_json::{Value, json};

/// Where the pages about rules are.
const PAGES: &str = "https://github.com/ctrbuild/ctrbuild/blob/main/docs/";

/// Rules about text that could go without a loss: editors show it pale.
const UNNECESSARY: [&str; 8] = [
    "unused-suppression",
    "unreachable-stage",
    "RedundantTargetPlatform",
    "redundant-platform",
    "MultipleInstructionsDisallowed",
    "several-cmds",
    "several-entrypoints",
    "several-healthchecks",
];

/// Rules about what is no longer to be used: editors strike it through.
const DEPRECATED: [&str; 2] = ["MaintainerDeprecated", "LegacyKeyValueFormat"];

/// Everything that is wrong.
pub fn all(view: &View<'_>) -> Vec<Value> {
    let report = view.analysis.report();
    let mut out: Vec<Value> = report.findings.iter().map(|finding| one(view, finding)).collect();
    // In the profile of BuildKit the parser's errors are apart.
    if view.analysis.options.profile == lint::Profile::Buildkit {
        out.extend(report.errors.iter().map(|error| of(view, error)));
    }
    out
}

/// One finding.
pub fn one(view: &View<'_>, finding: &Finding) -> Value {
    let mut out = of(view, &finding.diagnostic);
    if let Some(rule) = finding.rule {
        out["codeDescription"] = json!({"href": format!("{PAGES}{}", rule.page())});
        let mut tags = Vec::new();
        if UNNECESSARY.contains(&rule.name) {
            tags.push(1);
        }
        if DEPRECATED.contains(&rule.name) {
            tags.push(2);
        }
        if !tags.is_empty() {
            out["tags"] = json!(tags);
        }
    }
    out
}

fn of(view: &View<'_>, diagnostic: &diagnostic::Diagnostic) -> Value {
    let severity = match diagnostic.severity {
        Severity::Error => 1,
        Severity::Warning => 2,
        // A hint would hardly be seen, and style is asked for like the rest.
        Severity::Info | Severity::Style => 3,
        Severity::Hint => 4,
    };
    let mut message = diagnostic.message.clone();
    for more in diagnostic.notes.iter().chain(&diagnostic.help) {
        message.push('\n');
        message.push_str(more);
    }
    let mut out = json!({
        "range": view.text.range(diagnostic.range),
        "severity": severity,
        "code": diagnostic.rule,
        "source": "ctrbuild",
        "message": message,
    });
    if let Some(url) = &diagnostic.url {
        out["codeDescription"] = json!({"href": url});
    }
    if view.client.related && !diagnostic.labels.is_empty() {
        let related = diagnostic.labels.iter().map(|label| {
            let message = if label.message.is_empty() { "here" } else { &label.message };
            json!({"location": view.location(label.range), "message": message})
        });
        out["relatedInformation"] = related.collect();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tagged_rules_exist() {
        for name in UNNECESSARY.iter().chain(&DEPRECATED) {
            assert!(lint::RULES.iter().any(|rule| rule.name == *name), "{name}");
        }
    }
}
