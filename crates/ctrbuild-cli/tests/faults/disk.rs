//! Disks that are full, that fail, and limits that are reached: a clear error, nothing half committed, space given
//! back, and a collection that works all the same.

use crate::lab::{Lab, Op, PATIENCE, Random, calls_of, injected, is_long, through};
use crate::place::{Outcome, has, run};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Starts one test of this program anew in a mount namespace of its own, where nothing stays mounted. True in
/// the one that was started.
pub fn in_own_mounts(test: &str) -> bool {
    if std::env::var("CTRBUILD_FAULTS_ALONE").is_ok_and(|t| t == test) {
        return true;
    }
    if !crate::place::is_root() {
        println!("skipped: needs root");
        return false;
    }
    if !has(&["unshare", "mount", "umount"]) {
        return false;
    }
    let mut child = Command::new("unshare");
    child.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env("CTRBUILD_FAULTS_ALONE", test);
    let outcome = run(&mut child);
    // What the harness says of it, this one says again.
    let harness = ["running ", "test "];
    for line in outcome.stdout.lines().filter(|l| !l.is_empty() && !harness.iter().any(|h| l.starts_with(h)))
    {
        println!("{line}");
    }
    if outcome.stderr.contains("unshare failed") {
        println!("skipped: {}", outcome.stderr.trim());
        return false;
    }
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stdout, outcome.stderr);
    false
}

/// False (with a word) where a mount is refused.
pub fn mount(arguments: &[&str], at: &Path) -> bool {
    let mounted = run(Command::new("mount").args(arguments).arg(at));
    if mounted.code != Some(0) {
        println!("skipped: can't mount: {}", mounted.stderr.trim());
    }
    mounted.code == Some(0)
}

fn used(store: &Path) -> (u64, u64) {
    let s = rustix::fs::statvfs(store).unwrap();
    ((s.f_blocks - s.f_bfree) * s.f_frsize, s.f_files - s.f_ffree)
}

/// Commands that write much.
const WRITERS: [Op; 5] = [Op::Build, Op::BuildOn, Op::Load, Op::Pull, Op::Import];

struct Small<'a> {
    lab: &'a Lab,
    at: PathBuf,
}

impl Small<'_> {
    /// A file system with the seed's store, and no more than `bytes` or `inodes` beside it.
    fn with(lab: &Lab, bytes: Option<u64>, inodes: Option<u64>) -> Option<Small<'_>> {
        let at = lab.place.path("small");
        fs::create_dir_all(&at).unwrap();
        mount(&["-t", "tmpfs", "-o", "mode=700", "none"], &at).then_some(())?;
        lab.copy(&at);
        let (blocks, files) = used(&at);
        let mut options = "remount".to_string();
        options.push_str(&format!(",size={}k", (blocks + bytes.unwrap_or(16 << 20)) / 1024));
        if let Some(inodes) = inodes {
            options.push_str(&format!(",nr_inodes={}", files + inodes));
        }
        mount(&["-o", &options], &at).then_some(Small { lab, at })
    }

    /// Whether the command went well; otherwise all that is promised of a failure is checked.
    fn run(&self, op: Op, context: &str) -> bool {
        let arguments = self.lab.arguments(op, 0).unwrap();
        let (bytes, inodes) = used(&self.at);
        let ended = run(&mut self.lab.command(&self.at, &arguments));
        if ended.code == Some(0) {
            self.lab.is_readable(&self.at, &op.name(self.lab).unwrap(), context);
            return true;
        }
        says(&ended, "no space left", context);
        // Reading without being collected meanwhile takes a lease, for which there may be no room now. That is no damage.
        let verified = self.lab.run(&self.at, ["store", "verify"]);
        match verified.code {
            Some(0) => {}
            _ => says(&verified, "no space left", context),
        }
        assert!(!verified.stdout.contains("damaged"), "{context}: {}", verified.stdout);
        // Only whole blobs and layers may stay, for the next attempt, until they are collected.
        for folder in ["tmp", "active", "trash"] {
            let left = fs::read_dir(self.at.join(folder)).unwrap().count();
            assert_eq!(left, 0, "{context}: {folder}");
        }
        let partial: u64 = fs::read_dir(self.at.join("partial"))
            .unwrap()
            .map(|e| e.unwrap().metadata().unwrap().len())
            .sum();
        assert_eq!(partial, 0, "{context}: what can't be finished is in the way");
        // Not a block is free.
        let fill = fs::File::create(self.at.join("logs/fill"));
        if let Ok(mut file) = fill {
            while file.write_all(&[7; 4096]).is_ok() {}
        }
        let pruned = self.lab.run(&self.at, ["prune", "-a", "-f"]);
        assert_eq!(pruned.code, Some(0), "{context}: {}", pruned.stderr);
        let _ = fs::remove_file(self.at.join("logs/fill"));
        // Logs and empty folders are left, and the seed had garbage. A packed form of the base's layer is the base's.
        let (bytes_after, inodes_after) = used(&self.at);
        let base = fs::metadata(self.lab.place.path("base.tar")).unwrap().len();
        assert!(
            bytes_after <= bytes + 300_000 + base,
            "{context}: {} bytes are not given back",
            bytes_after - bytes
        );
        assert!(inodes_after <= inodes + 60, "{context}: {} files are left", inodes_after - inodes);
        let grown = mount(&["-o", "remount,size=200m,nr_inodes=100k"], &self.at);
        assert!(grown, "{context}");
        self.lab.is_sound(&self.at, context);
        run(&mut self.lab.command(&self.at, &arguments)).ok();
        self.lab.is_tidy(&self.at, context);
        false
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).status();
    }
}

