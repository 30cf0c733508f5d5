//! Builders that are ended at random moments leave nothing behind, at the latest after the next start.
//!
//! A short run by default; `CTRBUILD_TEST_SIGNALS=300` makes it long.

use crate::builder::{Builder, cgroups_of, marker, processes};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

fn count() -> u64 {
    std::env::var("CTRBUILD_TEST_SIGNALS").ok().and_then(|n| n.parse().ok()).unwrap_or(20)
}

fn mounts(b: &Builder) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|l| l.contains(b.place.dir.path().to_str().unwrap())).count()
}

fn names(b: &Builder, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(b.store().join(folder)).unwrap();
    entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Nothing of these builders is left once another one has started.
fn nothing_is_left(b: &Builder, pids: &[u32], sleeping: &str) {
    b.build("FROM base\nRUN true\n", &["--no-cache"]).ok();
    let started = Instant::now();
    loop {
        let left: Vec<_> = pids.iter().flat_map(|pid| cgroups_of(*pid)).collect();
        let running = processes(sleeping);
        if left.is_empty() && running == 0 {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "{left:?}, {running} processes");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(mounts(b), 0);
    for folder in ["active", "tmp", "leases"] {
        assert_eq!(names(b, folder), [""; 0], "{folder}");
    }
    b.run(&["store", "verify"]).ok();
}

fn ended_at_random(b: &Builder, signals: &[Signal], seed: u64) {
    let mark = marker();
    let recipe = format!(
        "FROM base AS a\nRUN echo a > /a\nFROM base AS b\nRUN --mount=type=cache,target=/c echo b > /b; sleep {mark}\n\
         FROM base\nCOPY --from=a /a /a\nCOPY --from=b /b /b\n"
    );
    let context = b.place.context_in("signals", &[("Dockerfile", &recipe)]);
    let mut pids = Vec::new();
    let mut state = seed;
    for n in 0..count() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wait = Duration::from_micros((state >> 33) % 120_000);
        let signal = signals[(n as usize) % signals.len()];
        let mut command = b.command(&["build", "--no-cache", &context]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(wait);
        let sent = Instant::now();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        // Before it listens, a signal ends it as any other program.
        let ended = [Some(130), Some(143), None].contains(&status.code());
        assert!(ended, "{signal:?} after {wait:?}: {status}");
        assert!(sent.elapsed() < Duration::from_secs(2), "{signal:?} after {wait:?}: {:?}", sent.elapsed());
        pids.push(child.id());
    }
    nothing_is_left(b, &pids, &mark);
}

#[test]
fn interrupted() {
    let Some(b) = Builder::root() else { return };
    ended_at_random(&b, &[Signal::INT, Signal::TERM], 1);
}

#[test]
fn killed() {
    let Some(b) = Builder::root() else { return };
    ended_at_random(&b, &[Signal::KILL], 2);
}

#[test]
fn killed_without_root() {
    let Some(b) = Builder::rootless() else { return };
    ended_at_random(&b, &[Signal::KILL, Signal::TERM], 3);
}
