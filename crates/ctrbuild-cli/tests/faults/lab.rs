//! A store that is worth losing, copies of it for each fault, the commands that meet the fault, and what must hold
//! after it.

use crate::place::{Outcome, Place, has, run};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use testkit::{Access, RegistryProcess};

/// Whole instead of sampled.
pub fn is_long() -> bool {
    std::env::var("CTRBUILD_TORTURE").is_ok_and(|length| length == "long")
}

/// How long the long forms without an end of their own go on.
pub fn long_time() -> Duration {
    let seconds = std::env::var("CTRBUILD_TORTURE_SECONDS").ok().and_then(|s| s.parse().ok());
    Duration::from_secs(seconds.unwrap_or(180))
}

/// Numbers from a seed, which `CTRBUILD_TORTURE_SEED` changes.
pub struct Random(u64);

impl Random {
    pub fn new(stream: u64) -> Random {
        let seed = std::env::var("CTRBUILD_TORTURE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1u64);
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stream)
    }
    /// As splitmix64.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(n).collect()
    }
    /// `n` of them, in order.
    pub fn sample<T>(&mut self, mut all: Vec<T>, n: usize) -> Vec<T> {
        while all.len() > n {
            all.remove(self.below(all.len()));
        }
        all
    }
}

/// Commands that steps of the tests use.
const APPLETS: [&str; 7] = ["sh", "cat", "ls", "mkdir", "rm", "sleep", "wc"];

/// What a command does to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    Build,
    /// Build on a base that has to come from a registry.
    BuildOn,
    /// Make an image of a working container.
    Commit,
    /// Copy a file into one.
    Copy,
    /// Keep equal files of layers once.
    Dedup,
    /// Make a working container.
    From,
    Import,
    /// Lay out a container's files.
    LayOut,
    Load,
    /// Move the store within its file system.
    Move,
    /// Move the store to another file system.
    MoveAway,
    Prune,
    Pull,
    Push,
    /// Remove a container.
    Rm,
    Rmi,
    /// Run a command in a container.
    Run,
    Save,
    Tag,
    /// Take in what was changed in a container's files.
    TakeIn,
    /// The first command on a store that does not exist yet.
    First,
}

impl Op {
    /// All after which the store is where it was.
    pub const ALL: [Op; 16] = [
        Op::Build,
        Op::BuildOn,
        Op::Commit,
        Op::Copy,
        Op::Dedup,
        Op::From,
        Op::Import,
        Op::Load,
        Op::Prune,
        Op::Pull,
        Op::Push,
        Op::Rmi,
        Op::Run,
        Op::Save,
        Op::Tag,
        Op::First,
    ];

    /// Whether it works on a working container.
    pub fn is_of_containers(self) -> bool {
        matches!(self, Op::Commit | Op::Copy | Op::LayOut | Op::Rm | Op::Run | Op::TakeIn)
    }

    /// The name that the store has once the command reported success.
    pub fn name(self, lab: &Lab) -> Option<String> {
        match self {
            Op::Build => Some("new:1".into()),
            Op::BuildOn => Some("on:1".into()),
            Op::Import | Op::First => Some("imported".into()),
            Op::Load => Some("loaded:1".into()),
            Op::Pull => Some(lab.registry.as_ref()?.name("seed/app:1")),
            Op::Tag => Some("tagged:1".into()),
            Op::Commit => Some("committed:1".into()),
            Op::Copy
            | Op::Dedup
            | Op::From
            | Op::LayOut
            | Op::Move
            | Op::MoveAway
            | Op::Prune
            | Op::Push
            | Op::Rm
            | Op::Rmi
            | Op::Run
            | Op::Save
            | Op::TakeIn => None,
        }
    }
}

pub struct Lab {
    pub place: Place,
    pub registry: Option<RegistryProcess>,
    /// A folder on another file system.
    away: Option<tempfile::TempDir>,
    /// Bytes of the layer that each image adds.
    size: usize,
}

impl Lab {
    /// Small images, for faults that are tried thousands of times.
    pub fn new() -> Option<Lab> {
        Lab::with_layers_of(20_000)
    }

