//! `kill -9` at system calls and at random moments: what was committed is whole, the rest can be collected, the
//! next command works, and nothing is left behind.

use crate::lab::{Lab, Op, PATIENCE, Random, calls_of, injected, is_long, real};
use crate::place::{has, run};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Calls that change something or order changes, and the one that most others begin with.
const CALLS: [&str; 31] = [
    "openat",
    "write",
    "fsync",
    "fdatasync",
    "syncfs",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "flock",
    "utimensat",
    "ftruncate",
    "pwrite64",
    "copy_file_range",
    "sendfile",
    "fchmod",
    "fchmodat",
    "chmod",
    "fchown",
    "symlinkat",
    "mknodat",
    "umount2",
    "move_mount",
    "clone3",
    "connect",
];

fn kill_at_every_call(op: Op) {
    if !has(&["strace"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let Some(arguments) = lab.arguments(op, 0) else {
        return println!("skipped: there is nothing here that {op:?} could do it with");
    };
    let store = lab.fresh();
    if op == Op::First {
        std::fs::remove_dir_all(&store).unwrap();
    }
    let mut points = calls_of(&lab, &lab.command(&store, &arguments), &CALLS, None);
    if !is_long() {
        // Few calls open most files, and the rest matter more.
        let mut random = Random::new(op as u64);
        points.retain(|(call, n)| call != "openat" || n % 16 == 1);
        points = random.sample(points, 3);
    }
    let (mut killed, total) = (0, points.len());
    for (n, (call, when)) in (1..).zip(points) {
        let context = format!("{op:?} killed at {call} {when}");
        let store = lab.fresh();
        if op == Op::First {
            std::fs::remove_dir_all(&store).unwrap();
        }
        let arguments = lab.arguments(op, n).unwrap();
        let command = lab.command(&store, &arguments);
        let started = Instant::now();
        let ended = run(&mut injected(&command, &format!("{call}:signal=SIGKILL:when={when}")));
        let reported = ended.code == Some(0);
        assert!(started.elapsed() < PATIENCE, "{context}: it hangs");
        killed += usize::from(!reported);
        assert!(!ended.stderr.contains("panicked"), "{context}: {}", ended.stderr);
        lab.wait_for_processes(&store, &context);
        if op != Op::First {
            lab.is_sound(&store, &context);
        }
        if let (true, Some(name)) = (reported, op.name(&lab)) {
            lab.is_readable(&store, &name, &context);
        }
        if op == Op::Push {
            let other = lab.place.path("pulled");
            let pulled = run(&mut lab.command(&other, ["pull", "-q", &arguments[3]]));
            let absent = pulled.code == Some(1) && pulled.stderr.contains("not found");
            assert!(pulled.code == Some(0) || absent && !reported, "{context}: {}", pulled.stderr);
        }
        if op.is_of_containers() {
            lab.container_is_usable(&store, op, &context);
        }
        let again = run(&mut lab.command(&store, &arguments));
        let done_before = match op {
            Op::Rmi => again.code == Some(1) && again.stderr.contains("side:1"),
            Op::Move | Op::MoveAway => again.code == Some(1) && again.stderr.contains("it is there"),
            Op::From => again.code == Some(1) && again.stderr.contains("in use"),
            Op::Rm => again.code == Some(1) && again.stderr.contains("no such container"),
            Op::TakeIn => again.code == Some(1) && again.stderr.contains("not mounted"),
            _ => false,
        };
        assert!(again.code == Some(0) || done_before, "{context}: {}", again.stderr);
        if let Some(name) = op.name(&lab) {
            lab.is_readable(&store, &name, &context);
        }
        match op {
            Op::First => drop(lab.run(&store, ["store", "verify"]).ok()),
            _ => lab.is_sound(&store, &context),
        }
        lab.is_tidy(&store, &context);
        if matches!(op, Op::Move | Op::MoveAway) {
            std::fs::remove_dir_all(real(&store)).unwrap();
        }
    }
    println!("{op:?}: {total} system calls, killed at {killed} of them");
    assert!(killed > 0);
}

#[test]
fn at_the_calls_of_a_build() {
    kill_at_every_call(Op::Build);
}
#[test]
fn at_the_calls_of_a_build_on_what_is_fetched() {
    kill_at_every_call(Op::BuildOn);
}
#[test]
fn at_the_calls_of_making_a_container() {
    kill_at_every_call(Op::From);
}
#[test]
fn at_the_calls_of_a_command_in_a_container() {
    kill_at_every_call(Op::Run);
}
#[test]
fn at_the_calls_of_a_copy_into_a_container() {
    kill_at_every_call(Op::Copy);
}
#[test]
fn at_the_calls_of_a_commit() {
    kill_at_every_call(Op::Commit);
}
#[test]
fn at_the_calls_of_laying_files_out() {
    kill_at_every_call(Op::LayOut);
}
#[test]
fn at_the_calls_of_taking_files_in() {
    kill_at_every_call(Op::TakeIn);
}
#[test]
fn at_the_calls_of_removing_a_container() {
    kill_at_every_call(Op::Rm);
}
#[test]
fn at_the_calls_of_keeping_files_once() {
    kill_at_every_call(Op::Dedup);
}
#[test]
fn at_the_calls_of_moving_the_store() {
    kill_at_every_call(Op::Move);
}
#[test]
fn at_the_calls_of_moving_the_store_away() {
    kill_at_every_call(Op::MoveAway);
}
#[test]
fn at_the_calls_of_an_import() {
    kill_at_every_call(Op::Import);
}
#[test]
fn at_the_calls_of_a_load() {
    kill_at_every_call(Op::Load);
}
#[test]
fn at_the_calls_of_a_prune() {
    kill_at_every_call(Op::Prune);
}
#[test]
fn at_the_calls_of_a_pull() {
    kill_at_every_call(Op::Pull);
}
#[test]
fn at_the_calls_of_a_push() {
    kill_at_every_call(Op::Push);
}
#[test]
fn at_the_calls_of_removing_a_name() {
    kill_at_every_call(Op::Rmi);
}
#[test]
fn at_the_calls_of_a_save() {
    kill_at_every_call(Op::Save);
}
#[test]
fn at_the_calls_of_a_tag() {
    kill_at_every_call(Op::Tag);
}
#[test]
fn at_the_calls_of_the_first_command() {
    kill_at_every_call(Op::First);
}

/// One store that is never given time to recover.
#[test]
fn at_random_moments() {
    let Some(lab) = Lab::new() else { return };
    let store = lab.fresh();
    let mut random = Random::new(100);
    let ops: Vec<Op> = Op::ALL.into_iter().filter(|op| lab.arguments(*op, 0).is_some()).collect();
    let (rounds, mut killed, mut by_op) = (if is_long() { 1000 } else { 50 }, 0, BTreeMap::new());
    let mut times: BTreeMap<Op, Duration> = BTreeMap::new();
    for n in 0..rounds {
        let op = ops[random.below(ops.len())];
        let arguments = lab.arguments(op, 1_000_000 + n).unwrap();
        if op == Op::Build {
            // Else it would be in the cache.
            let recipe = format!("FROM base\nRUN echo {n} > /n && mkdir /d\nCOPY file /d/\nRUN rm /n\n");
            std::fs::write(lab.place.path("new/Dockerfile"), recipe).unwrap();
        }
        let usual = times.get(&op).copied().unwrap_or(Duration::from_millis(150));
        let wait = usual.mul_f64(random.below(1200) as f64 / 1000.0);
        let mut command = lab.command(&store, &arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                times.insert(op, started.elapsed());
                break status;
            }
            if started.elapsed() >= wait {
                child.kill().unwrap();
                break child.wait().unwrap();
            }
            std::thread::sleep(Duration::from_micros(300));
        };
        killed += usize::from(status.code().is_none());
        *by_op.entry(op).or_insert(0) += 1;
        let context = format!("round {n}, {op:?} after {wait:?}: {status}");
        if status.success()
            && let Some(name) = op.name(&lab)
        {
            lab.is_readable(&store, &name, &context);
        }
        if is_long() || n % 10 == 9 {
            lab.is_sound(&store, &context);
        }
    }
    lab.wait_for_processes(&store, "afterwards");
    lab.run(&store, ["prune", "-a", "-f"]).ok();
    run(&mut lab.command(&store, lab.arguments(Op::Build, 0).unwrap())).ok();
    lab.is_sound(&store, "afterwards");
    lab.is_tidy(&store, "afterwards");
    println!("{rounds} commands, {killed} killed: {by_op:?}");
    assert!(killed * 4 > rounds);
}
