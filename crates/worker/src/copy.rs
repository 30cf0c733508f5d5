//! Copying a selection into a root file system, by the rules of BuildKit's file op (fsutil's copy).
//!
//! - A destination that ends in `/`, `/.` or that is a folder takes sources inside; else it is the name.
//! - Missing parents are made 0755 (or with an octal `--chmod`), owned by root or the `--chown` owner.
//! - An existing destination folder keeps its metadata; folders below it take the source's.
//! - Symlinks on the way to the destination are followed inside the root, those below are not.
//!
//! Invariant: every path goes through [`RootDir`]; nothing outside of it can be touched.

use crate::hash;
use crate::select::{Entry, Kind, Selected, Stamp, Tree};
use dockerfile::chmod::SymbolicMode;
use rustix::fs::{FileType, Timespec, Timestamps};
use sandbox::RootDir;
use solver::ErrorKind;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// How the copies look.
#[derive(Debug, Clone, Default)]
pub struct Style {
    /// Owner of everything that is copied or made; `None` keeps the source's.
    pub owner: Option<(u32, u32)>,
    pub mode: ModeChange,
    /// Modification time of everything that is copied, in seconds since 1970; `None` keeps the source's.
    pub time: Option<i64>,
}

/// What happens to permission bits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ModeChange {
    #[default]
    Keep,
    Octal(u32),
    Symbolic(SymbolicMode),
}

impl ModeChange {
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            ModeChange::Keep => mode,
            ModeChange::Octal(m) => *m,
            ModeChange::Symbolic(s) => s.apply(mode, is_dir),
        }
    }
    /// Permission bits of parents that have to be made.
    fn for_parents(&self) -> u32 {
        match self {
            ModeChange::Octal(m) => m & 0o777,
            _ => 0o755,
        }
    }
}

/// An error of the sandbox with its causes, and a hint.
pub(crate) fn io(e: sandbox::Error) -> ErrorKind {
    let mut message = e.to_string();
    let mut invalid = false;
    let mut cause = std::error::Error::source(&e);
    while let Some(c) = cause {
        let number = c.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        invalid |= number == Some(rustix::io::Errno::INVAL.raw_os_error());
        message.push_str(&format!(": {c}"));
        cause = c.source();
    }
    // What the kernel says about ids that are not mapped.
    let hint = e.hint().or_else(|| (invalid && sandbox::userns::single_id()).then(|| ONE_ID.to_string()));
    ErrorKind::Other { message, hint }
}

/// Said where owners and users can't be had.
pub(crate) const ONE_ID: &str = "there is only one user id, 0: this user has no ranges in /etc/subuid and /etc/subgid, so that \
     nothing can belong to others and no step can be another user; as root: usermod --add-subuids 100000-165535 \
     --add-subgids 100000-165535 USER, and apt-get install uidmap";

/// A destination root.
pub struct Target<'a> {
    pub root: &'a RootDir,
    pub style: &'a Style,
}

