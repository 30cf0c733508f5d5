//! `ctrbuild shell --failed`: a look at what a failed step left.

use crate::args::{Global, ShellArgs};
use crate::machine;
use ctrbuild::{Error, ErrorKind};
use diagnostic::sanitize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use sandbox::{Input, Stdio};
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use worker::{Entered, FailedStep, KeptNetwork};

pub fn run(global: &Global, args: &ShellArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let Some(step) = FailedStep::load(&session.store).map_err(|e| Error::from(&e))? else {
        return Err(Error::new(ErrorKind::NotFound, "no failed step is kept").hint(
            "the next build that fails keeps its step; `ctrbuild prune` may have removed the last one",
        ));
    };
    let runtime = sandbox::Runtime::new()?;
    let interactive = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let stack = match step.network() {
        KeptNetwork::Isolated => super::build_network::any_stack(),
        _ => None,
    };
    if interactive {
        if args.command.is_empty() {
            eprintln!("{}\n{}", sanitize(step.name()), sanitize(step.status()));
            eprintln!("changes are discarded; the step ran: {}", sanitize(&step.args().join(" ")));
        }
        match step.network() {
            KeptNetwork::AllowList => {
                eprintln!("there is no network here: the step's was limited by --allow-net")
            }
            KeptNetwork::Isolated if stack.is_none() => {
                eprintln!("there is no network here: neither pasta nor slirp4netns is installed");
            }
            _ => {}
        }
    }
    let mut env = Vec::new();
    if interactive {
        // What full-screen programs and line editors need to know.
        env.extend(std::env::var("TERM").ok().map(|value| ("TERM".to_string(), value)));
    }
    let enter = |input, output| {
        step.enter(&session.snapshotter, &runtime, &args.command, &env, stack.as_ref(), input, output)
            .map_err(|e| Error::from(&e))
    };
    let code = if interactive {
        let terminal = Terminal::open()?;
        let lower = terminal.lower.try_clone().map_err(failed)?;
        let output = Stdio::merged(lower.try_clone().map_err(failed)?).map_err(failed)?;
        let entered = enter(Input::Terminal(lower), output)?;
        terminal.follow(entered)?
    } else {
        let own = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().map_err(failed);
        let output =
            Stdio { stdout: own(std::io::stdout().as_fd())?, stderr: own(std::io::stderr().as_fd())? };
        let entered = enter(Input::Stream(own(std::io::stdin().as_fd())?), output)?;
        wait(entered, || {})?
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn failed(e: std::io::Error) -> Error {
    Error::world(format!("can't prepare the terminal: {e}"))
}

/// Wait for the command; signals that would end this process end the command, and are what the exit code tells
/// of then. `resized` is called when the terminal's size has changed.
fn wait(entered: Entered, mut resized: impl FnMut()) -> Result<i32, Error> {
    let killer = entered.killer().map_err(|e| Error::from(&e))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;
        let mut size = signal(SignalKind::window_change()).map_err(failed)?;
        let ended = par::blocking(move || entered.wait());
        tokio::pin!(ended);
        let mut told = None;
        loop {
            let ending = tokio::select! {
                code = &mut ended => {
                    return code.map(|code| told.map_or(code, |s: SignalKind| 128 + s.as_raw_value())).map_err(|e| Error::from(&e));
                }
                _ = terminate.recv() => SignalKind::terminate(),
                _ = interrupt.recv() => SignalKind::interrupt(),
                _ = hang_up.recv() => SignalKind::hangup(),
                _ = size.recv() => {
                    resized();
                    continue;
                }
            };
            told = Some(ending);
            killer.kill();
        }
    })
}

/// A pseudo-terminal for the command, joined to our own terminal.
struct Terminal {
    upper: OwnedFd,
    lower: OwnedFd,
}

/// Gives our own terminal its settings back.
struct Restore(Termios);

impl Drop for Restore {
    fn drop(&mut self) {
        // If the terminal is gone there is nothing to restore.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.0);
    }
}

impl Terminal {
    fn open() -> Result<Terminal, Error> {
        use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let made = || {
            let upper = openpt(flags)?;
            grantpt(&upper)?;
            unlockpt(&upper)?;
            let lower = ioctl_tiocgptpeer(&upper, flags)?;
            Ok::<_, rustix::io::Errno>(Terminal { upper, lower })
        };
        let terminal = made().map_err(|e| failed(e.into()))?;
        terminal.resize();
        Ok(terminal)
    }

    fn resize(&self) {
        copy_size(&self.upper);
    }

    /// Pass bytes on in both directions until the command ends.
    fn follow(self, entered: Entered) -> Result<i32, Error> {
        let Terminal { upper, lower } = self;
        drop(lower);
        let before = tcgetattr(std::io::stdin()).map_err(|e| failed(e.into()))?;
        let mut raw = before.clone();
        raw.make_raw();
        let restore = Restore(before);
        tcsetattr(std::io::stdin(), OptionalActions::Drain, &raw).map_err(|e| failed(e.into()))?;
        let to_step = File::from(upper.try_clone().map_err(failed)?);
        // Reads until this process ends: nothing can wake it from our terminal.
        std::thread::spawn(move || pass_on(std::io::stdin(), to_step));
        let from_step = File::from(upper.try_clone().map_err(failed)?);
        // Ends with EIO when the last process that has the lower end is dead.
        let output = std::thread::spawn(move || pass_on(from_step, std::io::stdout()));
        let code = wait(entered, || copy_size(&upper));
        let _ = output.join();
        drop(restore);
        code
    }
}

fn copy_size(upper: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(std::io::stdin()) {
        // A wrong size is ugly, not wrong.
        let _ = tcsetwinsize(upper, size);
    }
}

fn pass_on(mut from: impl Read, mut to: impl Write) {
    let mut buffer = [0; 8192];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => {
                if to.write_all(&buffer[..n]).and_then(|()| to.flush()).is_err() {
                    return;
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
