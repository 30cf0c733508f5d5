//! Moving a store to another folder, and finding one that was moved.
//!
//! What is left at the old place is a folder with a `format` that tells the new one, so that nothing else has to know. On
//! one file system that folder and the store change places in one step. Elsewhere the caller copies: the new folder is
//! an unfinished copy, which nobody opens, until the old `format` is replaced; only after that the old files go.
//!
//! The collection lock is held exclusively from beginning to end. Whoever waited for it finds that the file has no
//! name any more, or another one, and gives up with [`Error::Moved`].
//!
//! Deliberately not here: copying files, which needs more than the store knows of them.

use crate::disk;
use crate::error::{Context, Error};
use crate::format::{FormatV1, Role};
use crate::local::furnish;
use crate::lock::{GcGuard, retry, try_lock};
use crate::{LocalStore, Result};
use rustix::fs::{CWD, RenameFlags};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Most moves that are followed from where a store once was.
const MOST: usize = 16;
/// End of the name that the new folder has until it is whole.
const NEW: &[u8] = b".ctrbuild-new";
/// What belongs to running processes and is not taken along.
const TRANSIENT: [&str; 6] = ["active", "tmp", "trash", "leases", "locks", "gc.lock"];

/// Where the store that is or was at `root` is now, and its format as far as there is one.
pub(crate) fn follow(root: &Path) -> Result<(PathBuf, Option<FormatV1>)> {
    let mut at = root.to_path_buf();
    for _ in 0..MOST {
        let Some(format) = FormatV1::read(&at)? else {
            return match at == root {
                true => Ok((at, None)),
                false => Err(Error::Lost { path: root.to_path_buf(), to: at }),
            };
        };
        match format.role() {
            Role::Store => return Ok((at, Some(format))),
            Role::CopyOf(of) => return Err(Error::Unfinished { path: at, of }),
            Role::MovedTo(to) => {
                clear(&at);
                finish_copy(&at, &to)?;
                at = to;
            }
        }
    }
    Err(Error::Lost { path: root.to_path_buf(), to: at })
}

/// A move that was ended by force after its decisive step: the copy is the store by now.
fn finish_copy(old: &Path, new: &Path) -> Result<()> {
    let unfinished = || -> Result<bool> {
        let role = FormatV1::read(new)?.map(|f| f.role());
        Ok(matches!(role, Some(Role::CopyOf(of)) if same_folder(&of, old)))
    };
    if !unfinished()? {
        return Ok(());
    }
    // Held by the mover as long as it lives, and by one at a time of those that come along afterwards.
    let path = new.join("gc.lock");
    let lock = disk::open_or_create(&path).at("create", &path)?;
    retry(|| lock.lock()).at("lock", &path)?;
    match unfinished()? {
        true => FormatV1::current().write(new),
        false => Ok(()),
    }
}

/// Remove what a move that was ended by force left behind, unless it is still at work. Failing leaves rubbish only.
fn clear(old: &Path) {
    let Ok(names) = disk::names(old) else { return };
    if !names.iter().any(|n| n == "gc.lock") {
        return;
    }
    let lock = File::open(old.join("gc.lock"));
    if lock.is_ok_and(|file| try_lock(&file).unwrap_or(false)) {
        let _ = remove_contents(old);
    }
}

/// Remove all but the format file, the collection lock at last.
fn remove_contents(old: &Path) -> Result<()> {
    for name in disk::names(old)?.into_iter().filter(|n| n != "format" && n != "gc.lock") {
        disk::remove_tree(&old.join(name))?;
    }
    disk::remove_file(&old.join("gc.lock")).map(drop)
}

fn same_folder(a: &Path, b: &Path) -> bool {
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// A store that is being moved. Nobody else uses it until this is dropped.
pub struct Move {
    /// Goes before the handle, whose lease looks for that lock when it goes.
    _guard: GcGuard,
    store: LocalStore,
    to: PathBuf,
    /// What was at the new place before: nothing, or what an earlier move of this store left there.
    place: Place,
    /// The collection lock of the copy: what is below it is not rubbish.
    new: Option<File>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Free,
    Forwarding,
}

impl LocalStore {
    /// Begin to move the store to `to`, which must not exist, or be a folder that this store was moved away from.
    ///
    /// # Errors
    /// [`Error::Busy`] where another process uses the store, [`Error::Place`] where `to` won't do.
    pub fn begin_move(&self, to: &Path) -> Result<Move> {
        self.check_writable()?;
        let wrong = |reason| Error::Place { to: to.to_path_buf(), reason };
        let to = std::path::absolute(to).at("find", to)?;
        let name = to.file_name().ok_or_else(|| wrong("it is no name of a folder"))?;
        let parent = to.parent().ok_or_else(|| wrong("it is no name of a folder"))?;
        let parent = fs::canonicalize(parent).map_err(|_| wrong("the folder above it does not exist"))?;
        let to = parent.join(name);
        if to == self.root() {
            return Err(wrong("it is there"));
        }
        if to.starts_with(self.root()) {
            return Err(wrong("it is inside of the store"));
        }
        let guard = self.exclusive()?;
        let Some(turn) = self.try_turn(&guard)? else {
            return Err(Error::Busy { path: self.root().to_path_buf() });
        };
        for path in self.reap(&guard)? {
            disk::remove_tree(&path)?;
        }
        drop(turn);
        let own = self.own_lease();
        if disk::names(&self.path("leases"))?.iter().any(|id| own.as_ref() != Some(id)) {
            return Err(Error::Busy { path: self.root().to_path_buf() });
        }
        let place = match fs::symlink_metadata(&to) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Place::Free,
            _ => match FormatV1::read(&to).ok().flatten().map(|f| f.role()) {
                Some(Role::CopyOf(of)) if same_folder(&of, self.root()) => {
                    disk::remove_tree(&to)?;
                    Place::Free
                }
                // Or it leads to itself: a move was cut off before it had done anything.
                Some(Role::MovedTo(at))
                    if disk::names(&to)?.iter().all(|n| n.starts_with("format"))
                        && (at == to || follow(&to).is_ok_and(|(at, _)| same_folder(&at, self.root()))) =>
                {
                    Place::Forwarding
                }
                _ => return Err(wrong("it exists")),
            },
        };
        Ok(Move { _guard: guard, store: self.clone(), to, place, new: None })
    }
}

