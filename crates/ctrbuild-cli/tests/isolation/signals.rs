//! Builders that are ended at random moments leave nothing behind, at the latest after the next start.
//!
//! Short runs by default; `CTRBUILD_TEST_SIGNALS=300` and `CTRBUILD_TEST_KILLS=200` make them long, as
//! `cargo xtask torture kills` does.

use crate::builder::{Builder, cgroups_of, everybody, marker, processes};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

fn count(variable: &str) -> u64 {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(20)
}

/// Network namespaces that processes are in, by number.
fn networks() -> BTreeSet<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|p| fs::read_link(p.path().join("ns/net")).ok())
        .map(|l| l.display().to_string())
        .collect()
}

/// Folders that a builder may have made for itself outside of its store.
fn temporary(b: &Builder) -> Vec<String> {
    let places = [b.place.path("t"), "/run".into(), "/dev/shm".into()];
    let entries = places.iter().filter_map(|place| fs::read_dir(place).ok()).flatten().flatten();
    let names = entries.map(|e| e.path().display().to_string());
    names.filter(|n| n.starts_with(b.place.dir.path().to_str().unwrap()) || n.contains("ctrbuild")).collect()
}

fn mounts(b: &Builder) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|l| l.contains(b.place.dir.path().to_str().unwrap())).count()
}

fn names(b: &Builder, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(b.store().join(folder)).unwrap();
    entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Nothing of these builders is left once they are dead and another one has started.
fn nothing_is_left(b: &Builder, pids: &[u32], sleeping: &str, networks_before: &BTreeSet<String>) {
    b.build("FROM base\nRUN true\n", &["--no-cache"]).ok();
    let started = Instant::now();
    loop {
        let left: Vec<_> = pids.iter().flat_map(|pid| cgroups_of(*pid)).collect();
        let running = processes(sleeping);
        // In the short form other tests run beside this one, with namespaces of their own.
        let alone = std::env::var_os("CTRBUILD_TEST_KILLS").is_some();
        let extra = if alone { networks().difference(networks_before).count() } else { 0 };
        if left.is_empty() && running == 0 && extra == 0 {
            break;
        }
        let waited = started.elapsed() > Duration::from_secs(10);
        assert!(!waited, "{left:?}, {running} processes, {extra} network namespaces");
        std::thread::sleep(Duration::from_millis(20));
    }
    let left = || ["active", "tmp", "leases"].map(|folder| names(b, folder)).concat();
    // A child that its builder was about to make may have lived on for a moment, and with it the lease.
    while !left().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", left());
        b.build("FROM base\nRUN true\n", &["--no-cache"]).ok();
    }
    assert_eq!(mounts(b), 0);
    assert_eq!(temporary(b), [""; 0]);
    b.run(&["store", "verify"]).ok();
}

/// Ends `count` builders by `signals` in turn. Prints what it came to, since the long form is a measurement.
fn ended_at_random(b: &Builder, what: &str, count: u64, signals: &[Signal], seed: u64) {
    let mark = marker();
    let recipe = format!(
        "FROM base AS a\nRUN --network=none echo a > /a\nFROM base AS b\n\
         RUN --mount=type=cache,target=/c --network=none echo b > /b; sleep {mark}\n\
         FROM base\nCOPY --from=a /a /a\nCOPY --from=b /b /b\n"
    );
    let context = b.place.context_in("signals", &[("Dockerfile", &recipe)]);
    let temp = b.place.path("t");
    fs::create_dir(&temp).unwrap();
    fs::set_permissions(&temp, fs::Permissions::from_mode(0o1777)).unwrap();
    let before = networks();
    let mut pids = Vec::new();
    let mut state = seed;
    let mut slowest = Duration::ZERO;
    let mut codes = std::collections::BTreeMap::new();
    for n in 0..count {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wait = Duration::from_micros((state >> 33) % 200_000);
        let signal = signals[(n as usize) % signals.len()];
        let mut command = b.command(&["build", "--no-cache", &context]);
        command.env("TMPDIR", &temp);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(wait);
        let sent = Instant::now();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        slowest = slowest.max(sent.elapsed());
        // Before it listens, a signal ends it as any other program.
        let code = status.code().or(std::os::unix::process::ExitStatusExt::signal(&status).map(|s| 128 + s));
        let expected = [128 + signal.as_raw()];
        assert!(code.is_some_and(|c| expected.contains(&c)), "{signal:?} after {wait:?}: {status}");
        assert!(sent.elapsed() < Duration::from_secs(2), "{signal:?} after {wait:?}: {:?}", sent.elapsed());
        *codes.entry(status.to_string()).or_insert(0) += 1;
        pids.push(child.id());
    }
    nothing_is_left(b, &pids, &mark, &before);
    println!("{what}: {count} builders, the slowest end after {slowest:.0?}, {codes:?}, nothing is left");
}

