//! The corpus of real recipes: what BuildKit and hadolint say of them, and what this crate says.
//!
//! The corpus lives beside the project's folder or where `CTRBUILD_CORPUS` says; without it the tests say so
//! and do nothing.

mod meaning;

use diagnostic::SourceFile;
use lint::{Options, Profile};
use meaning::view;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

fn corpus() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus");
    let folder = std::env::var_os("CTRBUILD_CORPUS").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    if folder.join("files").is_dir() {
        return Some(folder);
    }
    println!("skipped: there is no corpus at {}", folder.display());
    None
}

fn recipe(corpus: &std::path::Path, name: &str) -> dockerfile::Parsed {
    let bytes = std::fs::read(corpus.join("files").join(name)).unwrap_or_default();
    dockerfile::parse(SourceFile::from_bytes(name, &bytes))
}

fn expected(corpus: &std::path::Path, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(corpus.join("expected").join(name)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

#[test]
fn buildkit_says_the_same() {
    let Some(corpus) = corpus() else { return };
    let mut wrong = Vec::new();
    let (mut same, mut pairs) = (0, 0);
    for record in expected(&corpus, "buildkit-lint.json") {
        let file = record["file"].as_str().unwrap_or_default();
        let mut want: Vec<(String, u64)> = record["warnings"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|warning| {
                (
                    warning["rule"].as_str().unwrap_or_default().to_owned(),
                    warning["line"].as_u64().unwrap_or(0),
                )
            })
            .collect();
        let parsed = recipe(&corpus, file);
        let report = lint::lint(&parsed, &Options::of(Profile::Buildkit));
        let line = |finding: &lint::Finding| u64::from(parsed.source.line_of(finding.diagnostic.range.start));
        let mut got: Vec<(String, u64)> = report
            .findings
            .iter()
            .map(|finding| (finding.diagnostic.rule.to_string(), line(finding)))
            .collect();
        want.sort();
        got.sort();
        pairs += want.len();
        if want == got {
            same += 1;
        } else {
            let missing: Vec<_> = want.iter().filter(|pair| !got.contains(pair)).collect();
            let extra: Vec<_> = got.iter().filter(|pair| !want.contains(pair)).collect();
            wrong.push(format!(
                "{file}: missing {missing:?}, extra {extra:?} ({} against {})",
                want.len(),
                got.len()
            ));
        }
    }
    println!("buildkit: {same} recipes equal with {pairs} findings, {} differ", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Findings of hadolint by code, and how many of them are found here too.
#[test]
fn hadolint_agreement() {
    let Some(corpus) = corpus() else { return };
    let mut want: BTreeMap<String, BTreeSet<(String, u32)>> = BTreeMap::new();
    let mut files: BTreeSet<String> = BTreeSet::new();
    let mut refused: BTreeSet<String> = BTreeSet::new();
    for record in expected(&corpus, "buildkit-lint.json") {
        files.insert(record["file"].as_str().unwrap_or_default().to_owned());
    }
    for finding in expected(&corpus, "hadolint.json") {
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let line = finding["line"].as_u64().unwrap_or(0) as u32;
        if text("code") == "DL1000" {
            refused.insert(text("file"));
        }
        want.entry(text("code")).or_default().insert((text("file"), line));
    }
    let mut got: BTreeMap<String, BTreeSet<(String, u32)>> = BTreeMap::new();
    for file in files.difference(&refused) {
        let parsed = recipe(&corpus, file);
        for finding in lint::lint(&parsed, &Options::of(Profile::Hadolint)).findings {
            for alias in
                finding.aliases().iter().filter(|alias| alias.starts_with("DL") || alias.starts_with("SC"))
            {
                got.entry((*alias).to_owned()).or_default().insert((file.clone(), finding.instruction_line));
            }
        }
    }
    let empty = BTreeSet::new();
    let codes: BTreeSet<&String> = want.keys().chain(got.keys()).collect();
    let (mut all, mut both) = (0, 0);
    let verbose = std::env::var("AGREEMENT").ok();
    for code in codes {
        let (w, g) = (want.get(code).unwrap_or(&empty), got.get(code).unwrap_or(&empty));
        let shared = w.intersection(g).count();
        println!("{code}\t{}\t{shared}\t{}\t{}", w.len(), w.len() - shared, g.len() - shared);
        if verbose.as_deref().is_some_and(|only| only == "all" || only == code) {
            println!(
                "  missing {:?}\n  extra {:?}",
                w.difference(g).collect::<Vec<_>>(),
                g.difference(w).collect::<Vec<_>>()
            );
        }
        if code.starts_with("DL3") || code.starts_with("DL4") {
            all += w.len();
            both += shared;
        }
    }
    println!("hadolint: {both} of {all} findings of its own rules are found here too");
    assert!(both * 100 >= all * 95, "{both} of {all}");
}

/// Every fix and format of every recipe passes the gate, keeps what BuildKit sees, and is idempotent.
#[test]
fn nothing_is_broken() {
    let Some(corpus) = corpus() else { return };
    let mut names: Vec<String> = std::fs::read_dir(corpus.join("files"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    let (mut valid, mut formatted, mut refused, mut fixed, mut fixes, mut dropped) = (0, 0, 0, 0, 0, 0);
    let mut wrong = Vec::new();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for name in &names {
        let parsed = recipe(&corpus, name);
        let utf8 = parsed.source.is_utf8();
        if !parsed.has_errors() {
            valid += 1;
            match lint::fmt::format(&parsed) {
                Ok(result) => {
                    formatted += 1;
                    let next = dockerfile::parse(SourceFile::new(name.clone(), result.text.clone()));
                    if next.has_errors() || view(&parsed) != view(&next) {
                        wrong.push(format!("{name}: format changed the recipe"));
                    }
                    match lint::fmt::format(&next) {
                        Ok(again) if again.text == result.text => {}
                        _ => wrong.push(format!("{name}: format is not idempotent")),
                    }
                }
                Err(refusal) => {
                    refused += usize::from(utf8);
                    *reasons.entry(format!("fmt {name}: {refusal}")).or_default() += 1;
                }
            }
        }
        for which in [lint::fix::Which::Safe, lint::fix::Which::All] {
            let outcome = lint::fix::fix(&parsed, &Options::of(Profile::All), which);
            let next = dockerfile::parse(SourceFile::new(name.clone(), outcome.text.clone()));
            if next.errors.len() > parsed.errors.len() {
                wrong.push(format!("{name}: {which:?} fixes broke the recipe"));
            }
            fixed += usize::from(!outcome.made.is_empty());
            fixes += outcome.made.len();
            dropped += outcome.dropped.len();
            for one in &outcome.dropped {
                *reasons.entry(format!("fix {}: {}", one.rule, one.refusal)).or_default() += 1;
            }
            let again = lint::fix::fix(&next, &Options::of(Profile::All), which);
            if again.text != outcome.text {
                wrong.push(format!("{name}: {which:?} fixes are not idempotent"));
            }
        }
    }
    println!("{reasons:#?}");
    println!(
        "fmt: {formatted} of {valid} valid recipes formatted, {refused} refused; fix: {fixed} runs with {fixes} fixes, {dropped} dropped"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How long everything takes; a figure, no law: tests are not optimised.
#[test]
fn time() {
    let Some(corpus) = corpus() else { return };
    let names: Vec<String> = std::fs::read_dir(corpus.join("files"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let start = std::time::Instant::now();
    let mut findings = 0;
    let mut by_rule: BTreeMap<String, usize> = BTreeMap::new();
    for name in &names {
        for finding in lint::lint(&recipe(&corpus, name), &Options::default()).findings {
            findings += 1;
            *by_rule.entry(finding.diagnostic.rule.to_string()).or_default() += 1;
        }
    }
    println!("{by_rule:?}");
    println!("time: {} recipes, {findings} findings in {} ms", names.len(), start.elapsed().as_millis());
}
