//! SIGINT and SIGTERM, from the first work that is waited for to the end of the process.
//!
//! One thread listens for all of it. Were there a listener for each piece of work, a signal between two of them, or
//! between the making of the handler and that of the listener, would be lost, and the process would go on.

use ctrbuild::Error;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How many signals there were, and the last one.
type Heard = watch::Receiver<(u64, Option<SignalKind>)>;

/// Whether work was dropped for a signal; then another one ends the process at once.
static DROPPED: AtomicBool = AtomicBool::new(false);

/// Begins to listen where nobody did. To be called before there is any other runtime, which could take a signal between the
/// making of the handler and that of its listener.
fn listener() -> Result<Heard, Error> {
    static LISTENER: OnceLock<Result<Heard, String>> = OnceLock::new();
    let listener = LISTENER.get_or_init(|| listen().map_err(|e| format!("can't listen for signals: {e}")));
    listener.clone().map_err(Error::world)
}

/// Signals since the start, for one who waits for them.
pub struct Signals {
    heard: Heard,
    seen: u64,
}

pub fn signals() -> Result<Signals, Error> {
    Ok(Signals { heard: listener()?, seen: 0 })
}

impl Signals {
    /// Wait for one that was not given out yet. Of several that came at once it is the last.
    pub async fn next(&mut self) -> SignalKind {
        loop {
            let (count, last) = *self.heard.borrow_and_update();
            if let Some(signal) = last.filter(|_| count > self.seen) {
                self.seen = count;
                return signal;
            }
            if self.heard.changed().await.is_err() {
                // The listener is gone, which it never is while the process lives.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// From now on somebody who is in a hurry may ask twice.
pub fn dropped() {
    DROPPED.store(true, Ordering::Relaxed);
}

/// The exit code of this process, if work was dropped for a signal.
pub fn ended_by() -> Option<u8> {
    let last = || listener().ok()?.borrow().1;
    DROPPED.load(Ordering::Relaxed).then(last).flatten().map(exit_code)
}

/// The exit code of a process that a signal ended, as shells tell it.
pub fn exit_code(signal: SignalKind) -> u8 {
    u8::try_from(128 + signal.as_raw_value()).unwrap_or(1)
}

/// Returns once handlers are in place.
fn listen() -> std::io::Result<Heard> {
    let (tell, heard) = watch::channel((0, None));
    let (ready, is_ready) = mpsc::channel();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().build() {
            Ok(runtime) => runtime,
            Err(e) => return drop(ready.send(Err(e))),
        };
        runtime.block_on(async move {
            let both = signal(SignalKind::interrupt())
                .and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?)));
            let (mut interrupt, mut terminate) = match both {
                Ok(both) => both,
                Err(e) => return drop(ready.send(Err(e))),
            };
            let _ = ready.send(Ok(()));
            loop {
                let signal = tokio::select! {
                    _ = interrupt.recv() => SignalKind::interrupt(),
                    _ = terminate.recv() => SignalKind::terminate(),
                };
                if DROPPED.load(Ordering::Relaxed) {
                    std::process::exit(i32::from(exit_code(signal)));
                }
                tell.send_modify(|(count, last)| (*count, *last) = (*count + 1, Some(signal)));
            }
        });
    })?;
    match is_ready.recv() {
        Ok(outcome) => outcome.map(|()| heard),
        Err(_) => Err(std::io::Error::other("the thread for signals ended")),
    }
}
