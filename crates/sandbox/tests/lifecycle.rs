//! Ends of steps: limits, kills, and nothing left behind.

mod common;

use std::fs;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{image, pipe};
use sandbox::*;

/// All cgroups of ours on the host.
fn cgroups() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with("ctrbuild-") {
                    found.push(entry.path());
                }
                todo.push(entry.path());
            }
        }
    }
    found
}

/// Cgroups made by the process `pid`.
fn cgroups_of(pid: u32) -> Vec<PathBuf> {
    let mine = |path: &PathBuf| {
        path.file_name().unwrap().to_str().unwrap().split('-').nth(2) == Some(&pid.to_string())
    };
    cgroups().into_iter().filter(mine).collect()
}

/// Processes whose command line holds `text`.
fn processes_with(text: &str) -> Vec<u32> {
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != std::process::id() && line.split(|b| *b == 0).any(|arg| arg == text.as_bytes())
    })
    .collect()
}

/// A number of seconds to sleep for, by which a step of this very run is known among all processes.
fn mark(test: u32, tester: u32) -> String {
    format!("{tester}.{test}")
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "still not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// True if limits can be set at the top of the cgroup tree.
fn limited(spec: &mut SandboxSpec) {
    spec.limits.cgroup_parent = Some("/".into());
}

#[test]
fn memory_hog_is_out_of_memory() {
    let Some(image) = image() else { return };
    let mut spec = image.step(
        "head -c 200000000 /dev/zero | tail -c 150000000 | wc -c; echo code $?; tail -c 150000000 /dev/zero",
    );
    limited(&mut spec);
    spec.limits.memory = Some(32 << 20);
    spec.limits.memory_swap = Some(32 << 20);
    let (exit, output) = match image.run_spec(spec) {
        Err(Error::Limit { reason, .. }) => return eprintln!("skipped: {reason}"),
        other => other.unwrap(),
    };
    assert_eq!(exit.status, Status::OutOfMemory, "{output}");
    assert_eq!(exit.status.code(), 137);
    assert!(exit.usage.peak_memory > 16 << 20 && exit.usage.peak_memory <= 33 << 20, "{:?}", exit.usage);
}

#[test]
fn fork_bomb_hits_its_limit() {
    let Some(image) = image() else { return };
    let mut spec = image.step("i=0; while [ $i -lt 100 ]; do sleep 100 & i=$((i+1)); done; echo all");
    limited(&mut spec);
    spec.limits.pids = Some(20);
    let (exit, output) = match image.run_spec(spec) {
        Err(Error::Limit { reason, .. }) => return eprintln!("skipped: {reason}"),
        other => other.unwrap(),
    };
    assert!(!exit.status.success() && output.contains("can't fork") && !output.contains("all"), "{output}");
}

#[test]
fn cpu_limits_are_visible() {
    let Some(image) = image() else { return };
    let mut spec =
        image.step("cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; true");
    limited(&mut spec);
    spec.limits.cpus = Some(0.5);
    let output = match image.run_spec(spec) {
        Err(Error::Limit { reason, .. }) => return eprintln!("skipped: {reason}"),
        other => other.unwrap().1,
    };
    assert!(output.starts_with("50000"), "{output}");
}

#[test]
fn cpusets_are_obeyed() {
    let Some(image) = image() else { return };
    let mut spec = image.step("grep Cpus_allowed_list /proc/self/status");
    limited(&mut spec);
    spec.limits.cpuset_cpus = Some("0".into());
    let output = match image.run_spec(spec) {
        Err(Error::Limit { reason, .. }) => return eprintln!("skipped: {reason}"),
        other => other.unwrap().1,
    };
    assert_eq!(output, "Cpus_allowed_list:\t0\n");
}

#[test]
fn double_forks_die_with_the_step() {
    let Some(image) = image() else { return };
    let mark = &mark(125, std::process::id());
    let (exit, _) = image
        .run_spec(image.step(&format!("(setsid sleep {mark} >/dev/null 2>&1 & ) & sleep 0.1; exit 3")))
        .unwrap();
    assert_eq!(exit.status, Status::Code(3));
    assert_eq!(processes_with(mark), [0u32; 0], "dead when wait returns");
}

#[test]
fn kill_and_drop_end_a_step() {
    let Some(image) = image() else { return };
    let mark = &mark(25, std::process::id());
    let start = || {
        let (_, write) = pipe();
        let child = image
            .runtime
            .spawn(image.step(&format!("sleep {mark} & sleep {mark}")), Stdio::merged(write).unwrap());
        child.unwrap()
    };
    let child = start();
    let killer = child.killer().unwrap();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        killer.kill();
    });
    assert_eq!(child.wait().unwrap().status, Status::Signal(9));
    thread.join().unwrap();
    let child = start();
    wait_until("it sleeps", || processes_with(mark).len() == 2);
    drop(child);
    assert_eq!(processes_with(mark), [0u32; 0]);
}

