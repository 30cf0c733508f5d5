//! Every rule against its own examples, and the reference made of its words.

use diagnostic::SourceFile;
use lint::{Options, Profile, RULES, Rule};
use std::fmt::Write;
use std::path::PathBuf;

fn findings(rule: &'static Rule, text: &str) -> Vec<lint::Finding> {
    let parsed = dockerfile::parse(SourceFile::new("Dockerfile", text));
    let mut options = Options::of(Profile::All);
    options.inline = rule.name == "unused-suppression";
    let report = lint::lint(&parsed, &options);
    report.findings.into_iter().filter(|finding| finding.diagnostic.rule == rule.name).collect()
}

#[test]
fn bad_examples_are_bad_and_good_ones_good() {
    let mut wrong = Vec::new();
    for rule in RULES {
        if !rule.bad.is_empty() && findings(rule, rule.bad).is_empty() {
            wrong.push(format!("{}: nothing is found in the bad example", rule.name));
        }
        for finding in findings(rule, rule.good) {
            wrong.push(format!("{}: found in the good example: {}", rule.name, finding.diagnostic.message));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_are_unique_and_words_are_there() {
    let mut names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    for rule in RULES {
        assert!(
            !rule.summary.is_empty() && !rule.summary.ends_with('.') && rule.why.ends_with('.'),
            "{}",
            rule.name
        );
    }
}

/// What is found in each bad example, where, and what the fix makes of it.
#[test]
fn snapshots() {
    let mut out = String::new();
    for rule in RULES.iter().filter(|rule| !rule.bad.is_empty()) {
        let parsed = dockerfile::parse(SourceFile::new("Dockerfile", rule.bad));
        let _ = writeln!(out, "==== {}", rule.name);
        for finding in findings(rule, rule.bad) {
            out.push_str(&diagnostic::render(&parsed.source, &finding.diagnostic, diagnostic::Color::Never));
        }
        let mut options = Options::of(Profile::All);
        for other in RULES.iter().filter(|other| other.name != rule.name) {
            options.levels.push((other, lint::Level::Off));
        }
        let outcome = lint::fix::fix(&parsed, &options, lint::fix::Which::All);
        if !outcome.made.is_empty() {
            let _ = writeln!(out, "---- fixed\n{}", outcome.text.trim_end());
        }
    }
    insta::with_settings!({snapshot_path => "../../../testdata/lint", prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("rules", out);
    });
}

/// The pages in `docs/reference/rules` say what the rules say. `BLESS=1` writes them.
#[test]
fn reference_is_up_to_date() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/rules"));
    let bless = std::env::var_os("BLESS").is_some();
    let mut index = String::from(
        "# Rules of `ctrbuild lint`\n\n| rule | also called | severity | by default | |\n|---|---|---|---|---|\n",
    );
    let mut wrong = Vec::new();
    let mut pages: Vec<(String, String)> = Vec::new();
    for rule in RULES {
        let default = if rule.default == lint::Default::On { "on" } else { "off" };
        let _ = writeln!(
            index,
            "| [{0}]({0}.md) | {1} | {2} | {default} | {3} |",
            rule.name,
            rule.aliases.join(", "),
            rule.severity.name(),
            rule.summary
        );
        pages.push((format!("{}.md", rule.name), rule.document()));
    }
    pages.push(("README.md".to_owned(), index));
    if bless && std::fs::create_dir_all(&folder).is_err() {
        wrong.push("can't make the folder".to_owned());
    }
    for (name, text) in pages {
        let path = folder.join(&name);
        if bless {
            if std::fs::write(&path, text).is_err() {
                wrong.push(format!("can't write {name}"));
            }
        } else if std::fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            wrong.push(format!("{name} is not up to date: run the test with BLESS=1"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
