//! What goes wrong with remote sources, each with a hint kept apart from the message.
//!
//! Texts that come from a server or from git are cut and stripped of control characters; URLs lose their
//! user information and their query.

use crate::SecretError;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a source could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot fetch {url}: {failure}")]
    Http { url: String, failure: HttpFailure },
    #[error("digest mismatch for {url}: {actual} (expected: {expected})")]
    Checksum { url: String, expected: String, actual: String },
    #[error("invalid URL {url}: {reason}")]
    Url { url: String, reason: &'static str },
    #[error("{name:?} is no name for a downloaded file")]
    FileName { name: String },
    #[error("the git executable is missing")]
    NoGit,
    #[error("cannot {action} {remote}: {said}")]
    Git { action: &'static str, remote: String, said: String },
    #[error("git sent nothing for {seconds} s while it was to {action} {remote}")]
    GitStalled { action: &'static str, remote: String, seconds: u64 },
    #[error("repository {remote} does not contain ref {reference}")]
    NoRef { remote: String, reference: String },
    #[error("{remote}: expected checksum to match {expected}, got {actual}")]
    Commit { remote: String, expected: String, actual: String },
    #[error("git source {remote}: {reason}")]
    GitSource { remote: String, reason: String },
    #[error("invalid subdir {subdir:?} of {remote}: {reason}")]
    Subdir { remote: String, subdir: String, reason: &'static str },
    #[error("submodule {path:?} of {remote}: {reason}")]
    Submodule { remote: String, path: String, reason: String },
    #[error("{what} is neither an archive nor text")]
    NotAContext { what: String },
    #[error("{what} is larger than {limit} bytes")]
    TooLarge { what: String, limit: u64 },
    #[error("cannot unpack {what}")]
    Archive {
        what: String,
        #[source]
        source: layer::Error,
    },
    #[error("{0}")]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    #[error("cannot {action} `{}`", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{message}")]
    Setup { message: String, hint: Option<String> },
    #[error("internal error: {0}; please report this")]
    Internal(&'static str),
}

/// Why an HTTP request failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpFailure {
    #[error("cannot reach {host}: {source}")]
    Unreachable { host: String, source: Cause },
    #[error("the name {host} cannot be resolved")]
    UnknownHost { host: String, source: Cause },
    #[error("no secure connection to {host}: {source}")]
    Tls { host: String, source: Cause },
    #[error("the connection to {host} broke off")]
    Interrupted { host: String, source: Cause },
    #[error("{host} sent nothing for {seconds} s")]
    Stalled { host: String, seconds: u64 },
    #[error("{host} answered {status}")]
    Status { host: String, status: u16, retry_after: Option<Duration> },
    #[error("{host} redirects too many times")]
    Redirects { host: String },
    #[error("{host} redirects to {to}, {reason}")]
    Redirect { host: String, to: String, reason: &'static str },
}

impl HttpFailure {
    /// Whether the same request may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            HttpFailure::Unreachable { .. }
            | HttpFailure::Interrupted { .. }
            | HttpFailure::Stalled { .. } => true,
            HttpFailure::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502..=599),
            _ => false,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            HttpFailure::Unreachable { .. } => "check the URL, the network and the proxy settings".into(),
            HttpFailure::UnknownHost { .. } => "check the host name for spelling, and the network".into(),
            HttpFailure::Tls { .. } => {
                "if the server has an authority of its own, name its certificates with SSL_CERT_FILE".into()
            }
            HttpFailure::Status { host, status: 401 | 403 | 407, .. } => format!(
                "to authenticate, give the secret HTTP_AUTH_TOKEN_{name} or HTTP_AUTH_HEADER_{name}",
                name = host.split(':').next().unwrap_or(host)
            ),
            HttpFailure::Status { status: 404 | 410, .. } => "check the URL for spelling".into(),
            HttpFailure::Status { status, .. } if *status >= 500 => {
                "the server has a problem: try later".into()
            }
            HttpFailure::Stalled { .. } | HttpFailure::Interrupted { .. } => "try again".into(),
            HttpFailure::Redirect { .. } => {
                "name the final URL itself, or pin the content with --checksum where only TLS is given up"
                    .into()
            }
            _ => return None,
        })
    }
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::Http { failure, .. } => return failure.hint(),
            Error::Checksum { .. } => {
                "the file was changed, damaged or replaced; check it, then write its new checksum".into()
            }
            Error::Commit { .. } => "the ref was moved; check the change, then write its new commit".into(),
            Error::NoGit => "install git (on Debian: apt-get install git), or put it on PATH".into(),
            Error::Git { said, .. } => return git_hint(said).map(Into::into),
            Error::NoRef { .. } => "list what there is with `git ls-remote URL`".into(),
            Error::GitStalled { .. } => "check the network, and try again".into(),
            Error::NotAContext { .. } => {
                "give a tar, plain or packed with gzip, zstd, xz or bzip2, or the text of a Dockerfile".into()
            }
            Error::Archive { source, .. } => return source.hint().map(Into::into),
            Error::Secret(e) => return e.hint.clone(),
            Error::Store(e) => return e.hint().map(Into::into),
            Error::Sandbox(e) => return e.hint(),
            Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free space with `ctrbuild prune`, or place the store elsewhere with --root".into()
            }
            Error::Setup { hint, .. } => return hint.clone(),
            _ => return None,
        })
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = path.to_path_buf();
        move |source| Error::Io { action, path, source }
    }
}

fn git_hint(said: &str) -> Option<&'static str> {
    let has = |texts: &[&str]| texts.iter().any(|t| said.contains(t));
    if has(&["Host key verification failed"]) {
        return Some("add the host's key to ~/.ssh/known_hosts (ssh-keyscan shows it), after checking it");
    }
    if has(&["Permission denied (publickey"]) {
        return Some("start an ssh agent that holds the key, so that SSH_AUTH_SOCK is set");
    }
    if has(&[
        "could not read Username",
        "Authentication failed",
        "error: 401",
        "error: 403",
        "terminal prompts",
    ]) {
        return Some(
            "the repository may be private or misspelt; give the secret GIT_AUTH_TOKEN (or GIT_AUTH_HEADER)",
        );
    }
    if has(&["error: 301", "error: 302", "error: 307", "error: 308", "redirect"]) {
        return Some("the repository has moved; name its new URL");
    }
    if has(&["transport '"]) {
        return Some("only http, https, git and ssh are allowed");
    }
    None
}

/// A foreign text made fit for a message: one line, no control characters, at most 400 characters.
pub(crate) fn tame(text: &str) -> String {
    let bidi =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut out: String =
        text.trim().chars().map(|c| if c.is_control() || bidi(c) { ' ' } else { c }).take(400).collect();
    while out.contains("  ") {
        out = out.replace("  ", " ");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_texts_cannot_drive_the_terminal() {
        assert_eq!(tame("a\u{1b}[2J\r\nb\u{202e}c\n"), "a [2J b c");
        assert_eq!(tame(&"x".repeat(1000)).len(), 400);
    }
}
