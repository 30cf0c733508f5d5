//! Where things are, and programs: found, run, timed.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// What a chore came to. A case is counted once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: usize,
    pub failed: usize,
    /// Cases that could not be tried here.
    pub skipped: usize,
}

impl Tally {
    /// One case.
    pub fn one(passed: bool) -> Self {
        Tally { passed: usize::from(passed), failed: usize::from(!passed), skipped: 0 }
    }
    /// One case that could not be tried.
    pub fn skip() -> Self {
        Tally { skipped: 1, ..Tally::default() }
    }
    pub fn add(&mut self, other: &Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        match self.skipped {
            0 => Ok(()),
            n => write!(f, ", {n} skipped"),
        }
    }
}

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// A folder of recorded expectations beside the repository; says so if it is absent.
pub fn shared(name: &str) -> Option<PathBuf> {
    let dir = root().join("../shared").join(name);
    let dir = dir.canonicalize().ok().filter(|d| d.is_dir());
    if dir.is_none() {
        println!("skipped: there is no ../shared/{name}");
    }
    dir
}

pub fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .any(|dir| dir.join(program).is_file())
}

pub fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|l| l.strip_prefix("Uid:")).and_then(|l| l.split_whitespace().nth(1)) == Some("0")
}

/// A command that starts in the root of the repository.
pub fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(root());
    command
}

/// Run with the terminal's streams; whether it succeeded.
pub fn run(command: &mut Command) -> Result<bool> {
    let name = command.get_program().to_string_lossy().into_owned();
    Ok(command.status().with_context(|| format!("can't start {name}"))?.success())
}

/// Run to its standard output; failing is an error that says what it said.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("can't start {name}"))?;
    if !out.status.success() {
        bail!("{name}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Build the command line in the profile of the tests; its path.
pub fn ctrbuild() -> Result<PathBuf> {
    if !run(&mut command(&["cargo", "build", "--quiet", "--package", "ctrbuild-cli"]))? {
        bail!("ctrbuild does not build");
    }
    Ok(target().join("debug/ctrbuild"))
}

/// A folder of its own, removed with the value.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Result<Self> {
        let path = target().join("xtask").join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("can't make {}", path.display()))?;
        Ok(Scratch(path))
    }
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            eprintln!("warning: can't remove {}: {e}", self.0.display());
        }
    }
}

/// Tells what is being done and how long it took.
pub struct Stage {
    name: &'static str,
    started: Instant,
}

impl Stage {
    pub fn start(name: &'static str) -> Self {
        println!("== {name}");
        Stage { name, started: Instant::now() }
    }
    /// `name  seconds  tally`, for the table at the end.
    pub fn end(self, tally: &Tally) -> String {
        let line = format!("{:<12} {:>5.0} s  {tally}", self.name, self.started.elapsed().as_secs_f64());
        println!("-- {line}");
        line
    }
}
