//! `cargo xtask test` and the chores around tests: codegen, bless, fuzz.
//!
//! The dear parts are shared: one profile, one target folder; the conformance kit and the corpus use the
//! program that the tests have built.

use crate::machine::{self, Stage, Tally, command, has, is_root, root, shared, target};
use crate::{conformance, corpus, packages, tidy};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Test programs with a `main` of their own, which nextest can't list: package and target.
const PROGRAMS: &[(&str, &str)] = &[("sandbox", "rootless")];

/// Everything that a change must pass. Goes on after a failure, so that one run shows all.
pub fn test() -> Result<bool> {
    packages::for_tests()?;
    let nextest = nextest()?;
    let mut total = Tally::default();
    let mut table = Vec::new();
    let mut stage = |name: &'static str, work: &mut dyn FnMut() -> Result<Tally>| {
        let stage = Stage::start(name);
        let tally = work().unwrap_or_else(|e| {
            println!("{name}: {e:#}");
            Tally::one(false)
        });
        table.push(stage.end(&tally));
        total.add(&tally);
    };
    let succeeds = |words: &[&str]| machine::run(&mut command(words)).map(Tally::one);
    stage("format", &mut || succeeds(&["cargo", "fmt", "--all", "--check"]));
    stage("tidy", &mut tidy::run);
    stage("clippy", &mut || {
        succeeds(&["cargo", "clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])
    });
    stage("tests", &mut || if nextest { with_nextest(&[]) } else { with_cargo_test() });
    stage("programs", &mut programs);
    // `cargo build` of one package could choose other features and build much again: the tests needed the
    // command line, so it is there.
    let ctrbuild = target().join("debug/ctrbuild");
    if ctrbuild.is_file() {
        stage("conformance", &mut || match shared("conformance") {
            None => Ok(Tally::skip()),
            Some(kit) => conformance::with(&ctrbuild, &kit, None),
        });
        stage("corpus", &mut || match shared("corpus") {
            None => Ok(Tally::skip()),
            Some(dir) => corpus::with(&ctrbuild, &dir),
        });
    }
    println!();
    for line in &table {
        println!("{line}");
    }
    println!("{total}");
    Ok(total.failed == 0)
}

/// Whether cargo-nextest is there; it is installed if it is not.
fn nextest() -> Result<bool> {
    let there = || command(&["cargo", "nextest", "--version"]).output().is_ok_and(|o| o.status.success());
    if there() {
        return Ok(true);
    }
    println!("installing cargo-nextest");
    if machine::run(&mut command(&["cargo", "install", "--quiet", "--locked", "cargo-nextest"]))? && there() {
        return Ok(true);
    }
    println!(
        "warning: cargo-nextest can't be installed; `cargo test` it is, whose skipped tests are not counted"
    );
    Ok(false)
}

fn with_nextest(args: &[&str]) -> Result<Tally> {
    let mut tests = command(&["cargo", "nextest", "run", "--workspace", "--profile", "ci", "--cargo-quiet"]);
    let out = told(tests.args(args).env("INSTA_UPDATE", "no"))?;
    let mut tally = nextest_summary(&out).context("nextest wrote no summary")?;
    let report = std::fs::read_to_string(target().join("nextest/ci/junit.xml")).unwrap_or_default();
    let skipped = skipped_in(&report);
    for (test, why) in &skipped {
        println!("skipped: {test}: {why}");
    }
    tally.passed = tally.passed.saturating_sub(skipped.len());
    tally.skipped += skipped.len();
    Ok(tally)
}

fn with_cargo_test() -> Result<Tally> {
    let mut tests = command(&["cargo", "test", "--quiet", "--workspace", "--no-fail-fast"]);
    let out = told(tests.env("INSTA_UPDATE", "no"))?;
    let mut tally = cargo_test_summary(&out);
    if tally == Tally::default() {
        tally.failed = 1;
    }
    Ok(tally)
}

fn programs() -> Result<Tally> {
    let mut tally = Tally::default();
    for (package, name) in PROGRAMS {
        if !is_root() {
            println!("skipped: {package}/{name} needs root");
            tally.add(&Tally::skip());
            continue;
        }
        let out = told(&mut command(&["cargo", "test", "--quiet", "--package", package, "--test", name]))?;
        let lines = |end: &str| {
            out.text.lines().filter(|l| l.starts_with("test ") && l.trim_end().ends_with(end)).count()
        };
        let (passed, failed) = (lines("... ok"), lines("... FAILED"));
        let failed = if out.ok { failed } else { failed.max(1) };
        tally.add(&Tally { passed, failed, skipped: usize::from(passed + failed == 0) });
    }
    Ok(tally)
}

/// What a program said, after it was shown as it came.
pub struct Told {
    pub ok: bool,
    pub text: String,
}

/// Run to the end, printing what it says.
pub fn told(command: &mut Command) -> Result<Told> {
    let name = command.get_program().to_string_lossy().into_owned();
    // One pipe for both streams keeps their order.
    let (reader, writer) = std::io::pipe().context("can't make a pipe")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("can't share a pipe")?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("can't start {name}"))?;
    // The command holds the ends that were given to the child.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut text = String::new();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).context("can't read a pipe")? > 0 {
        let said = String::from_utf8_lossy(&line);
        print!("{said}");
        text.push_str(&said);
        line.clear();
    }
    Ok(Told { ok: child.wait().with_context(|| name)?.success(), text })
}