    /// The store has `base`, `app:1` (made here), `side:1`, rubbish for a collection, and working containers: `work`, and
    /// `laid`, which is mounted.
    pub fn with_layers_of(size: usize) -> Option<Lab> {
        if !has(&["cp", "timeout"]) {
            return None;
        }
        let place = Place::new()?;
        // Each link would be some calls more to kill a command at.
        place.busybox_tar_of(&|applet| APPLETS.contains(&applet));
        place.import("base");
        fs::create_dir(place.path("temp")).unwrap();
        let registry = RegistryProcess::start(&place.path("registry"), Access::Open);
        let lab = Lab { away: elsewhere(&place.root), place, registry, size };
        lab.context("app");
        lab.place.run(["build", "-q", "-t", "app:1", "app"]).ok();
        lab.place.run(["tag", "app:1", "side:1"]).ok();
        let other = lab.place.path("other");
        run(&mut lab.command(&other, ["import", "base.tar", "base"])).ok();
        lab.context("loaded");
        run(&mut lab.command(&other, ["build", "-q", "-t", "loaded:1", "loaded"])).ok();
        run(&mut lab.command(&other, ["save", "-o", "loaded.tar", "loaded:1"])).ok();
        if let Some(registry) = &lab.registry {
            run(&mut lab.command(&other, ["push", "-q", "loaded:1", &registry.name("seed/app:1")])).ok();
        }
        if let Some(registry) = &lab.registry {
            let recipe = format!("FROM {}\nRUN cat /loaded/made > /seen\n", registry.name("seed/app:1"));
            lab.place.context_in("on", &[("Dockerfile", &recipe)]);
        }
        lab.context("gone");
        lab.place.run(["build", "-q", "-t", "gone:1", "gone"]).ok();
        lab.place.run(["rmi", "gone:1"]).ok();
        lab.context("new");
        lab.twins();
        for name in ["work", "laid"] {
            lab.place.run(["from", "--name", name, "base"]).ok();
            lab.place.run(["run", name, "sh", "-c", "echo first > /state"]).ok();
            lab.place.run(["run", name, "rm", "-r", "/home"]).ok();
        }
        let files = lab.place.run(["mount", "laid"]).ok();
        fs::write(Path::new(&files).join("by-hand"), "x").unwrap();
        Some(lab)
    }

    /// Two layers with an equal file.
    fn twins(&self) {
        let shared = self.place.path("shared");
        fs::write(&shared, Random::new(7).bytes(100_000)).unwrap();
        for n in ["one", "two"] {
            let folder = self.place.path(n);
            fs::create_dir(&folder).unwrap();
            run(Command::new("cp").arg("-p").arg(&shared).arg(folder.join("shared"))).ok();
            fs::write(folder.join("own"), n).unwrap();
            fs::write(folder.join("Dockerfile"), "FROM base\nCOPY own shared /twin/\n").unwrap();
            self.place.run(["build", "-q", "-t", &format!("{n}:1"), n]).ok();
        }
    }

    /// A context of some bytes that nothing compresses, with a step and a copy.
    fn context(&self, name: &str) {
        let folder = self.place.path(name);
        fs::create_dir(&folder).unwrap();
        let bytes = Random::new(name.bytes().map(u64::from).sum()).bytes(self.size);
        fs::write(folder.join("file"), bytes).unwrap();
        let recipe = format!(
            "FROM base\nRUN mkdir /{name} && echo {name} > /{name}/made && rm -r /home\nCOPY file /{name}/\n"
        );
        fs::write(folder.join("Dockerfile"), recipe).unwrap();
    }

    /// The program on a store. What it leaves in its folder for temporary files is looked at.
    pub fn command<I: AsRef<OsStr>>(&self, store: &Path, args: impl IntoIterator<Item = I>) -> Command {
        let mut command = self.place.command_on(store, args);
        command.env("TMPDIR", self.place.path("temp"));
        command
    }

    #[track_caller]
    pub fn run<const N: usize>(&self, store: &Path, args: [&str; N]) -> Outcome {
        run(&mut self.command(store, args))
    }

    /// The seed's store once more.
    pub fn copy(&self, to: &Path) {
        let from = self.place.root.join(".");
        run(Command::new("cp").arg("-a").arg(from).arg(to)).ok();
    }

    /// A fresh copy in this place.
    pub fn fresh(&self) -> PathBuf {
        let store = self.place.path("copy");
        if store.exists() {
            fs::remove_dir_all(&store).unwrap();
        }
        fs::create_dir(&store).unwrap();
        self.copy(&store);
        store
    }