/// A command that failed in words: of what, and with something to do about it.
#[track_caller]
fn says(ended: &Outcome, word: &str, context: &str) {
    let said = ended.stderr.to_lowercase();
    assert_eq!(ended.code, Some(1), "{context}: {}", ended.stderr);
    assert!(said.contains("error:") && said.contains(word), "{context}: {}", ended.stderr);
    assert!(said.contains("hint:"), "{context}: {}", ended.stderr);
    assert!(!said.contains("panicked"), "{context}: {}", ended.stderr);
}

#[test]
fn full_at_each_mebibyte() {
    if !in_own_mounts("disk::full_at_each_mebibyte") {
        return;
    }
    let Some(lab) = Lab::with_layers_of(5 << 20) else { return };
    let mut random = Random::new(20);
    let (mut full, mut enough) = (0, 0);
    for op in WRITERS {
        if lab.arguments(op, 0).is_none() {
            continue;
        }
        let mut well = false;
        for mebibytes in 0..40u64 {
            if !is_long() && random.below(4) > 0 {
                continue;
            }
            // Not at the bounds of pages only.
            let bytes = (mebibytes << 20) + random.below(1 << 20) as u64;
            let Some(small) = Small::with(&lab, Some(bytes), None) else { return };
            let context = format!("{op:?} with {bytes} bytes");
            well = small.run(op, &context);
            if well {
                enough += 1;
                break;
            }
            full += 1;
        }
        assert!(well || !is_long(), "{op:?} never has enough");
    }
    println!("{full} times full, {enough} times enough");
    assert!(full > 0);
}