/// The line `Summary [ 1.2s] 5 tests run: 4 passed (1 slow), 1 failed, 2 skipped`.
fn nextest_summary(out: &Told) -> Option<Tally> {
    let line = out.text.lines().rev().find(|l| l.trim_start().starts_with("Summary ["));
    let Some(line) = line else {
        // Nothing was run: it did not build.
        return (!out.ok).then(|| Tally::one(false));
    };
    let number = |what: &str| {
        let before = line.split(what).next().filter(|_| line.contains(what))?;
        before.trim_end().rsplit(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok()
    };
    let failed = ["failed", "timed out", "exec failed"].iter().filter_map(|w| number(&format!(" {w}"))).sum();
    let passed = number(" passed").unwrap_or(0);
    let failed = if out.ok { failed } else { usize::max(failed, 1) };
    Some(Tally { passed, failed, skipped: number(" skipped").unwrap_or(0) })
}

/// The lines `test result: ok. 5 passed; 0 failed; 1 ignored; …`.
pub fn cargo_test_summary(out: &Told) -> Tally {
    let mut tally = Tally::default();
    for line in out.text.lines().filter_map(|l| l.strip_prefix("test result: ")) {
        for part in line.split(['.', ';']) {
            match part.trim().split_once(' ') {
                Some((n, "passed")) => tally.passed += n.parse::<usize>().unwrap_or(0),
                Some((n, "failed")) => tally.failed += n.parse::<usize>().unwrap_or(0),
                Some((n, "ignored")) => tally.skipped += n.parse::<usize>().unwrap_or(0),
                _ => {}
            }
        }
    }
    if !out.ok && tally.failed == 0 {
        tally.failed = 1;
    }
    tally
}

/// Tests that passed without doing their work say `skipped: why`. By test, the first such line.
fn skipped_in(junit: &str) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    let mut test = String::new();
    for line in junit.lines() {
        let line = line.trim();
        if let Some(case) = line.strip_prefix("<testcase ") {
            let value = |key: &str| {
                let start = case.find(&format!("{key}=\""))? + key.len() + 2;
                case[start..].split('"').next()
            };
            test = format!("{} {}", value("classname").unwrap_or("?"), value("name").unwrap_or("?"));
        }
        let said =
            line.rsplit_once("<system-out>").or(line.rsplit_once("<system-err>")).map_or(line, |(_, t)| t);
        let why = ["skipped: ", "SKIPPED: "].iter().find_map(|p| said.strip_prefix(p));
        if let Some(why) = why
            && out.last().is_none_or(|(last, _)| *last != test)
        {
            out.push((test.clone(), why.split("</").next().unwrap_or(why).to_string()));
        }
    }
    out
}

