//! What the tests of this folder share: a client with short pauses, and a progress that counts.
#![allow(dead_code)]

use oci::Platform;
use registry::{
    Client, Config, Credential, Event, NoCredentials, Progress, Retries, StaticCredentials, Timeouts,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::TestImage;

pub fn config() -> Config {
    Config {
        timeouts: Timeouts {
            connect: Duration::from_secs(2),
            idle: Duration::from_secs(1),
            document: Duration::from_secs(3),
            accept: Duration::from_secs(2),
        },
        retries: Retries {
            attempts: 3,
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_secs(2),
        },
        ..Config::new(Arc::new(NoCredentials))
    }
}

pub fn client() -> Client {
    Client::new(config())
}

pub fn client_as(domain: &str, credential: Credential) -> Client {
    let known = StaticCredentials([(domain.to_string(), credential)].into());
    Client::new(Config { credentials: Arc::new(known), ..config() })
}

pub fn password(user: &str, password: &str) -> Credential {
    Credential::Password { user: user.into(), password: password.into() }
}

pub fn amd64() -> Platform {
    Platform::new("linux", "amd64")
}

/// Two layers, the second of about `size` bytes that do not compress.
pub fn image(size: usize) -> TestImage {
    let noise: Vec<u8> = (0..size as u64)
        .scan(1u64, |s, _| {
            *s ^= *s << 13;
            *s ^= *s >> 7;
            *s ^= *s << 17;
            Some(*s as u8)
        })
        .collect();
    testkit::image(&amd64(), &[&[("etc/hello", b"hello")], &[("data", &noise)]])
}

/// Counts bytes and remembers what happened to blobs.
#[derive(Default)]
pub struct Counter {
    pub bytes: AtomicU64,
    pub events: Mutex<Vec<String>>,
}

impl Progress for Counter {
    fn event(&self, event: Event<'_>) {
        let name = match event {
            Event::Bytes { count, .. } => {
                self.bytes.fetch_add(count, Ordering::Relaxed);
                return;
            }
            Event::Started { offset, .. } => format!("started {offset}"),
            Event::Retrying { .. } => "retrying".into(),
            Event::Present { .. } => "present".into(),
            Event::Mounted { from, .. } => format!("mounted {from}"),
            Event::Done { .. } => "done".into(),
            Event::Skipped { .. } => "skipped".into(),
        };
        self.events.lock().unwrap().push(name);
    }
}

impl Counter {
    pub fn seen(&self, name: &str) -> usize {
        self.events.lock().unwrap().iter().filter(|e| *e == name).count()
    }
}

/// An error and all its causes.
pub fn chain(e: &dyn std::error::Error) -> String {
    let mut out = e.to_string();
    let mut at = e.source();
    while let Some(c) = at {
        out.push_str(&format!(": {c}"));
        at = c.source();
    }
    out
}