#[test]
fn interrupted() {
    let Some(b) = Builder::root() else { return };
    ended_at_random(&b, "asked to end", count("CTRBUILD_TEST_SIGNALS"), &[Signal::INT, Signal::TERM], 1);
}

#[test]
fn interrupted_without_root() {
    let Some(b) = Builder::rootless() else { return };
    let signals = [Signal::INT, Signal::TERM];
    ended_at_random(&b, "asked to end, without root", count("CTRBUILD_TEST_SIGNALS"), &signals, 4);
}

#[test]
fn killed() {
    let Some(b) = Builder::root() else { return };
    ended_at_random(&b, "killed", count("CTRBUILD_TEST_KILLS"), &[Signal::KILL], 2);
}

#[test]
fn killed_without_root() {
    let Some(b) = Builder::rootless() else { return };
    ended_at_random(&b, "killed, without root", count("CTRBUILD_TEST_KILLS"), &[Signal::KILL], 3);
}

/// The second signal does not wait for anything.
#[test]
fn a_second_signal_forces() {
    everybody(|b| {
        let mark = marker();
        let context =
            b.place.context_in("twice", &[("Dockerfile", &format!("FROM base\nRUN sleep {mark}\n"))]);
        let mut child =
            b.command(&["build", &context]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        while processes(&mark) == 0 {
            assert!(started.elapsed() < Duration::from_secs(20), "the step does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        let sent = Instant::now();
        // The second one may find it gone already.
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::INT).unwrap();
        let _gone = kill_process(pid, Signal::INT);
        let status = child.wait().unwrap();
        assert!(sent.elapsed() < Duration::from_secs(1), "{:?}", sent.elapsed());
        assert_eq!(status.code(), Some(130), "{status}");
        while processes(&mark) > 0 {
            assert!(sent.elapsed() < Duration::from_secs(5), "the step lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
        b.build("FROM base\nRUN true\n", &["--no-cache"]).ok();
        assert_eq!((mounts(b), names(b, "active"), names(b, "tmp")), (0, vec![], vec![]));
    });
}

/// A hundred steps of one build at the same time.
#[test]
fn a_hundred_steps_at_once() {
    everybody(|b| {
        // Each waits for all others, so that they do run at once, through a cache folder that they share.
        let mut recipe = String::new();
        let mut last = "FROM scratch\n".to_string();
        for n in 0..100 {
            recipe.push_str(&format!(
                "FROM base AS s{n}\nRUN --mount=type=cache,target=/c touch /c/{n}; i=0; \
                 while [ $(ls /c | wc -l) -lt 100 ] && [ $i -lt 600 ]; do sleep 0.2; i=$((i+1)); done; \
                 ls /c | wc -l > /n; test $(cat /n) = 100\n"
            ));
            last.push_str(&format!("COPY --from=s{n} /n /{n}\n"));
        }
        let built = b.build(&(recipe + &last), &["--no-cache", "--jobs", "100"]);
        assert_eq!(built.code, Some(0), "{}", built.stderr);
        println!("a hundred steps at once: done");
    });
}