/// Write the generated files.
pub fn codegen() -> Result<bool> {
    let mut test = command(&["cargo", "test", "--quiet", "--package", "dockerfile", "--test", "codegen"]);
    machine::run(test.env("BLESS", "1").stdout(Stdio::null()))
}

/// Codegen, then every snapshot as it is now. The difference is for `git diff` and a reader.
pub fn bless() -> Result<bool> {
    if !codegen()? {
        return Ok(false);
    }
    let mut tests = command(&["cargo", "test", "--quiet", "--workspace", "--no-fail-fast"]);
    let ok =
        machine::run(tests.env("INSTA_UPDATE", "always").env("INSTA_FORCE_PASS", "1").env("BLESS", "1"))?;
    machine::run(&mut command(&["git", "status", "--short"]))?;
    Ok(ok)
}

/// `cargo fuzz` over one target or all, for some seconds each.
pub fn fuzz(args: &[&str]) -> Result<bool> {
    if !has("cargo-fuzz") {
        bail!("cargo-fuzz is not installed: `cargo install cargo-fuzz`, and a nightly compiler");
    }
    let folder = root().join("fuzz/fuzz_targets");
    let mut targets = names(&folder)?;
    if let Some(only) = args.first() {
        targets.retain(|t| t == only);
        if targets.is_empty() {
            bail!("there is no fuzz target {only}: see fuzz/fuzz_targets");
        }
    }
    let seconds: u32 = args.get(1).unwrap_or(&"60").parse().context("seconds must be a number")?;
    let mut ok = true;
    for target in targets {
        let time = format!("-max_total_time={seconds}");
        ok &= machine::run(&mut command(&["cargo", "+nightly", "fuzz", "run", &target, "--", &time]))?;
    }
    Ok(ok)
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|s| s.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(ok: bool, text: &str) -> Told {
        Told { ok, text: text.into() }
    }

    #[test]
    fn nextests_closing_line() {
        let line = "     Summary [   1.010s] 12 tests run: 9 passed (1 slow, 2 leaky), 2 failed, 1 timed out, 3 skipped\n";
        let tally = nextest_summary(&said(false, line)).unwrap();
        assert_eq!(tally, Tally { passed: 9, failed: 3, skipped: 3 });
        let tally =
            nextest_summary(&said(true, "     Summary [ 0.1s] 5 tests run: 5 passed, 0 skipped\n")).unwrap();
        assert_eq!(tally, Tally { passed: 5, failed: 0, skipped: 0 });
        // A summary of success does not hide a failure, and no summary is none.
        assert_eq!(
            nextest_summary(&said(false, "     Summary [ 0.1s] 1 test run: 1 passed\n")).unwrap().failed,
            1
        );
        assert_eq!(nextest_summary(&said(false, "error: could not compile")).unwrap().failed, 1);
        assert_eq!(nextest_summary(&said(true, "")), None);
    }

    #[test]
    fn cargos_closing_lines() {
        let text = "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured\ntest result: FAILED. 2 passed; 3 failed; 0 ignored\n";
        assert_eq!(cargo_test_summary(&said(false, text)), Tally { passed: 7, failed: 3, skipped: 1 });
        assert_eq!(cargo_test_summary(&said(false, "")).failed, 1);
    }

    #[test]
    fn skips_are_found_in_the_report() {
        let junit = "<testcase name=\"a\" classname=\"x::y\" time=\"0\">\n<system-out>\nrunning 1 test\nskipped: no root\n\
                     skipped: again\n</system-out>\n</testcase>\n<testcase name=\"b\" classname=\"x\">\n\
                     <system-err>SKIPPED: no skopeo</system-err>\n<testcase name=\"c\" classname=\"x\">\nok\n";
        let found = skipped_in(junit);
        assert_eq!(found, [("x::y a".into(), "no root".into()), ("x b".into(), "no skopeo".into())]);
    }
}
