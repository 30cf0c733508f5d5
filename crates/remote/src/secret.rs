//! Secrets that authenticate requests.

use crate::Error;
use std::sync::Arc;

/// A secret's bytes by its id.
pub trait Secrets: Send + Sync {
    /// `None` if there is no such secret. May block for a short while (a file is read).
    fn get(&self, id: &str) -> Result<Option<Vec<u8>>, SecretError>;
}

/// A secret that exists but cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SecretError {
    pub message: String,
    pub hint: Option<String>,
}

/// For builds without secrets.
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn get(&self, _: &str) -> Result<Option<Vec<u8>>, SecretError> {
        Ok(None)
    }
}

/// The first secret among `ids`: which one it was, and its text.
pub(crate) async fn first(
    secrets: &Arc<dyn Secrets>,
    ids: Vec<String>,
) -> Result<Option<(usize, String)>, Error> {
    let secrets = secrets.clone();
    par::blocking(move || {
        for (i, id) in ids.iter().enumerate() {
            let Some(bytes) = secrets.get(id)? else { continue };
            let text = String::from_utf8(bytes).map_err(|_| unusable(id))?;
            // Files end in a line end, header values must not have any.
            let text = text.trim_end_matches(['\r', '\n']);
            if text.is_empty() || text.chars().any(char::is_control) {
                return Err(unusable(id));
            }
            return Ok(Some((i, text.to_string())));
        }
        Ok(None)
    })
    .await
}

fn unusable(id: &str) -> Error {
    Error::Secret(SecretError {
        message: format!("secret {id} cannot be sent as a header"),
        hint: Some("it must be one line of text without control characters".into()),
    })
}
