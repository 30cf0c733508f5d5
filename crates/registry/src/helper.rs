//! Credential helpers: the protocol of docker-credential-helpers (a verb as argument, the server or JSON on
//! stdin, JSON on stdout). Secrets pass through pipes only.

use crate::credential::{Credential, CredentialError};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MAX_OUTPUT: u64 = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(120);
/// The user name that stands for a refresh token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
struct AnswerV1 {
    #[serde(rename = "Username", default)]
    username: String,
    #[serde(rename = "Secret", default)]
    secret: String,
}

#[derive(Serialize)]
struct StoreV1<'a> {
    #[serde(rename = "ServerURL")]
    server: &'a str,
    #[serde(rename = "Username")]
    username: &'a str,
    #[serde(rename = "Secret")]
    secret: &'a str,
}

/// Whether a helper's name can only mean a program `docker-credential-NAME` in a folder of PATH.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && !name.starts_with('-')
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
}

/// What the helper knows of a server.
pub(crate) fn get(name: &str, server: &str, dirs: &[PathBuf]) -> Result<Option<Credential>, CredentialError> {
    let out = match run(name, "get", server.as_bytes(), dirs)? {
        Outcome::Done(out) => out,
        Outcome::Unknown => return Ok(None),
    };
    let answer: AnswerV1 = serde_json::from_slice(&out).map_err(|_| CredentialError::Helper {
        name: name.to_string(),
        message: "its answer is no JSON".into(),
    })?;
    if answer.secret.is_empty() {
        return Ok(None);
    }
    Ok(Some(match answer.username.as_str() {
        TOKEN_USER => Credential::Identity { token: answer.secret },
        _ => Credential::Password { user: answer.username, password: answer.secret },
    }))
}

/// Hand a credential over to the helper.
pub(crate) fn store(
    name: &str,
    server: &str,
    c: &Credential,
    dirs: &[PathBuf],
) -> Result<(), CredentialError> {
    let (username, secret) = match c {
        Credential::Password { user, password } => (user.as_str(), password.as_str()),
        Credential::Identity { token } | Credential::Bearer { token } => (TOKEN_USER, token.as_str()),
    };
    let input = serde_json::to_vec(&StoreV1 { server, username, secret }).unwrap_or_default();
    run(name, "store", &input, dirs).map(|_| ())
}

/// Make the helper forget a server.
pub(crate) fn erase(name: &str, server: &str, dirs: &[PathBuf]) -> Result<(), CredentialError> {
    run(name, "erase", server.as_bytes(), dirs).map(|_| ())
}

enum Outcome {
    Done(Vec<u8>),
    /// The helper has nothing for that server.
    Unknown,
}

fn run(name: &str, verb: &str, input: &[u8], dirs: &[PathBuf]) -> Result<Outcome, CredentialError> {
    if !is_name(name) {
        return Err(CredentialError::HelperName(name.chars().take(100).collect()));
    }
    let program = format!("docker-credential-{name}");
    let found = dirs.iter().filter(|d| d.is_absolute()).map(|d| d.join(&program)).find(|p| p.is_file());
    let Some(path) = found else { return Err(CredentialError::HelperMissing(program)) };
    let failed = |message: String| CredentialError::Helper { name: program.clone(), message };
    let mut child = Command::new(path)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper may answer without reading.
        let _ = stdin.write_all(input);
    }
    let stdout = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut out = Vec::new();
        if let Some(s) = stdout {
            let _ = s.take(MAX_OUTPUT).read_to_end(&mut out);
        }
        out
    });
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < TIMEOUT => std::thread::sleep(Duration::from_millis(5)),
            result => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(result.err().map_or("it took too long".into(), |e| e.to_string())));
            }
        }
    };
    let out = reader.join().unwrap_or_default();
    if status.success() {
        return Ok(Outcome::Done(out));
    }
    let message = crate::error::tame(&String::from_utf8_lossy(&out));
    if message.contains("credentials not found") || message.contains("no credentials server URL") {
        return Ok(Outcome::Unknown);
    }
    Err(failed(if message.is_empty() { status.to_string() } else { message }))
}
