//! A command that people sit at: streams, terminal and signals.

use ctrbuild::Error;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use sandbox::{Input, Killer, Stdio};
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

fn failed(e: std::io::Error) -> Error {
    Error::world(format!("can't prepare the terminal: {e}"))
}

/// A command that runs.
pub struct Attached<T> {
    pub killer: Killer,
    /// Waits for its end.
    pub ended: Box<dyn FnOnce() -> Result<T, Error> + Send>,
}

/// Whether people sit at both ends.
pub fn at_a_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Start a command with our own streams, or on a terminal of its own that is joined to ours, and wait for it. What it
/// came to, and the signal that we were ended by, which was passed on.
pub fn attach<T: Send + 'static>(
    terminal: bool,
    start: impl FnOnce(Input, Stdio) -> Result<Attached<T>, Error>,
) -> Result<(T, Option<SignalKind>), Error> {
    if terminal {
        let terminal = Terminal::open()?;
        let lower = terminal.lower.try_clone().map_err(failed)?;
        let output = Stdio::merged(lower.try_clone().map_err(failed)?).map_err(failed)?;
        let attached = start(Input::Terminal(lower), output)?;
        return terminal.follow(attached);
    }
    let own = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().map_err(failed);
    let output = Stdio { stdout: own(std::io::stdout().as_fd())?, stderr: own(std::io::stderr().as_fd())? };
    let attached = start(Input::Stream(own(std::io::stdin().as_fd())?), output)?;
    wait(attached, || {})
}

/// The exit code of a command, or of the signal that ended us.
pub fn exit_code(code: i32, signal: Option<SignalKind>) -> ExitCode {
    let code = signal.map_or(code, |s| 128 + s.as_raw_value());
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Wait for the command; signals that would end this process end the command. `resized` is called when the terminal's
/// size has changed.
fn wait<T: Send + 'static>(
    attached: Attached<T>,
    mut resized: impl FnMut(),
) -> Result<(T, Option<SignalKind>), Error> {
    let Attached { killer, ended } = attached;
    // Also one that came while the command was prepared.
    let mut signals = super::interrupt::signals()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;
        let mut size = signal(SignalKind::window_change()).map_err(failed)?;
        let ended = par::blocking(ended);
        tokio::pin!(ended);
        let mut told = None;
        loop {
            let ending = tokio::select! {
                done = &mut ended => return done.map(|done| (done, told)),
                asked = signals.next() => asked,
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
    fn follow<T: Send + 'static>(self, attached: Attached<T>) -> Result<(T, Option<SignalKind>), Error> {
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
        let code = wait(attached, || copy_size(&upper));
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
