//! Snapshots beside a recipe: a text that somebody has reviewed, compared with what it would be now.

use super::fmt_diff;
use ctrbuild::Error;
use std::path::{Path, PathBuf};

/// What to do about a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Review {
    /// Show it; make the snapshot where there is none.
    Compare,
    /// Show it; a missing snapshot is one too.
    Check,
    /// Renew the snapshot.
    Accept,
}

impl Review {
    /// Of the flags `--accept` and `--check`.
    pub fn of(accept: bool, check: bool) -> Self {
        match (accept, check) {
            (true, _) => Review::Accept,
            (_, true) => Review::Check,
            _ => Review::Compare,
        }
    }
}

/// Compare or renew `RECIPE.suffix`. Whether it has drifted.
pub fn settle(recipe: &Path, suffix: &str, text: &str, review: Review) -> Result<bool, Error> {
    let mut file = recipe.as_os_str().to_owned();
    file.push(".");
    file.push(suffix);
    let file = PathBuf::from(file);
    let before = match std::fs::read(&file) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).replace("\r\n", "\n")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(Error::world(format!("can't read {}: {e}", file.display()))),
    };
    if before.as_deref() == Some(text) {
        return Ok(false);
    }
    if review == Review::Accept || (before.is_none() && review == Review::Compare) {
        std::fs::write(&file, text)
            .map_err(|e| Error::world(format!("can't write {}: {e}", file.display())))?;
        eprintln!("wrote {}", file.display());
        return Ok(false);
    }
    print!("{}", fmt_diff::unified(&file.display().to_string(), before.as_deref().unwrap_or_default(), text));
    match before {
        Some(_) => {
            eprintln!("{} has drifted: review the difference, then run again with --accept", file.display())
        }
        None => eprintln!("{} is missing: run with --accept and commit it", file.display()),
    }
    Ok(true)
}