    /// Arguments of a command; `n` tells one attempt from another where something outside keeps them.
    pub fn arguments(&self, op: Op, n: usize) -> Option<Vec<String>> {
        let registry = || self.registry.as_ref();
        let words: Vec<String> = match op {
            Op::Build => vec!["build".into(), "-q".into(), "-t".into(), "new:1".into(), "new".into()],
            Op::BuildOn => {
                registry()?;
                ["build", "-q", "-t", "on:1", "on"].map(Into::into).to_vec()
            }
            Op::Import | Op::First => vec!["import".into(), "base.tar".into(), "imported".into()],
            Op::Commit => vec!["commit".into(), "work".into(), "committed:1".into()],
            Op::Copy => vec!["copy".into(), "work".into(), "new/file".into(), "/copied".into()],
            Op::Dedup => vec!["store".into(), "dedup".into()],
            Op::From => vec!["from".into(), "--name".into(), format!("made-{n}"), "app:1".into()],
            Op::LayOut => vec!["mount".into(), "work".into()],
            Op::Rm => vec!["rm".into(), "work".into()],
            Op::Run => {
                ["run", "work", "sh", "-c", "echo second > /state; echo x > /more"].map(Into::into).to_vec()
            }
            Op::TakeIn => vec!["umount".into(), "laid".into()],
            Op::Load => vec!["load".into(), "-q".into(), "-i".into(), "loaded.tar".into()],
            Op::Move => vec!["store".into(), "move".into(), format!("moved-{n}")],
            Op::MoveAway => {
                let to = self.away.as_ref()?.path().join(format!("moved-{n}"));
                vec!["store".into(), "move".into(), to.to_string_lossy().into_owned()]
            }
            Op::Prune => vec!["prune".into(), "-a".into(), "-f".into()],
            Op::Pull => vec!["pull".into(), "-q".into(), registry()?.name("seed/app:1")],
            Op::Push => {
                vec!["push".into(), "-q".into(), "app:1".into(), registry()?.name(&format!("out/n{n}:1"))]
            }
            Op::Rmi => vec!["rmi".into(), "side:1".into()],
            Op::Save => vec!["save".into(), "-o".into(), "saved.tar".into(), "app:1".into()],
            Op::Tag => vec!["tag".into(), "app:1".into(), "tagged:1".into()],
        };
        Some(words)
    }

    /// All bytes of an image come out of the store.
    #[track_caller]
    pub fn is_readable(&self, store: &Path, name: &str, context: &str) {
        let mut save = self.command(store, ["save", "-o", "/dev/null", name]);
        let saved = run(&mut save);
        assert_eq!(saved.code, Some(0), "{context}: {name}: {}", saved.stderr);
    }

    /// What holds after any fault: nothing is damaged, and what was there is there.
    #[track_caller]
    pub fn is_sound(&self, store: &Path, context: &str) {
        let verified = self.run(store, ["store", "verify"]);
        assert_eq!(verified.code, Some(0), "{context}: {}{}", verified.stdout, verified.stderr);
        for name in ["base", "app:1", "one:1", "two:1"] {
            self.is_readable(store, name, context);
        }
    }

    /// A container is as it was before a command, or as it is after it.
    #[track_caller]
    pub fn container_is_usable(&self, store: &Path, op: Op, context: &str) {
        let listed = self.run(store, ["containers", "--noheading"]).ok();
        if op == Op::Rm && !listed.contains("work") {
            return;
        }
        if op == Op::LayOut && self.run(store, ["mount"]).ok().contains("work") {
            self.run(store, ["umount", "work"]).ok();
        }
        let state = self.run(store, ["run", "work", "cat", "/state"]);
        assert_eq!(state.code, Some(0), "{context}: {}", state.stderr);
        assert!(["first\n", "second\n"].contains(&state.stdout.as_str()), "{context}: {}", state.stdout);
        let gone = self.run(store, ["run", "work", "ls", "/home"]);
        assert_eq!(gone.code, Some(1), "{context}: {}", gone.stdout);
        if op == Op::TakeIn {
            // What was changed by hand is still there to be taken in, or is in the container, or is lost: nothing else.
            let _ = self.run(store, ["umount", "laid"]);
            let laid = self.run(store, ["run", "laid", "cat", "/state"]);
            assert_eq!(laid.stdout, "first\n", "{context}: {}", laid.stderr);
        }
    }

