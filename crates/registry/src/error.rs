//! What goes wrong between ctrbuild and a registry, each with a hint kept apart from the message.
//!
//! Texts that come from a registry are cut and stripped of control characters; URLs lose their user
//! information and their query, which may hold signatures.

use digest::{Digest, VerifyError};
use oci::{DocumentError, JsonError, SelectError};
use reqwest::{StatusCode, Url};
use std::io;
use std::time::Duration;

/// Why an operation on a registry failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot reach registry {host}")]
    Unreachable {
        host: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the name of registry {host} cannot be resolved")]
    UnknownHost {
        host: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("no secure connection to registry {host}")]
    Tls {
        host: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the connection to {host} broke off")]
    Interrupted {
        host: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    #[error("{host} sent nothing useful for {seconds} s")]
    Stalled { host: String, seconds: u64 },
    #[error("registry {host} refused the credentials of {user}")]
    Credentials { host: String, user: String },
    #[error("access to {what} on {host} was denied{}", said(.message))]
    Denied { host: String, what: String, message: String, login: Login },
    #[error("{reference} was not found{}", said(.message))]
    NotFound { reference: String, message: String },
    #[error("blob {digest} was not found in {repository}")]
    BlobNotFound { repository: String, digest: Digest },
    #[error("registry {host} limits the rate of requests{}", said(.message))]
    RateLimited { host: String, retry_after: Option<Duration>, message: String },
    #[error("registry {host} answered {status}{}", said(.message))]
    Status { host: String, status: StatusCode, message: String },
    #[error("registry {host} broke the protocol: {what}")]
    Protocol { host: String, what: String },
    #[error("{what} from {host} is not what was asked for")]
    Verify {
        host: String,
        what: String,
        #[source]
        source: VerifyError,
    },
    #[error("{what} is not acceptable")]
    Document {
        what: String,
        #[source]
        source: DocumentError,
    },
    #[error("the config of {what} is not acceptable")]
    Config {
        what: String,
        #[source]
        source: JsonError,
    },
    #[error("{reference}: {source}")]
    Platform { reference: String, source: SelectError },
    #[error("cannot store {digest}")]
    Sink {
        digest: Digest,
        #[source]
        source: io::Error,
    },
    #[error("cannot read {digest} to upload it")]
    Source {
        digest: Digest,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    CredentialStore(#[from] crate::CredentialError),
    #[error("cannot set up the network client: {what}")]
    Setup { what: String },
    #[error("internal error: {0} (please report this)")]
    Internal(String),
}

/// What a denied request had to show for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// It was anonymous: no credentials are known for the registry.
    Anonymous,
    /// The registry knew the user.
    Known,
    /// Credentials are known, but the registry names a token service on another host, which must not
    /// get them.
    Withheld,
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::Unreachable { .. } => "check the name, the network and the proxy settings".into(),
            Error::UnknownHost { .. } => "check the name for spelling, and the network".into(),
            Error::Tls { host, .. } => format!(
                "if the registry has a certificate of its own, put the authority into \
                 /etc/docker/certs.d/{host}/ca.crt; a plain HTTP registry must be configured as insecure"
            ),
            Error::Credentials { host, .. } => format!("log in again: ctrbuild login {host}"),
            Error::Denied { host, login, .. } => match login {
                Login::Anonymous => {
                    format!("the repository may be private or misspelt; to log in: ctrbuild login {host}")
                }
                Login::Known => "the user you are logged in as may not do this here".into(),
                Login::Withheld => {
                    "the registry names a token service on another host, which does not get your credentials \
                     unless it is configured as trusted"
                        .into()
                }
            },
            Error::NotFound { .. } => "check the repository and the tag for spelling".into(),
            Error::RateLimited { retry_after: Some(d), .. } => {
                format!("try again in {} s", d.as_secs().max(1))
            }
            Error::RateLimited { .. } => "try again later, or log in for a higher limit".into(),
            Error::Verify { .. } => "the content was damaged or replaced on its way: try again".into(),
            Error::Document { source, .. } => return source.hint().map(str::to_string),
            Error::Platform { .. } => "choose one of those platforms with --platform".into(),
            Error::CredentialStore(e) => return Some(e.hint().into()),
            Error::Stalled { .. } | Error::Interrupted { .. } => "try again: what arrived is kept".into(),
            Error::Status { host, status: StatusCode::BAD_REQUEST, .. } if crate::http::is_loopback(host) => {
                format!(
                    "if it speaks TLS, put its authority into /etc/docker/certs.d/{host}/ca.crt: loopback is \
                 otherwise reached by plain HTTP"
                )
            }
            Error::Status { status, .. } if status.is_server_error() => {
                "the registry has a problem: try later".into()
            }
            _ => return None,
        })
    }

    /// Whether the same request may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Unreachable { .. } | Error::Interrupted { .. } | Error::Stalled { .. } => true,
            Error::RateLimited { .. } => true,
            Error::Status { status, .. } => {
                status.is_server_error() && *status != StatusCode::NOT_IMPLEMENTED
            }
            _ => false,
        }
    }

    pub(crate) fn protocol(host: &str, what: impl Into<String>) -> Self {
        Error::Protocol { host: host.to_string(), what: what.into() }
    }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

/// A foreign text made fit for a message: one line, no control characters, at most 300 characters.
pub(crate) fn tame(text: &str) -> String {
    let mut out: String =
        text.chars().map(|c| if c.is_control() || is_bidi(c) { ' ' } else { c }).take(300).collect();
    while out.contains("  ") {
        out = out.replace("  ", " ");
    }
    out.trim().to_string()
}

/// Characters that reorder the text around them on a terminal.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A URL for messages: without user, password, query and fragment.
pub(crate) fn redact(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    tame(url.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_texts_cannot_drive_the_terminal() {
        assert_eq!(tame("a\u{1b}[2J\r\nb\u{202e}c"), "a [2J b c");
        assert_eq!(tame(&"x".repeat(1000)).len(), 300);
        let url = Url::parse("https://u:p@h/x?X-Amz-Signature=abc#f").unwrap();
        assert_eq!(redact(&url), "https://h/x");
    }
}
