//! SIGINT and SIGTERM: out within two seconds, with the right code, and nothing is left.

use crate::place::Place;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Nobody else sleeps for so long.
fn marker(n: u32) -> String {
    (90_000_000u64 + u64::from(std::process::id()) * 10 + u64::from(n)).to_string()
}

/// Processes whose arguments hold the text.
fn processes(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let args = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let args = String::from_utf8_lossy(&args).replace('\0', " ");
        // The builder's own arguments hold no recipe text.
        if entry.file_name().to_string_lossy().parse::<u32>().is_ok() && args.contains(text) {
            out.push(args);
        }
    }
    out
}

fn mounts(place: &Place) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|l| l.contains(place.dir.path().to_str().unwrap())).count()
}

/// cgroups of builders, by the pid in their names.
fn cgroups(pid: u32) -> Vec<String> {
    fn walk(folder: &std::path::Path, depth: u32, wanted: &str, out: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if name.contains("ctrbuild") && name.contains(wanted) {
                    out.push(entry.path().display().to_string());
                }
                if depth > 0 {
                    walk(&entry.path(), depth - 1, wanted, out);
                }
            }
        }
    }
    let mut out = Vec::new();
    walk(std::path::Path::new("/sys/fs/cgroup"), 4, &pid.to_string(), &mut out);
    out
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn ends_with(signal: Signal, code: i32, n: u32) {
    let Some(place) = Place::with_base() else { return };
    let text = marker(n);
    let context = place.recipe(&format!("FROM base\nRUN echo started && (sleep {text} & sleep {text})\n"));
    let mut build = place.command(["build", "--progress=plain", "-t", "app", &context]);
    let mut child = build.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap().ends_with(" started")), "the step did not start");
    let started = Instant::now();
    while processes(&text).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(5), "the step does nothing");
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = Instant::now();
    kill_process(pid(&child), signal).unwrap();
    // Reads to the end: a step that kept the pipe open would show here.
    let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
    let status = child.wait().unwrap();
    let took = sent.elapsed();
    assert_eq!(status.code(), Some(code), "{:?}", reader.join());
    assert!(took < Duration::from_secs(2), "took {took:?}");
    let left = || (processes(&text), mounts(&place), cgroups(child.id()));
    let empty = |l: &(Vec<String>, usize, Vec<String>)| l.0.is_empty() && l.1 == 0 && l.2.is_empty();
    while !empty(&left()) && sent.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(empty(&left()), "left: {:?}", left());
    assert_eq!(place.run(["images", "-q", "app"]).ok(), "");
    place.verify();
    // The store is free for the next one.
    let context = place.recipe("FROM base\nRUN true\n");
    place.run(["build", "-q", &context]).ok();
}

#[test]
fn interrupt() {
    ends_with(Signal::INT, 130, 0);
}

#[test]
fn terminate() {
    ends_with(Signal::TERM, 143, 1);
}

#[test]
fn killed_builders_leave_nothing_that_counts() {
    let Some(place) = Place::with_base() else { return };
    let text = marker(2);
    let context =
        place.recipe(&format!("FROM base\nRUN echo kept > /kept\nRUN echo started && sleep {text}\n"));
    let mut build = place.command(["build", "--progress=plain", &context]);
    let mut child = build.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap().ends_with(" started")));
    child.kill().unwrap();
    child.wait().unwrap();
    let killed = Instant::now();
    while !processes(&text).is_empty() {
        assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", processes(&text));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(mounts(&place), 0);
    place.verify();
    let context = place.recipe("FROM base\nRUN echo kept > /kept\n");
    let next = place.run(["build", "--progress=plain", &context]);
    assert!(next.stderr.contains(" CACHED"), "{}", next.stderr);
    next.ok();
    place.run(["prune", "-a", "-f"]).ok();
    place.verify();
}
