//! `ctrbuild lsp`: the language server on standard input and output.
//!
//! One thread reads, so that a request can be cancelled while it waits; everything else is done by this one.

use crate::args::LspArgs;
use ctrbuild::Error;
use language_server::frame::{self, FrameError};
use language_server::{Entry, Host, Message, Queue, Server, message};
use serde_json::Value;
use std::io::{BufReader, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Largest file beside the recipes that is read: configuration and ignore files are small.
const MAX_FILE: u64 = 4 << 20;
/// Blocks of headers in a row that can't be read before it is given up.
const MAX_BROKEN: usize = 16;

/// The file system and the clock.
#[derive(Clone, Copy)]
struct Disk {
    start: Instant,
}

impl Host for Disk {
    fn read(&self, path: &Path) -> Option<String> {
        let metadata = std::fs::metadata(path).ok()?;
        if !metadata.is_file() || metadata.len() > MAX_FILE {
            return None;
        }
        std::fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn list(&self, folder: &Path) -> Vec<Entry> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                Some(Entry { name, folder: entry.path().is_dir() })
            })
            .collect()
    }

    fn exists(&self, path: &Path) -> bool {
        if path.ends_with(".git") { path.exists() } else { path.is_file() }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What the reading thread has to say.
enum Event {
    Body(Vec<u8>),
    Broken(FrameError),
    End,
}

pub fn run(_: &LspArgs) -> Result<ExitCode, Error> {
    let (sender, events) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(std::io::stdin());
        let mut broken = 0;
        loop {
            let event = match frame::read(&mut reader) {
                Ok(Some(body)) => {
                    broken = 0;
                    Event::Body(body)
                }
                Err(error @ FrameError::Header) if broken < MAX_BROKEN => {
                    broken += 1;
                    Event::Broken(error)
                }
                Ok(None) | Err(_) => Event::End,
            };
            let ends = matches!(event, Event::End);
            if sender.send(event).is_err() || ends {
                return;
            }
        }
    });
    serve(&events).map_err(|e| Error::world(format!("can't write to the client: {e}"))).map(ExitCode::from)
}

/// The conversation, up to its exit code.
fn serve(events: &Receiver<Event>) -> std::io::Result<u8> {
    let mut out = std::io::stdout().lock();
    let clock = Disk { start: Instant::now() };
    let mut server = Server::new(Box::new(clock));
    let mut queue = Queue::default();
    let mut ended = false;
    loop {
        while let Ok(event) = events.try_recv() {
            ended |= accept(event, &mut queue, &mut out)?;
        }
        if let Some(message) = queue.pop() {
            send(&mut out, server.handle(message))?;
            if let Some(code) = server.exit_code() {
                return Ok(code);
            }
            continue;
        }
        if ended {
            // A client that goes without a word is one that failed.
            return Ok(1);
        }
        let event = match server.deadline() {
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => events.recv_timeout(Duration::from_millis(due.saturating_sub(clock.now()))),
        };
        match event {
            Ok(event) => ended |= accept(event, &mut queue, &mut out)?,
            Err(RecvTimeoutError::Timeout) => send(&mut out, server.tick())?,
            Err(RecvTimeoutError::Disconnected) => ended = true,
        }
    }
}

/// Queues what came. Whether it was the end.
fn accept(event: Event, queue: &mut Queue, out: &mut impl Write) -> std::io::Result<bool> {
    let body = match event {
        Event::End => return Ok(true),
        Event::Broken(error) => {
            let failure = message::Failure::new(message::Failure::PARSE, error.to_string());
            send(out, vec![message::failed(&Value::Null, &failure)])?;
            return Ok(false);
        }
        Event::Body(body) => body,
    };
    match Message::read(&body) {
        Ok(message) => send(out, queue.push(message).into_iter().collect())?,
        Err(answer) => send(out, vec![answer])?,
    }
    Ok(false)
}

fn send(out: &mut impl Write, messages: Vec<Value>) -> std::io::Result<()> {
    messages.iter().try_for_each(|message| frame::write(out, &message.to_string()))
}
