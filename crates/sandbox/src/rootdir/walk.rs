//! Component-wise path resolution below a root descriptor: one `openat(O_PATH | O_NOFOLLOW)` a component,
//! symlinks expanded by hand, `..` taken from the stack of folders walked through. It can't leave the root
//! whatever is renamed meanwhile, since no `..` and no symlink is ever resolved by the kernel. It serves where
//! `openat2` is missing or refused, and where missing components have to be made on the way.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

/// As many symlinks as the kernel follows in one path is 40; images in the wild have longer chains through `..`.
const MAX_LINKS: u32 = 255;

/// What to do with a symlink in the last place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Last {
    Follow,
    Keep,
}

/// What to do with a component that doesn't exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It has been made now: go on.
    Made,
    /// Fail with `ENOENT`.
    Fail,
    /// Keep it and the rest as names.
    Name,
}

/// A path as it has been walked.
pub struct Walked {
    root: OwnedFd,
    /// Folders from the root down, and the last file if it is none.
    stack: Vec<(OwnedFd, OsString)>,
    /// Names below that don't exist.
    missing: Vec<OsString>,
}

impl Walked {
    /// The last thing that exists.
    pub fn into_fd(mut self) -> OwnedFd {
        match self.stack.pop() {
            Some((fd, _)) => fd,
            None => self.root,
        }
    }

    /// Absolute path inside the root without symlinks.
    pub fn path(&self) -> PathBuf {
        let mut path = PathBuf::from("/");
        path.extend(self.stack.iter().map(|(_, name)| name));
        path.extend(&self.missing);
        path
    }
}

fn push_components(todo: &mut VecDeque<OsString>, path: &Path) {
    let parts: Vec<_> =
        path.as_os_str().as_bytes().split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").collect();
    for part in parts.into_iter().rev() {
        todo.push_front(OsStr::from_bytes(part).to_owned());
    }
}

/// Walks `path` below `root`. `missing(parent, parent's path, name, last?)` decides about names that aren't there.
pub fn walk(
    root: BorrowedFd<'_>,
    path: &Path,
    last: Last,
    mut missing: impl FnMut(BorrowedFd<'_>, &Path, &OsStr, bool) -> io::Result<Verdict>,
) -> io::Result<Walked> {
    let mut at = Walked { root: root.try_clone_to_owned()?, stack: Vec::new(), missing: Vec::new() };
    let mut todo = VecDeque::new();
    push_components(&mut todo, path);
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            if at.missing.pop().is_none() {
                at.stack.pop();
            }
            continue;
        }
        if !at.missing.is_empty() {
            at.missing.push(name);
            continue;
        }
        let is_last = todo.is_empty();
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = loop {
            let parent = at.stack.last().map_or(at.root.as_fd(), |(fd, _)| fd.as_fd());
            match rustix::fs::openat(parent, &name, flags, Mode::empty()) {
                Ok(fd) => break Some(fd),
                Err(rustix::io::Errno::NOENT) => match missing(parent, &at.path(), &name, is_last)? {
                    Verdict::Made => {}
                    Verdict::Fail => return Err(rustix::io::Errno::NOENT.into()),
                    Verdict::Name => break None,
                },
                Err(e) => return Err(e.into()),
            }
        };
        let Some(fd) = fd else {
            at.missing.push(name);
            continue;
        };
        let kind = FileType::from_raw_mode(rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH)?.st_mode);
        if kind.is_symlink() && !(is_last && last == Last::Keep) {
            links += 1;
            if links > MAX_LINKS {
                return Err(rustix::io::Errno::LOOP.into());
            }
            let target = rustix::fs::readlinkat(&fd, "", Vec::new())?.into_bytes();
            if target.is_empty() {
                return Err(rustix::io::Errno::NOENT.into());
            }
            if target[0] == b'/' {
                at.stack.clear();
            }
            push_components(&mut todo, Path::new(&OsString::from_vec(target)));
            continue;
        }
        if !is_last && !kind.is_dir() {
            return Err(rustix::io::Errno::NOTDIR.into());
        }
        at.stack.push((fd, name));
    }
    Ok(at)
}
