//! Limits of all steps and of certain ones, and the cgroup that steps may be put into.

use crate::builder::{Builder, everybody, marker};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn certain_steps_have_limits_of_their_own() {
    everybody(|b| {
        let recipe = "FROM base AS one\nRUN ulimit -n; df -k /dev/shm | tail -n 1 | tr -s ' '\n\
                      RUN ulimit -n; df -k /dev/shm | tail -n 1 | tr -s ' '\n\
                      FROM one\nRUN ulimit -n; test ! -e /left; touch /left; sleep 3\n";
        let general = ["--ulimit", "nofile=100", "--shm-size", "1m", "--no-cache"];
        let limits = [
            "--step-limit",
            "stage=one,step=2,ulimit=nofile=50:60,shm-size=2m",
            "--step-limit",
            "stage=1,timeout=1,retries=1",
        ];
        let said = b.build(recipe, &[&general[..], &limits].concat()).err();
        // Each step says its own.
        let of = |step: &str| -> Vec<&str> {
            said.lines()
                .filter(|l| l.starts_with(step))
                .filter_map(|l| l.split_once(' ')?.1.split_once(' '))
                .map(|(_, t)| t)
                .collect()
        };
        let numbers: Vec<Vec<&str>> = ["#3 ", "#4 ", "#5 "].iter().map(|s| of(s)).collect();
        let has = |n: usize, text: &str| numbers[n].iter().any(|l| l.contains(text));
        assert!(has(0, "100") && has(0, "none 1024 "), "{said}");
        assert!(has(1, "50") && has(1, "none 2048 "), "{said}");
        assert!(has(2, "100") && has(2, "attempt 1 of 2 failed (timed out); the step runs again"), "{said}");
        assert!(said.contains("it had 1 s") && said.contains("Dockerfile:5"), "{said}");

        for (limit, expected) in [
            ("stage=tow,timeout=1", "there is no stage \"tow\" to limit"),
            ("stage=2,timeout=1", "there is no stage \"2\" to limit"),
            ("stage=one,step=3,timeout=1", "step 3 of stage one is no RUN, but has limits"),
            ("stage=one", "it limits nothing"),
            ("step=1,timeout=1", "stage is missing"),
        ] {
            let said = b.build(recipe, &["--step-limit", limit]).err();
            assert!(said.contains(expected), "{limit}: {said}");
        }
    });
}

#[test]
fn limits_do_not_change_what_is_cached() {
    let Some(b) = Builder::root() else { return };
    let recipe = "FROM base\nRUN date +%N\n";
    let first = b.build(recipe, &["--step-timeout", "60"]).ok();
    let args =
        ["--step-limit", "stage=0,step=1,timeout=50,ulimit=nofile=64,shm-size=1m", "--step-retries", "3"];
    assert_eq!(first, b.build(recipe, &args).ok());
}

#[test]
fn limits_that_are_none_or_mistakes() {
    let Some(b) = Builder::root() else { return };
    let recipe = "FROM base\nRUN (true); df -k /dev/shm | tail -n 1 | tr -s ' '\n";
    let none =
        ["--memory=0", "--cpus=0", "--pids-limit=-1", "--shm-size=0", "--step-timeout=0", "--no-cache"];
    let said = b.build(recipe, &none);
    assert!(said.code == Some(0) && said.stderr.contains("none 65536 "), "{}", said.stderr);
    b.build(recipe, &["--pids-limit", "0", "--no-cache"]).ok();
    for (args, expected) in [
        (["--cpus", "nan"], "is no number of processors"),
        (["--cpus", "-2"], "is no number of processors"),
        (["--pids-limit", "x"], "is no number of processes"),
        (["--memory", "much"], "is no size"),
        (["--ulimit", "bogus=1"], "there is no limit \"bogus\""),
        (["--ulimit", "nofile=5:1"], "the soft limit is above the hard one"),
        (["--cgroup-parent", "../../x"], "is no path of a cgroup"),
        (["--step-timeout", "soon"], "is no number of seconds"),
    ] {
        let said = b.build(recipe, &args).err();
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    let said = b.build(recipe, &["--memory", "1", "--no-cache"]).err();
    if !said.contains("can be made here") {
        assert!(said.contains("it is too little to start a program with") && said.contains("MiB"), "{said}");
    }
}

/// Folders of this name in the first levels of all cgroup hierarchies.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let below = fs::read_dir(top).into_iter().flatten().flatten().map(|e| e.path());
    below.chain([top.to_owned()]).map(|p| p.join(name)).filter(|p| p.is_dir()).collect()
}