#[test]
fn a_killed_runner_takes_the_step_along() {
    let Some(image) = image() else { return };
    let mark = &mark(375, std::process::id());
    let (_, write) = pipe();
    let spec = image.step(&format!("sleep {mark}; true"));
    let child = image.runtime.spawn(spec, Stdio::merged(write).unwrap()).unwrap();
    wait_until("it sleeps", || processes_with(mark).len() == 1);
    let sleeper = processes_with(mark)[0];
    let parent = |pid: u32| -> u32 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap()
    };
    let runner = parent(parent(sleeper));
    let killed = std::process::Command::new("kill").args(["-9", &runner.to_string()]).status().unwrap();
    assert!(killed.success());
    let error = child.wait().unwrap_err();
    assert!(matches!(error, Error::RunnerDied(_)), "{error:?}");
    wait_until("the step is dead", || processes_with(mark).is_empty());
}

/// Starts this test binary again as a builder that is killed at all sorts of moments.
#[test]
fn a_killed_builder_leaves_nothing() {
    const VARIABLE: &str = "SANDBOX_TEST_VICTIM";
    let tester = std::env::var(VARIABLE).ok().and_then(|pid| pid.parse().ok());
    let mark = &mark(5, tester.unwrap_or(std::process::id()));
    if tester.is_some() {
        let image = image().unwrap();
        eprintln!("in {}", image.dir.path().display());
        let spec =
            image.step(&format!("(setsid sleep {mark} &) ; sleep {mark} & echo ready; sleep {mark}; true"));
        let child = image
            .runtime
            .spawn(spec, Stdio::merged(std::io::stderr().try_clone_to_owned()).unwrap())
            .unwrap();
        child.wait().unwrap();
        return;
    }
    let Some(_image) = image() else { return };
    for round in 0..40 {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_killed_builder_leaves_nothing", "--nocapture", "--test-threads=1"]);
        command
            .env(VARIABLE, std::process::id().to_string())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped());
        let mut victim = command.spawn().unwrap();
        let mut stderr = std::io::BufReader::new(victim.stderr.take().unwrap());
        let mut wait_for = |word: &str| {
            let mut line = String::new();
            while !line.contains(word) {
                line.clear();
                assert!(stderr.read_line(&mut line).unwrap() > 0);
            }
            line
        };
        let dir = wait_for("in /").trim().trim_start_matches("in ").to_owned();
        if round % 8 == 7 {
            wait_for("ready");
        } else {
            std::thread::sleep(Duration::from_micros(round * 400));
        }
        victim.kill().unwrap();
        let pid = victim.id();
        victim.wait().unwrap();
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        wait_until("no process is left", || processes_with(mark).is_empty());
        wait_until("no cgroup is left", || cgroups_of(pid).is_empty());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&dir), "{mounts}");
        fs::remove_dir_all(&dir).unwrap();
    }
}

trait ToOwnedFd {
    fn try_clone_to_owned(&self) -> std::os::fd::OwnedFd;
}

impl ToOwnedFd for std::io::Stderr {
    fn try_clone_to_owned(&self) -> std::os::fd::OwnedFd {
        use std::os::fd::AsFd;
        self.as_fd().try_clone_to_owned().unwrap()
    }
}

#[test]
fn cgroups_of_dead_builders_are_swept() {
    let Some(image) = image() else { return };
    let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .into_iter()
        .find(|p| Path::new(p).join("cgroup.procs").exists());
    let Some(root) = root else { return eprintln!("skipped: no cgroup v2") };
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|l| l.strip_prefix("0::/")).unwrap_or_default().to_owned();
    let namespace =
        fs::metadata("/proc/self/ns/pid").map(|m| std::os::unix::fs::MetadataExt::ino(&m)).unwrap();
    let base = Path::new(root).join(own);
    let stale = base.join(format!("ctrbuild-{namespace}-{}-1-0", std::process::id()));
    let foreign = base.join(format!("ctrbuild-{}-{}-1-0", namespace + 1, std::process::id()));
    if fs::create_dir(&stale).is_err() {
        return eprintln!("skipped: no right to make cgroups");
    }
    fs::create_dir(&foreign).unwrap();
    assert!(matches!(Runtime::with_program("/nonexistent"), Err(Error::Io { .. })));
    let (left, kept) = (stale.exists(), foreign.exists());
    fs::remove_dir(&foreign).unwrap();
    assert!(!left, "its process never was");
    assert!(kept, "another pid namespace's business");
    image.sh("true");
    assert_eq!(cgroups_of(std::process::id()).iter().filter(|p| !p.exists()).count(), 0);
}

#[test]
fn usage_is_counted() {
    let Some(image) = image() else { return };
    let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    let (exit, _) = image.run_spec(image.step(script)).unwrap();
    assert!(exit.usage.cpu_user > Duration::from_millis(5), "{:?}", exit.usage);
    assert!(exit.usage.wall >= exit.usage.cpu_user / 4 && exit.usage.peak_memory > 0);
}