    /// Nothing that a dead process left is there any more; some command has been started since.
    #[track_caller]
    pub fn is_tidy(&self, store: &Path, context: &str) {
        let names = |folder: &Path| -> Vec<String> {
            let entries = fs::read_dir(folder).unwrap().flatten();
            entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
        };
        let place = real(store);
        for folder in ["tmp", "active", "leases", "trash", "locks"] {
            assert_eq!(names(&place.join(folder)), [""; 0], "{context}: {folder}");
        }
        for folder in [&place, store] {
            let begun: Vec<String> = names(folder).into_iter().filter(|n| n.starts_with("format.")).collect();
            assert_eq!(begun, [""; 0], "{context}: unfinished format files");
        }
        if place != store {
            assert_eq!(names(store), ["format"], "{context}: what is left where the store was");
        }
        let parent = place.parent().unwrap();
        assert!(
            !names(parent).iter().any(|n| n.ends_with(".ctrbuild-new")),
            "{context}: a folder in the making"
        );
        assert_eq!(names(&self.place.path("temp")), [""; 0], "{context}: temporary files");
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = store.to_str().unwrap();
        let mounts: Vec<&str> = table.lines().filter(|l| l.contains(&format!("{own}/"))).collect();
        assert!(mounts.is_empty(), "{context}: {mounts:?}");
        self.wait_for_processes(store, context);
    }

    /// Steps die with their builder, if not in the same instant.
    #[track_caller]
    pub fn wait_for_processes(&self, store: &Path, context: &str) {
        let wanted = format!("CTRBUILD_ROOT={}", store.display());
        let found = || -> Vec<String> {
            let all = fs::read_dir("/proc").unwrap().flatten();
            all.filter(|p| {
                let environment = fs::read(p.path().join("environ")).unwrap_or_default();
                environment.split(|b| *b == 0).any(|v| v == wanted.as_bytes())
            })
            .map(|p| p.path().display().to_string())
            .collect()
        };
        let started = Instant::now();
        loop {
            let left = found();
            if left.is_empty() {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "{context}: left running: {left:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Where the store that was made at `store` is now.
pub fn real(store: &Path) -> PathBuf {
    let text = fs::read_to_string(store.join("format")).unwrap_or_default();
    let format: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    match format["incompatible"][0].as_str() {
        Some("moved") => real(Path::new(format["place"].as_str().unwrap())),
        _ => store.to_path_buf(),
    }
}

/// A folder on another file system than `store`, removed at the end.
fn elsewhere(store: &Path) -> Option<tempfile::TempDir> {
    let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).ok();
    let other = Path::new("/dev/shm");
    match device(other) {
        Some(found) if Some(found) != device(store) => tempfile::tempdir_in(other).ok(),
        _ => None,
    }
}

/// How long a command may take at most, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(100);

/// The same command by way of another program, and not for longer than [`PATIENCE`].
pub fn through(outer: &[&str], command: &Command) -> Command {
    let mut wrapped = Command::new("timeout");
    wrapped
        .args(["--signal=KILL", &PATIENCE.as_secs().to_string()])
        .args(outer)
        .arg(command.get_program())
        .args(command.get_args());
    wrapped.env_clear().stdin(std::process::Stdio::null());
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            wrapped.env(name, value);
        }
    }
    wrapped
}

/// A command under strace with a fault injected into system calls, such as `rename:error=EIO:when=2`.
pub fn injected(command: &Command, fault: &str) -> Command {
    let calls = fault.split(':').next().unwrap_or_default();
    let (trace, inject) = (format!("trace={calls}"), format!("inject={fault}"));
    // Without --seccomp-bpf, with which strace 6.1 sends no signals.
    through(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject], command)
}

/// Points for a fault: each of `calls` with its number in the thread that makes it, which is how strace counts.
/// With `only`, those that are about files below it, whichever thread comes first.
pub fn calls_of(lab: &Lab, command: &Command, calls: &[&str], only: Option<&Path>) -> Vec<(String, usize)> {
    let log = lab.place.path("trace");
    let trace = format!("trace={}", calls.join(","));
    let outer = [
        "strace",
        "-f",
        "-y",
        "-s",
        "4096",
        "--seccomp-bpf",
        "-qq",
        "-o",
        log.to_str().unwrap(),
        "-e",
        &trace,
    ];
    let traced = run(&mut through(&outer, command));
    assert_eq!(traced.code, Some(0), "{}", traced.stderr);
    let mut counts = BTreeMap::new();
    let mut points = BTreeMap::new();
    for line in fs::read_to_string(&log).unwrap().lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, words)) = rest.trim_start().split_once('(') else { continue };
        if calls.contains(&call) {
            let n = counts.entry((call.to_string(), thread.to_string())).or_insert(0);
            *n += 1;
            let wanted = only.is_none_or(|folder| words.contains(folder.to_str().unwrap()));
            *points.entry((call.to_string(), *n)).or_insert(true) &= wanted;
        }
    }
    points.into_iter().filter(|(_, wanted)| *wanted).map(|(point, _)| point).collect()
}