/// The cgroups of the process with this argument.
fn cgroups_of_step(argument: &str) -> Option<String> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let is_it = line.starts_with(b"sleep\0") && line.split(|b| *b == 0).any(|a| a == argument.as_bytes());
        is_it.then(|| fs::read_to_string(entry.path().join("cgroup")).ok()).flatten()
    })
}

#[test]
fn steps_are_in_the_parent_that_was_asked_for() {
    let Some(b) = Builder::root() else { return };
    let name = format!("ctrb-test-{}", std::process::id());
    let mark = marker();
    // A parent that is there, in one hierarchy of v1 where there is any.
    let v1 = Path::new("/sys/fs/cgroup/memory").join(&name).join("deep");
    let in_v1 = Path::new("/sys/fs/cgroup/memory").is_dir() && fs::create_dir_all(&v1).is_ok();
    b.place.context(&[("Dockerfile", &format!("FROM base\nRUN sleep {mark}\n"))]);
    let parent = format!("/{name}/deep");
    let mut child = b
        .command(&["build", "--no-cache", "--cgroup-parent", &parent, "context"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let mut seen = None;
    while seen.is_none() && started.elapsed() < Duration::from_secs(30) && child.try_wait().unwrap().is_none()
    {
        seen = cgroups_of_step(&mark).filter(|text| text.contains(&name));
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = rustix::process::Pid::from_child(&child);
    let _ended = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let stayed = v1.is_dir();
    for folder in [Some(v1.as_path()), v1.parent()].into_iter().flatten() {
        let _gone = fs::remove_dir(folder);
    }
    if seen.is_none() && said.contains("can't enforce the limit cgroup parent") {
        return println!("skipped: no cgroup can be made here");
    }
    let seen = seen.unwrap_or_else(|| panic!("the step is not in {parent}: {said}"));
    assert!(seen.contains(&format!("/{name}/deep/ctrbuild-")), "{seen}");
    if in_v1 {
        let line = seen.lines().find(|l| l.contains(":memory:")).unwrap_or_default();
        assert!(line.contains(&format!("/{name}/deep/ctrbuild-")), "{seen}");
        assert!(stayed, "one that was there stays");
    }
    assert_eq!(cgroups(&name), [] as [PathBuf; 0], "what was made for the step is gone with it");

    // Many at once: the last one that leaves takes it away.
    let mut recipe = String::new();
    (0..8).for_each(|n| recipe.push_str(&format!("FROM base AS s{n}\nRUN sleep 0.0{n}; echo {n} > /{n}\n")));
    recipe.push_str("FROM base\n");
    (0..8).for_each(|n| recipe.push_str(&format!("COPY --from=s{n} /{n} /{n}\n")));
    b.build(&recipe, &["--no-cache", "--jobs", "8", "--cgroup-parent", &parent]).ok();
    assert_eq!(cgroups(&name), [] as [PathBuf; 0]);
}

/// What can't be had is an error and not ignored.
#[test]
fn a_parent_that_can_not_be_had_is_an_error() {
    let Some(b) = Builder::rootless() else { return };
    let said = b.build("FROM base\nRUN true\n", &["--no-cache", "--cgroup-parent", "/ctrb-no-such"]);
    if said.code != Some(0) {
        let said = said.err();
        assert!(said.contains("can't enforce the limit cgroup parent"), "{said}");
    }
    assert_eq!(cgroups("ctrb-no-such"), [] as [PathBuf; 0]);
}
