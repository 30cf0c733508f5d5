//! Moving the whole store to another folder: by one rename where that goes, else copied, synced, compared, switched
//! over and only then removed. [`store::Move`] says what holds if it is ended at any moment.

use crate::Error;
use layer::mirror::{self, Mirror};
use std::path::{Path, PathBuf};
use store::{LocalStore, Move};

/// How the store came to its new place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relocated {
    Renamed { to: PathBuf },
    Copied { to: PathBuf },
}

/// Move the store to `to`, which must not exist. `store` is of no use afterwards. Blocks for as long as it copies.
///
/// # Errors
/// Where it is in use, where `to` won't do, where copying fails or the copy turns out to be another: the store is then
/// where it was, and the new folder is gone.
pub fn relocate(store: &LocalStore, to: &Path) -> Result<Relocated, Error> {
    let mut moving = store.begin_move(to)?;
    let to = moving.to().to_path_buf();
    if moving.rename()? {
        return Ok(Relocated::Renamed { to });
    }
    match copy(&mut moving) {
        Ok(()) => moving.finish_copy()?,
        Err(e) => {
            moving.give_up()?;
            return Err(e);
        }
    }
    Ok(Relocated::Copied { to })
}

fn copy(moving: &mut Move) -> Result<(), Error> {
    moving.begin_copy()?;
    Mirror::default().copy(moving.from(), moving.to(), Move::is_taken_along).map_err(|e| {
        let full = e.is_no_space();
        let e = Error::from(e);
        if full { e.hint("choose a larger disk; the store is where it was") } else { e }
    })?;
    moving.sync()?;
    match mirror::difference(moving.from(), moving.to(), Move::is_taken_along)? {
        None => Ok(()),
        Some(path) => Err(Error::world(format!("the copy of {} is not equal to it", path.display()))
            .hint("check the new disk; the store was left where it is")),
    }
}
