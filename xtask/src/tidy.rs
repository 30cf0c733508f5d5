//! `cargo xtask tidy`: rules of the tree that no compiler checks.

use crate::machine::{Tally, command, output, root};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::Path;

/// A crate may depend only on crates of a strictly lower floor; tests are exempt.
const FLOORS: &[(u8, &[&str])] = &[
    (0, &["diagnostic", "digest", "par", "sandbox"]),
    (1, &["dockerfile", "oci", "wim"]),
    (2, &["graph", "lint", "store"]),
    (3, &["layer", "plan", "registry", "solver"]),
    (4, &["debian", "exporter", "remote", "worker"]),
    (5, &["ctrbuild", "language-server"]),
    (6, &["ctrbuild-cli"]),
];

/// For tests and chores only: nothing that ships depends on these.
const DEVELOPMENT: &[&str] = &["fuzzing", "testkit", "xtask"];

/// The only crate with unsafe code.
const UNSAFE: &str = "sandbox";

/// A file should be one idea; longer ones are named, not refused.
const LONG: usize = 800;

/// Places of single machines have no business in the tree.
const FORBIDDEN: &[&[&str]] =
    &[&["/wor", "k/main"], &["/wor", "k/shared"], &["/wor", "k/."], &["/hom", "e/runner"]];

pub fn run() -> Result<Tally> {
    let mut wrong = Vec::new();
    let metadata =
        output(&mut command(&["cargo", "metadata", "--format-version=1", "--no-deps", "--offline"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let Some(packages) = metadata["packages"].as_array() else { bail!("cargo metadata has no packages") };
    for package in packages {
        floor_of(package, &mut wrong);
        unsafe_code(package, &mut wrong)?;
    }
    let files = output(&mut command(&["git", "ls-files", "--cached", "--others", "--exclude-standard"]))?;
    let mut checked = packages.len();
    for name in files.lines() {
        let path = root().join(name);
        // Deleted but not yet committed, or a link.
        if !path.symlink_metadata().is_ok_and(|m| m.is_file()) {
            continue;
        }
        let bytes = std::fs::read(&path).with_context(|| name.to_string())?;
        if let Ok(text) = std::str::from_utf8(&bytes) {
            checked += 1;
            file(name, text, &mut wrong);
        }
    }
    for w in &wrong {
        println!("tidy: {w}");
    }
    let failed = wrong.len();
    let tally = Tally { passed: checked.saturating_sub(failed), failed, skipped: 0 };
    println!("tidy: {tally} (crates and files)");
    Ok(tally)
}

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, names)| names.contains(&name)).map(|(floor, _)| *floor)
}

fn floor_of(package: &Value, wrong: &mut Vec<String>) {
    let name = package["name"].as_str().unwrap_or_default();
    let own = floor(name);
    if own.is_none() && !DEVELOPMENT.contains(&name) {
        wrong.push(format!("crate {name} has no floor: give it one in xtask/src/tidy.rs"));
    }
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let other = dependency["name"].as_str().unwrap_or_default();
        if dependency["kind"] == "dev" || dependency["path"].is_null() || DEVELOPMENT.contains(&name) {
            continue;
        }
        if DEVELOPMENT.contains(&other) {
            wrong.push(format!("{name} depends on {other}, which is for tests only"));
        }
        if let (Some(own), Some(below)) = (own, floor(other))
            && below >= own
        {
            wrong.push(format!("{name} (floor {own}) depends on {other} (floor {below})"));
        }
    }
}

fn unsafe_code(package: &Value, wrong: &mut Vec<String>) -> Result<()> {
    let name = package["name"].as_str().unwrap_or_default();
    if name == UNSAFE {
        return Ok(());
    }
    for target in package["targets"].as_array().into_iter().flatten() {
        let kinds: Vec<&str> =
            target["kind"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let path = Path::new(target["src_path"].as_str().unwrap_or_default());
        if kinds.iter().any(|k| matches!(*k, "lib" | "bin")) {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            if !text.lines().any(|l| l == "#![forbid(unsafe_code)]") {
                let name = path.strip_prefix(root()).unwrap_or(path).display();
                wrong.push(format!("{name}: `#![forbid(unsafe_code)]` is missing"));
            }
        }
    }
    Ok(())
}

fn file(name: &str, text: &str, wrong: &mut Vec<String>) {
    let words: Vec<String> = FORBIDDEN.iter().map(|parts| parts.concat()).collect();
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(word) = words.iter().find(|w| line.contains(w.as_str())) {
            wrong.push(format!("{name}:{number}: {word} is a place of one machine"));
        }
    }
    if Path::new(name).extension().is_some_and(|e| e == "rs") {
        let first = text.lines().next().unwrap_or_default();
        // Generated files say so in their first line, which is a doc comment too.
        if !first.starts_with("//! ") {
            wrong.push(format!("{name}: the first line must say what the file is (`//! …`)"));
        }
        let lines = text.lines().count();
        if lines > LONG {
            println!("warning: {name} has {lines} lines: is it still one idea?");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_floor_may_use_lower_ones_only() {
        let package = |name: &str, other: &str, kind: Value| {
            let mut wrong = Vec::new();
            let dependency = json!({"name": other, "kind": kind, "path": "/x"});
            floor_of(&json!({"name": name, "dependencies": [dependency]}), &mut wrong);
            wrong
        };
        assert!(package("plan", "graph", Value::Null).is_empty());
        assert_eq!(package("graph", "plan", Value::Null), ["graph (floor 2) depends on plan (floor 3)"]);
        assert_eq!(package("layer", "solver", Value::Null).len(), 1);
        assert_eq!(package("plan", "testkit", Value::Null).len(), 1);
        assert!(package("graph", "plan", json!("dev")).is_empty());
        assert_eq!(package("newcomer", "digest", Value::Null).len(), 1);
    }

    #[test]
    fn files_say_what_they_are() {
        let mut wrong = Vec::new();
        file("a.rs", "//! A file.\n", &mut wrong);
        file("a.md", "text\n", &mut wrong);
        assert!(wrong.is_empty(), "{wrong:?}");
        file("b.rs", "use std;\n", &mut wrong);
        file("c.md", &["see /wor", "k/main\n"].concat(), &mut wrong);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }
}
