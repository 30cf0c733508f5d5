//! `cargo xtask torture store`: the fault table of docs/faults.md in its long form.
//!
//! The tests hold the promises; this only makes them long and counts them. What it came to is in the last line.

use crate::check::{cargo_test_summary, told};
use crate::machine::{Stage, Tally, command};
use crate::packages;
use anyhow::{Result, bail};

/// Tests that are run together: those of a test program of a package, or of its library, whose names have `tests` in
/// them.
struct Part {
    name: &'static str,
    package: &'static str,
    program: Option<&'static str>,
    tests: &'static str,
}

const fn faults(name: &'static str, tests: &'static str) -> Part {
    Part { name, package: "ctrbuild-cli", program: Some("faults"), tests }
}

const PARTS: [Part; 9] = [
    Part { name: "kills", package: "store", program: Some("processes"), tests: "" },
    faults("kills", "kill::"),
    faults("disk", "disk::"),
    faults("damage", "damage::"),
    Part { name: "crowd", package: "store", program: None, tests: "collect::" },
    faults("crowd", "crowd::"),
    faults("power", "power::"),
    faults("network", "registry::"),
    faults("signals", "signals::"),
];

/// All parts, or those named. Goes on after a failure.
pub fn run(wanted: &[&str]) -> Result<bool> {
    if let Some(other) = wanted.iter().find(|w| !PARTS.iter().any(|part| part.name == **w)) {
        let mut names: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        names.dedup();
        bail!("torture store knows {}, not {other}", names.join(", "));
    }
    packages::for_tests()?;
    let mut total = Tally::default();
    let mut table = Vec::new();
    for part in PARTS.iter().filter(|part| wanted.is_empty() || wanted.contains(&part.name)) {
        let stage = Stage::start(part.name);
        let mut test = command(&["cargo", "test", "--quiet", "--no-fail-fast", "--package", part.package]);
        match part.program {
            Some(program) => test.args(["--test", program]),
            None => test.arg("--lib"),
        };
        test.args(["--", "--nocapture", "--test-threads=2", part.tests]);
        let out = told(test.env("CTRBUILD_TORTURE", "long"))?;
        let mut tally = cargo_test_summary(&out);
        let skipped = out.text.lines().filter(|l| l.to_lowercase().starts_with("skipped: ")).count();
        tally.skipped += skipped.min(tally.passed);
        tally.passed = tally.passed.saturating_sub(skipped);
        table.push(stage.end(&tally));
        total.add(&tally);
    }
    println!();
    for line in &table {
        println!("{line}");
    }
    println!("{total}");
    Ok(total.failed == 0 && total.passed > 0)
}