#[test]
fn out_of_inodes() {
    if !in_own_mounts("disk::out_of_inodes") {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let mut random = Random::new(21);
    let (mut full, mut enough) = (0, 0);
    for op in WRITERS {
        if lab.arguments(op, 0).is_none() {
            continue;
        }
        let mut inodes = 0;
        while inodes < 1000 {
            let Some(small) = Small::with(&lab, None, Some(inodes)) else { return };
            if small.run(op, &format!("{op:?} with {inodes} inodes")) {
                enough += 1;
                break;
            }
            full += 1;
            inodes += if is_long() { 1 + inodes / 16 } else { 8 + random.below(100) as u64 };
        }
    }
    println!("{full} times without inodes, {enough} times enough");
    assert!(full > 0 && enough > 0);
}

/// Each call in turn fails once, in the middle of a command. `transparent` errors are to be unseen.
fn failing(op: Op, calls: &[&str], error: &str, transparent: bool) -> (usize, usize) {
    let Some(lab) = Lab::new() else { return (0, 0) };
    let Some(arguments) = lab.arguments(op, 0) else { return (0, 0) };
    // Not of what is no disk: events that wake threads, connections, the loader.
    let store = lab.fresh();
    let mut points = calls_of(&lab, &lab.command(&store, &arguments), calls, Some(&store));
    if matches!(op, Op::Build | Op::BuildOn | Op::Pull | Op::Push) {
        // The order of their threads changes, and so does what the n-th of these is about.
        points.retain(|(call, _)| call != "read" && call != "write");
    }
    if !is_long() {
        points = Random::new(op as u64 + 30).sample(points, 3);
    }
    let (mut failed, total) = (0, points.len());
    for (n, (call, when)) in (1..).zip(points) {
        let store = lab.fresh();
        let arguments = lab.arguments(op, n).unwrap();
        let context = format!("{op:?}, {error} from {call} {when}");
        let command = lab.command(&store, &arguments);
        let started = Instant::now();
        let ended = run(&mut injected(&command, &format!("{call}:error={error}:when={when}")));
        assert!(started.elapsed() < PATIENCE, "{context}: it hangs");
        lab.wait_for_processes(&store, &context);
        if ended.stderr.contains("failed to wake I/O driver") {
            // The threads came in another order, and it hit what never fails.
            continue;
        }
        assert!(!ended.stderr.contains("panicked"), "{context}: {}", ended.stderr);
        match ended.code {
            Some(0) => {
                if let Some(name) = op.name(&lab) {
                    lab.is_readable(&store, &name, &context);
                }
            }
            _ => {
                assert!(!transparent, "{context}: {}", ended.stderr);
                // The same write of another thread may be that of the message.
                let unheard = call == "write" && ended.stderr.is_empty();
                let said = ended.code == Some(1) && (unheard || ended.stderr.contains("error: "));
                assert!(said, "{context}: {:?} {}", ended.code, ended.stderr);
                failed += 1;
            }
        }
        lab.is_sound(&store, &context);
        run(&mut lab.command(&store, &arguments)).ok();
        lab.is_sound(&store, &context);
        lab.is_tidy(&store, &context);
    }
    (failed, total)
}

#[test]
fn failing_device() {
    if !has(&["strace"]) {
        return;
    }
    let calls =
        ["read", "pread64", "write", "pwrite64", "fsync", "fdatasync", "syncfs", "rename", "renameat2"];
    let ops = [Op::BuildOn, Op::Load, Op::Tag, Op::Build, Op::Pull, Op::Push, Op::Save];
    for op in &ops[..if is_long() { ops.len() } else { 3 }] {
        let op = *op;
        let (failed, total) = failing(op, &calls, "EIO", false);
        println!("{op:?}: {total} system calls with EIO, {failed} commands failed");
    }
}

/// As quotas of network file systems do, at any call that makes or writes something.
#[test]
fn exhausted_quota() {
    if !has(&["strace"]) {
        return;
    }
    let calls = ["write", "fsync", "syncfs", "rename", "renameat2", "mkdir", "mkdirat"];
    for op in [Op::Load, Op::Tag] {
        let (failed, total) = failing(op, &calls, "EDQUOT", false);
        println!("{op:?}: {total} system calls with EDQUOT, {failed} commands failed");
    }
}

#[test]
fn interrupted_calls_are_not_seen() {
    if !has(&["strace"]) {
        return;
    }
    // What a signal may interrupt on a local disk or while it waits.
    let calls = ["read", "write", "flock", "fsync", "ftruncate"];
    let ops = [Op::BuildOn, Op::Load, Op::Build, Op::Import, Op::Pull, Op::Prune, Op::Save];
    for op in &ops[..if is_long() { ops.len() } else { 2 }] {
        let op = *op;
        let (_, total) = failing(op, &calls, "EINTR", true);
        println!("{op:?}: {total} interrupted system calls");
    }
}

#[test]
fn few_open_files() {
    if !has(&["sh"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let mut random = Random::new(40);
    let (mut failed, mut total) = (0, 0);
    for op in [Op::Build, Op::BuildOn, Op::Load, Op::Pull, Op::Push, Op::Prune] {
        if lab.arguments(op, 0).is_none() {
            continue;
        }
        for limit in 16..=64 {
            if !is_long() && random.below(16) > 0 {
                continue;
            }
            let store = lab.fresh();
            let arguments = lab.arguments(op, 1000 + limit).unwrap();
            let context = format!("{op:?} with {limit} open files");
            let words = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
            let started = Instant::now();
            let ended = run(&mut through(&["sh", "-c", &words], &lab.command(&store, &arguments)));
            assert!(started.elapsed() < PATIENCE, "{context}: it hangs");
            total += 1;
            if ended.code != Some(0) {
                failed += 1;
                let said = ended.stderr.to_lowercase();
                assert!(!said.contains("panicked"), "{context}: {}", ended.stderr);
                let clear = said.contains("too many open files") || said.contains("no file descriptors");
                assert!(ended.code == Some(1) && clear, "{context}: {:?} {}", ended.code, ended.stderr);
            }
            lab.is_sound(&store, &context);
            run(&mut lab.command(&store, &arguments)).ok();
            lab.is_tidy(&store, &context);
        }
    }
    println!("{total} commands with few open files, {failed} failed");
}

/// What only reads works, what would write says why it can't.
#[test]
fn a_read_only_disk_is_read() {
    if !in_own_mounts("disk::a_read_only_disk_is_read") {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let store = lab.place.root.clone();
    if !mount(&["--bind", store.to_str().unwrap()], &store) || !mount(&["-o", "remount,bind,ro"], &store) {
        return;
    }
    for args in [
        &["images"][..],
        &["images", "app:1"],
        &["image", "tree"],
        &["inspect", "app:1"],
        &["history", "app:1"],
        &["containers"],
        &["df"],
        &["plan", "new"],
        &["store", "verify"],
    ] {
        let told = run(&mut lab.command(&store, args));
        assert_eq!(told.code, Some(0), "{args:?}: {}", told.stderr);
        assert!(!told.stdout.is_empty(), "{args:?}");
    }
    lab.is_sound(&store, "read-only");
    // A push keeps the layers that it packs.
    let writers = Op::ALL.into_iter().filter(|op| !matches!(op, Op::First | Op::Save));
    for op in writers.chain([Op::Move, Op::MoveAway, Op::LayOut]) {
        let Some(arguments) = lab.arguments(op, 0) else { continue };
        let ended = run(&mut lab.command(&store, &arguments));
        assert_eq!(ended.code, Some(1), "{op:?}: {}", ended.stdout);
        let said = format!("the store `{}` is on a read-only file system\nhint: ", store.display());
        assert!(ended.stderr.contains(&said), "{op:?}: {}", ended.stderr);
    }
}
