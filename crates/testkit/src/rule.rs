//! How a test registry misbehaves.

use std::time::Duration;

/// What to do to matching requests, and how often.
#[derive(Debug, Clone)]
pub struct Rule {
    /// `GET`; empty for any.
    pub method: String,
    /// A part of the path and query.
    pub path: String,
    /// How many requests it hits; then it is used up.
    pub times: usize,
    /// How many matching requests pass before.
    pub after: usize,
    pub action: Action,
}

/// A misbehaviour.
#[derive(Debug, Clone)]
pub enum Action {
    /// Answer this instead.
    Answer { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    /// Close the connection without an answer (the request's body is not read).
    Hang,
    /// Never answer, keep the connection open.
    Silence,
    /// Announce the whole body, send that many bytes, close.
    CutAfter(usize),
    /// Flip a bit of the body's byte at that position.
    Corrupt(usize),
    /// Append bytes, and announce them.
    Extra(Vec<u8>),
    /// Send the body in pieces of that size with pauses between.
    Slow { piece: usize, pause: Duration },
    /// Answer a range request with the whole body.
    IgnoreRange,
    /// Overwrite or add headers of the true answer.
    Headers(Vec<(String, String)>),
}

impl Rule {
    pub fn new(method: &str, path: &str, action: Action) -> Self {
        Rule { method: method.into(), path: path.into(), times: usize::MAX, after: 0, action }
    }
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }
    pub fn after(mut self, after: usize) -> Self {
        self.after = after;
        self
    }
    /// A bare status.
    pub fn status(method: &str, path: &str, status: u16) -> Self {
        Self::new(method, path, Action::Answer { status, headers: Vec::new(), body: Vec::new() })
    }
    /// A redirect.
    pub fn redirect(method: &str, path: &str, to: &str) -> Self {
        let headers = vec![("location".to_string(), to.to_string())];
        Self::new(method, path, Action::Answer { status: 307, headers, body: Vec::new() })
    }
}
