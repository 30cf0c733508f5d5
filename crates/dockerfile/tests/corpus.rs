//! Recipes of public repositories, read as BuildKit reads them. Where the corpus is absent the tests say so and
//! pass.

use diagnostic::SourceFile;
use dockerfile::view::buildkit_json;
use dockerfile::{Parsed, parse};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(name);
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: no {}", path.display());
    None
}

fn read(path: &Path) -> Parsed {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    parse(SourceFile::from_bytes("Dockerfile", &bytes))
}

fn recipes(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("list recipes").map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    paths
}

/// Says where two values differ first.
fn difference(at: &str, expected: &Value, found: &Value) -> Option<String> {
    match (expected, found) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            keys.into_iter().find_map(|key| {
                let null = Value::Null;
                difference(&format!("{at}.{key}"), a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null))
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(index, (a, b))| difference(&format!("{at}[{index}]"), a, b)),
        (a, b) if a == b => None,
        (a, b) => Some(format!("{at}: expected {a}, found {b}")),
    }
}

#[test]
fn as_buildkit() {
    let Some(corpus) = shared("corpus") else { return };
    let text = std::fs::read_to_string(corpus.join("expected/buildkit-parse.json")).expect("expectations");
    let expected: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let mut wrong = Vec::new();
    for want in &expected {
        let name = want["file"].as_str().expect("file");
        let found = buildkit_json(name, &read(&corpus.join("files").join(name)));
        if let Some(difference) = difference(name, want, &found) {
            wrong.push(difference);
        }
    }
    println!("{} of {} recipes as BuildKit reads them", expected.len() - wrong.len(), expected.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn lossless() {
    let Some(corpus) = shared("corpus") else { return };
    let (mut files, mut errors) = (0, 0);
    for path in recipes(&corpus.join("files")) {
        let bytes = std::fs::read(&path).expect("read");
        let parsed = parse(SourceFile::from_bytes("Dockerfile", &bytes));
        assert_eq!(parsed.source.to_bytes(), bytes, "{}", path.display());
        assert_eq!(parsed.print(), parsed.source.text(), "{}", path.display());
        files += 1;
        errors += usize::from(parsed.has_errors());
    }
    println!("{files} recipes are lossless, {errors} of them have errors");
}

/// Errors that only a planner or a builder can find.
fn is_late(message: &str) -> bool {
    !["dockerfile parse error", "no build stage", "contains no stages", "cannot be empty", "Syntax error"]
        .iter()
        .chain(&[
            "must have two arguments",
            "JSON array syntax",
            "unterminated heredoc",
            "escape parser directive",
        ])
        .chain(&["invalid escape token"])
        .any(|part| message.contains(part))
}

#[test]
fn conformance_cases_parse_or_fail_alike() {
    let Some(kit) = shared("conformance") else { return };
    let (mut fine, mut refused, mut late) = (0, 0, 0);
    let mut wrong = Vec::new();
    for theme in recipes(&kit.join("cases")) {
        for case in recipes(&theme) {
            let settings = std::fs::read_to_string(case.join("case.json")).unwrap_or_default();
            let settings: Value = serde_json::from_str(&settings).unwrap_or_default();
            let name = settings["dockerfile"].as_str().unwrap_or("Dockerfile");
            let Ok(bytes) = std::fs::read(case.join(name)) else { continue };
            let Ok(expected) = std::fs::read_to_string(case.join("expected.json")) else { continue };
            let expected: Value = serde_json::from_str(&expected).expect("expected.json");
            let parsed = parse(SourceFile::from_bytes("Dockerfile", &bytes));
            assert_eq!(parsed.print(), parsed.source.text());
            let message = expected["message"].as_str().unwrap_or_default();
            let case = case.display();
            if expected["result"] != "error" || is_late(message) {
                match parsed.first_error() {
                    Some(error) => {
                        wrong.push(format!("{case}: unexpected error: {}", error.buildkit_message()))
                    }
                    None if expected["result"] == "error" => late += 1,
                    None => fine += 1,
                }
                continue;
            }
            let Some(error) = parsed.first_error() else {
                wrong.push(format!("{case}: no error, expected: {message}"));
                continue;
            };
            if error.buildkit_message() != message {
                wrong.push(format!("{case}: expected {message}, found {}", error.buildkit_message()));
            } else if expected["line"].as_u64().is_some_and(|line| line != u64::from(error.buildkit_line)) {
                wrong.push(format!(
                    "{case}: expected line {}, found {}",
                    expected["line"], error.buildkit_line
                ));
            } else {
                refused += 1;
            }
        }
    }
    println!("{fine} cases parse, {refused} are refused alike, {late} fail later than here");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
