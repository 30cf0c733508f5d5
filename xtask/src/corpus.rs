//! `cargo xtask corpus`: recipes of public repositories, read and checked as BuildKit does it.

use crate::machine::{Tally, command, ctrbuild, output, shared};
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Builds ctrbuild first.
pub fn run() -> Result<Tally> {
    let Some(corpus) = shared("corpus") else { return Ok(Tally::skip()) };
    with(&ctrbuild()?, &corpus)
}

/// What `ctrbuild debug parse` says of each recipe against what BuildKit said.
pub fn with(ctrbuild: &Path, corpus: &Path) -> Result<Tally> {
    let expected = std::fs::read_to_string(corpus.join("expected/buildkit-parse.json"))?;
    let expected: Vec<Value> = serde_json::from_str(&expected).context("buildkit-parse.json")?;
    let mut names: Vec<String> = std::fs::read_dir(corpus.join("files"))?
        .map(|e| Ok(e?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    let mut parse = command(&[&ctrbuild.to_string_lossy(), "debug", "parse", "--format", "json"]);
    let found = output(parse.args(&names).current_dir(corpus.join("files")))?;
    let found: BTreeMap<String, Value> = serde_json::Deserializer::from_str(&found)
        .into_iter::<Value>()
        .collect::<Result<Vec<_>, _>>()
        .context("ctrbuild debug parse")?
        .into_iter()
        .flat_map(|v| match v {
            Value::Array(all) => all,
            one => vec![one],
        })
        .map(|v| (v["file"].as_str().unwrap_or_default().to_string(), v))
        .collect();
    let mut tally = Tally::default();
    for want in &expected {
        let name = want["file"].as_str().unwrap_or_default();
        let same = found.get(name) == Some(want);
        if !same {
            println!("corpus: {name} is read otherwise than BuildKit reads it");
        }
        tally.add(&Tally::one(same));
    }
    // What BuildKit was not asked about must at least be read.
    for name in names.iter().filter(|n| !expected.iter().any(|e| e["file"] == n.as_str())) {
        tally.add(&Tally::one(found.contains_key(name)));
    }
    let (checked, pairs) = checks(ctrbuild, corpus)?;
    println!("corpus: {tally} of {} recipes, {} compared with BuildKit", names.len(), expected.len());
    println!("corpus: {checked} of recipes whose build checks are known, {pairs} findings (rule and line)");
    tally.add(&checked);
    Ok(tally)
}

/// A finding as BuildKit knows it: rule and line.
type Pair = (String, u64);

/// BuildKit's checks: recipes whose findings are all the same, and how many findings that are.
fn checks(ctrbuild: &Path, corpus: &Path) -> Result<(Tally, usize)> {
    let expected = std::fs::read_to_string(corpus.join("expected/buildkit-lint.json"))?;
    let expected: Vec<Value> = serde_json::from_str(&expected).context("buildkit-lint.json")?;
    let mut lint = command(&[&ctrbuild.to_string_lossy(), "lint", "--no-config", "--profile", "buildkit"]);
    lint.args(["--format", "json", "--failure-threshold", "none"]);
    lint.args(expected.iter().filter_map(|record| record["file"].as_str()));
    let found = output(lint.current_dir(corpus.join("files")))?;
    let found: Vec<Value> = serde_json::from_str(&found).context("ctrbuild lint")?;
    let pair = |one: &Value| -> Pair {
        (one["rule"].as_str().unwrap_or_default().to_string(), one["line"].as_u64().unwrap_or(0))
    };
    let mut by_file: BTreeMap<&str, Vec<Pair>> = BTreeMap::new();
    for one in &found {
        by_file.entry(one["file"].as_str().unwrap_or_default()).or_default().push(pair(one));
    }
    let (mut tally, mut pairs) = (Tally::default(), 0);
    for record in &expected {
        let name = record["file"].as_str().unwrap_or_default();
        let mut want: Vec<Pair> = record["warnings"].as_array().into_iter().flatten().map(pair).collect();
        let mut got = by_file.remove(name).unwrap_or_default();
        want.sort();
        got.sort();
        if want != got {
            println!("corpus: {name} has other findings than BuildKit's: {got:?} instead of {want:?}");
        }
        pairs += want.len();
        tally.add(&Tally::one(want == got));
    }
    Ok((tally, pairs))
}