impl Move {
    /// The new place, absolute.
    pub fn to(&self) -> &Path {
        &self.to
    }

    /// Let the store and the folder that stays behind change places. `Ok(false)` where the new place is on another
    /// file system, or this one can't do that; nothing happened then.
    pub fn rename(&self) -> Result<bool> {
        let root = self.store.root();
        let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).ok();
        let parents = root.parent().zip(self.to.parent());
        let one = device(root);
        if parents.is_none_or(|(a, b)| device(a) != one || device(b) != one) {
            return Ok(false);
        }
        if self.place == Place::Free {
            // Until the exchange it leads to itself, which is nowhere.
            make_folder(&self.to, &FormatV1::moved_to(&self.to))?;
        }
        if rustix::fs::renameat_with(CWD, root, CWD, &self.to, RenameFlags::EXCHANGE).is_err() {
            if self.place == Place::Free {
                disk::remove_tree(&self.to)?;
            }
            return Ok(false);
        }
        for parent in [root.parent(), self.to.parent()].into_iter().flatten() {
            disk::sync_dir(parent)?;
        }
        if self.place == Place::Forwarding {
            FormatV1::moved_to(&self.to).write(root)?;
        }
        Ok(true)
    }

    /// Where the store is until the copy is finished.
    pub fn from(&self) -> &Path {
        self.store.root()
    }

    /// Make the new folder as an unfinished copy. What is in [`Move::from`] and [`Move::is_taken_along`] is then to be
    /// copied there as it is.
    pub fn begin_copy(&mut self) -> Result<()> {
        if self.place == Place::Free {
            make_folder(&self.to, &FormatV1::copy_of(self.store.root()))?;
        }
        let path = self.to.join("gc.lock");
        let lock = disk::open_or_create(&path).at("create", &path)?;
        retry(|| lock.lock()).at("lock", &path)?;
        self.new = Some(lock);
        Ok(())
    }

    /// Whether a file or folder of this name, directly in the store's folder, belongs to what is moved.
    pub fn is_taken_along(name: &[u8]) -> bool {
        !TRANSIENT.iter().any(|t| t.as_bytes() == name) && !name.starts_with(b"format")
    }

    /// Give the new folder up again.
    pub fn give_up(self) -> Result<()> {
        match self.place {
            Place::Free => disk::remove_tree(&self.to),
            Place::Forwarding => remove_contents(&self.to),
        }
    }

    /// Make what is not taken along, and see to it that all is on the disk.
    pub fn sync(&self) -> Result<()> {
        furnish(&self.to)?;
        let dir = File::open(&self.to).at("open", &self.to)?;
        rustix::fs::syncfs(&dir).at("sync", &self.to)
    }

    /// Make the copy the store, and remove the old files. To be called once the copy is synced.
    pub fn finish_copy(self) -> Result<()> {
        let root = self.store.root();
        let away = FormatV1::moved_to(&self.to);
        match self.place {
            Place::Free => {
                away.write(root)?;
                FormatV1::current().write(&self.to)?;
            }
            // It leads here: were the old one changed first, they would lead to each other.
            Place::Forwarding => {
                FormatV1::current().write(&self.to)?;
                away.write(root)?;
            }
        }
        if let Some(parent) = self.to.parent() {
            disk::sync_dir(parent)?;
        }
        remove_contents(root)
    }
}

/// Make the new folder with what it is, both or neither: without a format nobody could tell whose it is.
fn make_folder(path: &Path, format: &FormatV1) -> Result<()> {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let fresh = path.with_file_name(OsStr::from_bytes(&[b".", name, NEW].concat()));
    // What is left of an attempt that was killed.
    if disk::names(&fresh).is_ok_and(|names| names.iter().all(|n| n.starts_with("format"))) {
        disk::remove_tree(&fresh)?;
    }
    fs::DirBuilder::new().mode(0o700).create(&fresh).at("create", &fresh)?;
    let made = format.write(&fresh).and_then(|()| {
        // That nothing is there was seen before; what came meanwhile is in the way, unless it is an empty folder.
        fs::rename(&fresh, path).at("create", path)
    });
    if made.is_err() {
        disk::remove_tree(&fresh)?;
    }
    made
}
