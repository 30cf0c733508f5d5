//! SIGINT and SIGTERM at random moments of commands that are no builds (those are among the tests of isolation):
//! out within two seconds, with the right code, and nothing is left.

use crate::lab::{Lab, Op, Random, is_long};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn other_commands_end_when_asked() {
    let Some(lab) = Lab::with_layers_of(2 << 20) else { return };
    let store = lab.fresh();
    let mut random = Random::new(300);
    let ops = [Op::Pull, Op::Push, Op::Prune, Op::Load, Op::Save, Op::Import];
    let ops: Vec<Op> = ops.into_iter().filter(|op| lab.arguments(*op, 0).is_some()).collect();
    let count = if is_long() { 300 } else { 24 };
    let (mut ended, mut slowest) = (0, Duration::ZERO);
    for n in 0..count {
        let op = ops[n % ops.len()];
        let signal = if random.below(2) == 0 { Signal::INT } else { Signal::TERM };
        let arguments = lab.arguments(op, 2_000_000 + n).unwrap();
        let mut command = lab.command(&store, &arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let wait = Duration::from_micros(random.below(120_000) as u64);
        std::thread::sleep(wait);
        let sent = Instant::now();
        // It may have ended, but was not waited for: the number is still its own.
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        let context = format!("{op:?}, {signal:?} after {wait:?}: {status}");
        slowest = slowest.max(sent.elapsed());
        assert!(sent.elapsed() < Duration::from_secs(2), "{context}: {:?}", sent.elapsed());
        let code = status.code().or(status.signal().map(|s| 128 + s));
        assert!(code == Some(0) || code == Some(128 + signal.as_raw()), "{context}");
        ended += usize::from(code != Some(0));
    }
    lab.run(&store, ["prune", "-a", "-f"]).ok();
    lab.is_sound(&store, "afterwards");
    lab.is_tidy(&store, "afterwards");
    println!("{count} commands, {ended} ended by a signal, the slowest after {slowest:.0?}");
    assert!(ended > 0);
}
