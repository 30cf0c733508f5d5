//! `cargo xtask conformance`: images as BuildKit makes them, case by case.

use crate::machine::{Scratch, Tally, command, ctrbuild, root, run as run_command, shared};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Cases that differ on purpose, a line each: `theme/name  why`. docs/conformance.md explains them.
const DEVIATIONS: &str = "testdata/conformance/deviations.txt";

/// Builds ctrbuild first. `pattern` is a regular expression on `theme/name`.
pub fn run(pattern: Option<&str>) -> Result<Tally> {
    let Some(kit) = shared("conformance") else { return Ok(Tally::skip()) };
    with(&ctrbuild()?, &kit, pattern)
}

pub fn with(ctrbuild: &Path, kit: &Path, pattern: Option<&str>) -> Result<Tally> {
    if !crate::machine::is_root() {
        println!("skipped: the conformance kit needs root");
        return Ok(Tally::skip());
    }
    let scratch = Scratch::new("conformance")?;
    let results = scratch.path().join("results.json");
    let store = scratch.path().join("store");
    let builder = format!(
        "{} build --root {} -f {{dockerfile}} {{flags}} {{context}}",
        ctrbuild.display(),
        store.display()
    );
    let mut check = command(&["python3"]);
    check.arg(kit.join("kit.py")).args(["check", "-q", "--builder", &builder, "--json"]).arg(&results);
    check.args(pattern.map(|p| ["-k", p]).into_iter().flatten());
    // Its own verdict knows no deviations: ours is made from the results.
    run_command(&mut check)?;
    let text = std::fs::read_to_string(&results).context("the kit wrote no results")?;
    judge(&serde_json::from_str(&text).context("results of the kit")?, &deviations()?, pattern.is_none())
}

fn deviations() -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(root().join(DEVIATIONS)).context(DEVIATIONS)?;
    Ok(text
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|l| l.split_once(char::is_whitespace).unwrap_or((l, "")))
        .map(|(case, why)| (case.to_string(), why.trim().to_string()))
        .collect())
}

/// A deviation that is gone must leave the list, so that the list stays true.
fn judge(results: &Value, deviations: &BTreeMap<String, String>, all: bool) -> Result<Tally> {
    let Some(cases) = results["results"].as_array() else { bail!("the kit's results have no cases") };
    let mut tally = Tally::default();
    let mut themes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut agree = 0;
    for case in cases {
        let id = case["case"].as_str().unwrap_or_default();
        let theme = themes.entry(id.split('/').next().unwrap_or_default()).or_default();
        let same = case["status"] == "PASS";
        theme.0 += usize::from(same);
        theme.1 += 1;
        agree += usize::from(same);
        match (same, deviations.get(id)) {
            (true, None) => tally.passed += 1,
            (true, Some(_)) => {
                println!("conformance: {id} agrees now: remove it from {DEVIATIONS}");
                tally.failed += 1;
            }
            (false, None) => {
                println!("conformance: {id} differs");
                tally.failed += 1;
            }
            (false, Some(why)) => {
                println!("conformance: {id} differs on purpose: {why}");
                tally.passed += 1;
            }
        }
    }
    for gone in deviations.keys().filter(|d| all && !cases.iter().any(|c| c["case"] == d.as_str())) {
        println!("conformance: {gone} of {DEVIATIONS} is no case");
        tally.failed += 1;
    }
    let themes: Vec<String> = themes.iter().map(|(name, (same, of))| format!("{name} {same}/{of}")).collect();
    println!("conformance: {agree} of {} cases as BuildKit ({})", cases.len(), themes.join(", "));
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn deviations_are_known_or_fail() {
        let results = json!({"results": [
            {"case": "a/same", "status": "PASS"},
            {"case": "a/other", "status": "FAIL"},
            {"case": "b/known", "status": "FAIL"},
            {"case": "b/mended", "status": "PASS"},
        ]});
        let list = |names: &[&str]| names.iter().map(|n| (n.to_string(), String::new())).collect();
        let tally = judge(&results, &list(&["b/known", "b/mended"]), true).unwrap();
        assert_eq!(tally, Tally { passed: 2, failed: 2, skipped: 0 });
        let tally = judge(&results, &list(&["a/other", "b/known", "c/gone"]), true).unwrap();
        assert_eq!(tally, Tally { passed: 4, failed: 1, skipped: 0 });
        assert!(judge(&json!({}), &list(&[]), true).is_err());
    }
}