impl Target<'_> {
    /// Copy one match to `dest` (absolute; a trailing `/` or `/.` marks a folder).
    pub fn copy(&self, tree: &Tree, selected: &Selected, dest: &str) -> Result<(), ErrorKind> {
        let dest = self.prepare(selected.root().kind == Kind::Dir, &selected.name, dest)?;
        let mut made_files: Vec<Option<PathBuf>> = vec![None; selected.entries.len()];
        // Folders get their metadata after their contents, or writing into them would spoil the times.
        let mut open_dirs: Vec<(&Entry, PathBuf, Finish)> = Vec::new();
        for (i, entry) in selected.entries.iter().enumerate() {
            while let Some((dir, _, _)) = open_dirs.last()
                && !entry.rel.starts_with(&dir.rel)
            {
                self.close_dir(open_dirs.pop())?;
            }
            let to = if entry.rel.as_os_str().is_empty() { dest.clone() } else { dest.join(&entry.rel) };
            if entry.kind == Kind::Dir {
                let finish = self.open_dir(entry, &to)?;
                open_dirs.push((entry, to, finish));
                continue;
            }
            if entry.implied {
                continue;
            }
            self.clear_for_file(&to)?;
            let linked = entry.hard_link.and_then(|first| made_files[first].clone());
            match linked {
                Some(first) => self.root.link(first, &to).map_err(io)?,
                None => {
                    self.make(tree, entry, &to)?;
                    self.finish(entry, &to)?;
                }
            }
            made_files[i] = Some(to);
        }
        while !open_dirs.is_empty() {
            self.close_dir(open_dirs.pop())?;
        }
        Ok(())
    }

    /// Write a file that has no source in a tree.
    pub fn write_file(&self, name: &str, data: &[u8], mode: u32, dest: &str) -> Result<(), ErrorKind> {
        let to = self.prepare(false, name.as_ref(), dest)?;
        self.clear_for_file(&to)?;
        let fd = self.root.create_file(&to, mode).map_err(io)?;
        File::from(fd).write_all(data).map_err(|e| write_failed(&to, &e))?;
        let (uid, gid) = self.style.owner.unwrap_or((0, 0));
        self.root.chown(&to, uid, gid).map_err(io)?;
        self.root.chmod(&to, self.style.mode.apply(mode, false)).map_err(io)
    }

    /// Make what must exist before the copy; the real path that the source becomes.
    fn prepare(&self, source_is_dir: bool, name: &std::ffi::OsStr, dest: &str) -> Result<PathBuf, ErrorKind> {
        let clean = crate::select::clean(dest);
        let marks_folder = dest.ends_with('/') || dest.ends_with("/.");
        let parent = match (marks_folder, clean.rsplit_once('/')) {
            (false, Some((parent, _))) if !parent.is_empty() => parent,
            (false, _) => "/",
            (true, _) => &clean,
        };
        self.make_dirs(Path::new(parent))?;
        let mut to = self.root.resolve(&clean).map_err(io)?;
        let existing = self.stat(&to)?.map(|m| FileType::from_raw_mode(m).is_dir());
        if !source_is_dir && existing == Some(true) {
            to = to.join(name);
        }
        let folder = if source_is_dir && existing.is_none() { Some(to.as_path()) } else { to.parent() };
        if let Some(folder) = folder {
            self.make_dirs(folder)?;
        }
        Ok(to)
    }

    fn make_dirs(&self, path: &Path) -> Result<(), ErrorKind> {
        self.root.mkdir_all(path, self.style.mode.for_parents(), self.style.owner).map_err(io)?;
        Ok(())
    }

    /// The mode of what is at `path` itself.
    fn stat(&self, path: &Path) -> Result<Option<u32>, ErrorKind> {
        match self.root.symlink_metadata(path) {
            Ok(stat) => Ok(Some(stat.st_mode)),
            Err(e) if crate::is_missing(&e) => Ok(None),
            Err(e) => Err(io(e)),
        }
    }

    fn open_dir(&self, entry: &Entry, to: &Path) -> Result<Finish, ErrorKind> {
        let is_root = entry.rel.as_os_str().is_empty();
        match self.stat(to)? {
            None => {
                // Writable while it is filled; the real mode comes last.
                self.root.mkdir(to, 0o700).map_err(io)?;
                Ok(Finish::Metadata)
            }
            Some(mode) if !FileType::from_raw_mode(mode).is_dir() => {
                Err(ErrorKind::other(format!("cannot copy to non-directory: {}", to.display())))
            }
            Some(_) if is_root => Ok(Finish::Nothing),
            // As BuildKit: a parent that is there already takes the source's mode, but not its owner.
            Some(_) if entry.implied => Ok(Finish::Mode),
            Some(_) => Ok(Finish::Metadata),
        }
    }

    fn close_dir(&self, dir: Option<(&Entry, PathBuf, Finish)>) -> Result<(), ErrorKind> {
        match dir {
            Some((entry, to, Finish::Metadata)) => self.finish(entry, &to),
            Some((entry, to, Finish::Mode)) => self.root.chmod(to, entry.mode).map_err(io),
            _ => Ok(()),
        }
    }

    /// A file may replace anything but a folder.
    fn clear_for_file(&self, to: &Path) -> Result<(), ErrorKind> {
        match self.stat(to)? {
            None => Ok(()),
            Some(mode) if FileType::from_raw_mode(mode).is_dir() => Err(ErrorKind::with_hint(
                format!("cannot replace to directory {} with file", to.display()),
                "end the destination with / to copy into the folder, or remove the folder in a RUN step first",
            )),
            Some(_) => self.root.remove_file(to).map_err(io),
        }
    }

    fn make(&self, tree: &Tree, entry: &Entry, to: &Path) -> Result<(), ErrorKind> {
        match &entry.kind {
            Kind::File => self.copy_content(tree, entry, to),
            Kind::Symlink(text) => self.root.symlink(Path::new(text), to).map_err(io),
            Kind::Fifo => self.root.mknod(to, FileType::Fifo, entry.mode, 0).map_err(io),
            Kind::Socket => self.root.mknod(to, FileType::Socket, entry.mode, 0).map_err(io),
            // As in BuildKit, a copied block device is a character device.
            Kind::Device { block: _, rdev } => {
                self.root.mknod(to, FileType::CharacterDevice, entry.mode, *rdev).map_err(io)
            }
            Kind::Dir => Ok(()),
        }
    }

    fn copy_content(&self, tree: &Tree, entry: &Entry, to: &Path) -> Result<(), ErrorKind> {
        let fd = self.root.create_file(to, 0o600).map_err(io)?;
        if entry.size == 0 {
            return Ok(());
        }
        let mut from = hash::open(tree, entry)?;
        let mut out = File::from(fd);
        // In the kernel where it can (copy_file_range shares blocks on file systems that know how).
        let copied = std::io::copy(&mut from, &mut out).map_err(|e| write_failed(to, &e))?;
        if copied != entry.size {
            return Err(ErrorKind::other(format!(
                "{} was changed while it was copied",
                entry.path.display()
            )));
        }
        hash::unchanged(&from, entry)
    }

    /// Owner, mode, attributes and times.
    fn finish(&self, entry: &Entry, to: &Path) -> Result<(), ErrorKind> {
        let (uid, gid) = self.style.owner.unwrap_or((entry.uid, entry.gid));
        self.root.chown(to, uid, gid).map_err(io)?;
        if !matches!(entry.kind, Kind::Symlink(_)) {
            let mode = self.style.mode.apply(entry.mode, entry.kind == Kind::Dir);
            self.root.chmod(to, mode).map_err(io)?;
        }
        for (name, value) in &entry.xattrs {
            // As BuildKit: an attribute that this file system or this user can't set is left out.
            let _ = self.root.set_xattr(to, name, value);
        }
        let mut stamp = entry.stamp;
        if let Some(time) = self.style.time {
            (stamp.atime, stamp.mtime) = ((time, 0), (time, 0));
        }
        self.root.set_times(to, &times(&stamp)).map_err(io)
    }
}

enum Finish {
    Metadata,
    Mode,
    Nothing,
}

fn times(stamp: &Stamp) -> Timestamps {
    let spec = |(sec, nsec): (i64, i64)| Timespec { tv_sec: sec, tv_nsec: nsec as _ };
    Timestamps { last_access: spec(stamp.atime), last_modification: spec(stamp.mtime) }
}

fn write_failed(to: &Path, e: &std::io::Error) -> ErrorKind {
    let message = format!("can't write {}: {e}", to.display());
    match e.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::with_hint(
            message,
            "free space with `ctrbuild prune`, or place the store elsewhere with --root",
        ),
        _ => ErrorKind::other(message),
    }
}
