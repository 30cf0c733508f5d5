//! Folders as they are, mark for mark: copied elsewhere, compared, or made again out of links.
//!
//! Unlike [`crate::stack`] this knows nothing of layers: whiteouts, overlay's own attributes, devices and names of one
//! file are taken over as they stand. Used to move a store, and to keep files that are equal in several layers once.

use crate::Result;
use crate::error::Context;
use crate::fsat::{self, DIR};
use crate::stack::{copy_content, make_node};
use crate::unpack::{NEW_FILE, chown_fd, times};
use rayon::prelude::*;
use rustix::fd::OwnedFd;
use rustix::fs::{Advice, AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes that are compared at a time.
const PIECE: usize = 128 * 1024;
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// Copies one or more folders, which may share files by hard links.
#[derive(Debug, Default)]
pub struct Mirror {
    /// Copies of files that have several names, by device and number.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Mirror {
    /// Copy what is in `from`, as far as its names there are `wanted`, into the folder `to`, where nothing of that is
    /// yet. Nothing is synced.
    pub fn copy(&mut self, from: &Path, to: &Path, wanted: impl Fn(&[u8]) -> bool) -> Result<()> {
        let mut todo = vec![(from.to_path_buf(), to.to_path_buf())];
        let mut made = Vec::new();
        while let Some((from, to)) = todo.pop() {
            let (source, dest) = (open_dir(&from)?, open_dir(&to)?);
            let mut names = fsat::names(&source).at_path("list", &from)?;
            names.retain(|name| !made.is_empty() || wanted(name.as_bytes()));
            let (mut leaves, mut twins) = (Vec::new(), Vec::new());
            for name in names {
                let base = OsStr::from_bytes(name.as_bytes());
                let (path, copy) = (from.join(base), to.join(base));
                let stat = fsat::lstat(&source, name.as_bytes()).at_path("read", &path)?;
                if fsat::file_type(&stat).is_dir() {
                    rustix::fs::mkdirat(&dest, &name, Mode::from_raw_mode(0o700)).at_path("create", &copy)?;
                    todo.push((path, copy));
                } else if let Some(first) = self.twin(&stat, || copy.clone()) {
                    twins.push((name, first, copy));
                } else {
                    leaves.push((name, stat, path));
                }
            }
            leaves
                .into_par_iter()
                .try_for_each(|(name, stat, path)| copy_leaf(&source, &dest, &name, &stat, &path))?;
            for (name, first, copy) in twins {
                rustix::fs::linkat(CWD, &first, &dest, &name, AtFlags::empty()).at_path("link", &copy)?;
            }
            made.push((from, to));
        }
        // The time of a folder is the last thing, those further down first.
        made.iter().rev().try_for_each(|(from, to)| dir_metadata(&open_dir(from)?, &open_dir(to)?, from))
    }

    /// The copy of a file that has several names, if it was made already.
    fn twin(&mut self, stat: &Stat, here: impl FnOnce() -> PathBuf) -> Option<PathBuf> {
        if stat.st_nlink < 2 {
            return None;
        }
        match self.links.entry(inode(stat)) {
            std::collections::hash_map::Entry::Occupied(first) => Some(first.get().clone()),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(here());
                None
            }
        }
    }
}

/// Whether two folders hold the same of all that [`Mirror::copy`] takes over: a path that differs, if any does.
/// What `copy` wrote is read from the disk again, as far as the kernel lets go of it.
pub fn difference(from: &Path, copy: &Path, wanted: impl Fn(&[u8]) -> bool) -> Result<Option<PathBuf>> {
    let mut todo = vec![(from.to_path_buf(), copy.to_path_buf())];
    let mut top = true;
    while let Some((from, copy)) = todo.pop() {
        let (a, b) = (open_dir(&from)?, open_dir(&copy)?);
        let list = |dir| -> rustix::io::Result<Vec<CString>> {
            let mut names = fsat::names(dir)?;
            names.retain(|name| !top || wanted(name.as_bytes()));
            Ok(names)
        };
        let names = list(&a).at_path("list", &from)?;
        if names != list(&b).at_path("list", &copy)?
            || !top && !same_metadata(&a, &b).at_path("read", &from)?
        {
            return Ok(Some(from));
        }
        top = false;
        let mut leaves = Vec::new();
        for name in names {
            let base = OsStr::from_bytes(name.as_bytes());
            let path = from.join(base);
            let (left, right) = (fsat::lstat(&a, name.as_bytes()), fsat::lstat(&b, name.as_bytes()));
            let (left, right) = (left.at_path("read", &path)?, right.at_path("read", &path)?);
            match (fsat::file_type(&left).is_dir(), same_stat(&left, &right)) {
                (_, false) => return Ok(Some(path)),
                (true, true) => todo.push((path, copy.join(base))),
                (false, true) => leaves.push((name, fsat::file_type(&left), path)),
            }
        }
        let differs = |(name, kind, path): (CString, FileType, PathBuf)| -> Result<Option<PathBuf>> {
            let same = match kind {
                kind if kind.is_file() => same_files(&a, &b, name.as_bytes()).at_path("read", &path)?,
                kind if kind.is_symlink() => {
                    let read = |dir| rustix::fs::readlinkat(dir, &name, Vec::new());
                    read(&a).at_path("read", &path)? == read(&b).at_path("read", &path)?
                }
                _ => true,
            };
            Ok((!same).then_some(path))
        };
        if let Some(found) = leaves.into_par_iter().map(differs).find_map_any(Result::transpose) {
            return found.map(Some);
        }
    }
    Ok(None)
}

/// Calls `visit` with path and metadata of every regular file below `root` that has one name there and at least
/// `smallest` bytes.
pub fn single_files(root: &Path, smallest: u64, mut visit: impl FnMut(&[u8], &Stat)) -> Result<()> {
    let mut several: HashMap<(u64, u64), (u32, Vec<u8>, Stat)> = HashMap::new();
    let mut todo = vec![Vec::new()];
    while let Some(dir) = todo.pop() {
        let fd = open_dir(&root.join(OsStr::from_bytes(&dir)))?;
        for name in fsat::names(&fd).at("list", &dir)? {
            let path = fsat::join(&dir, name.as_bytes());
            let stat = fsat::lstat(&fd, name.as_bytes()).at("read", &path)?;
            match fsat::file_type(&stat) {
                kind if kind.is_dir() => todo.push(path),
                kind if kind.is_file() && u64::try_from(stat.st_size).is_ok_and(|n| n >= smallest) => {
                    match stat.st_nlink {
                        1 => visit(&path, &stat),
                        _ => several.entry(inode(&stat)).or_insert((0, path, stat)).0 += 1,
                    }
                }
                _ => {}
            }
        }
    }
    // Other names may be in other folders, where equal files were kept once before.
    several.values().filter(|(here, ..)| *here == 1).for_each(|(_, path, stat)| visit(path, stat));
    Ok(())
}

/// Whether the files `path` below two folders have the same owner, mode, time, attributes and content.
pub fn is_same_file(a: &Path, b: &Path, path: &[u8]) -> Result<bool> {
    let (parent, name) = fsat::split(path);
    let (a, b) = (open_dir(a)?, open_dir(b)?);
    let (a, b) = (fsat::open_beneath(&a, parent), fsat::open_beneath(&b, parent));
    let (a, b) = (a.at("open", path)?, b.at("open", path)?);
    let (left, right) = (fsat::lstat(&a, name).at("read", path)?, fsat::lstat(&b, name).at("read", path)?);
    let files = [&left, &right].iter().all(|s| fsat::file_type(s).is_file());
    Ok(files && same_stat(&left, &right) && same_files(&a, &b, name).at("read", path)?)
}

/// Make `from` again in the empty folder `to`, out of new folders and hard links: to its own files, and for the paths of
/// `instead` to those of the folders given there. Returns for how many of these that could be done.
pub fn link(from: &Path, to: &Path, instead: &HashMap<Vec<u8>, PathBuf>) -> Result<u64> {
    let mut todo = vec![Vec::new()];
    let mut made = Vec::new();
    let mut replaced = 0;
    while let Some(at) = todo.pop() {
        let here = OsStr::from_bytes(&at);
        let (source, dest) = (open_dir(&from.join(here))?, open_dir(&to.join(here))?);
        for name in fsat::names(&source).at("list", &at)? {
            let path = fsat::join(&at, name.as_bytes());
            let stat = fsat::lstat(&source, name.as_bytes()).at("read", &path)?;
            if fsat::file_type(&stat).is_dir() {
                rustix::fs::mkdirat(&dest, &name, Mode::from_raw_mode(0o700)).at("create", &path)?;
                todo.push(path);
                continue;
            }
            if let Some(other) = instead.get(&path) {
                let other = other.join(OsStr::from_bytes(&path));
                match rustix::fs::linkat(CWD, &other, &dest, &name, AtFlags::empty()) {
                    Ok(()) => {
                        replaced += 1;
                        continue;
                    }
                    // As many names as the file system allows, or gone meanwhile: it keeps its own.
                    Err(Errno::MLINK | Errno::NOENT) => {}
                    Err(e) => return Err(e).at("link", &path),
                }
            }
            rustix::fs::linkat(&source, &name, &dest, &name, AtFlags::empty()).at("link", &path)?;
        }
        made.push(at);
    }
    for at in made.iter().rev() {
        let (from, to) = (from.join(OsStr::from_bytes(at)), to.join(OsStr::from_bytes(at)));
        dir_metadata(&open_dir(&from)?, &open_dir(&to)?, &from)?;
    }
    Ok(replaced)
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    fsat::open(path, DIR, Mode::empty()).at_path("open", path)
}

fn inode(stat: &Stat) -> (u64, u64) {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
    (stat.st_dev as u64, stat.st_ino as u64)
}

fn copy_leaf(source: &OwnedFd, dest: &OwnedFd, name: &CString, stat: &Stat, from: &Path) -> Result<()> {
    if !fsat::file_type(stat).is_file() {
        return make_node(dest, name.as_bytes(), stat, from, from.as_os_str().as_bytes());
    }
    let file = fsat::openat(source, name, FILE, Mode::empty()).at_path("open", from)?;
    let copy = fsat::openat(dest, name, NEW_FILE, Mode::from_raw_mode(0o600)).at_path("create", from)?;
    copy_content(&file, &copy, stat).at_path("copy", from)?;
    metadata(&file, &copy, stat, from)
}

fn dir_metadata(source: &OwnedFd, dest: &OwnedFd, from: &Path) -> Result<()> {
    let stat = rustix::fs::fstat(source).at_path("read", from)?;
    metadata(source, dest, &stat, from)
}

/// In this order: changing the owner clears setuid and capabilities, everything else changes the time.
fn metadata(source: &OwnedFd, dest: &OwnedFd, stat: &Stat, from: &Path) -> Result<()> {
    chown_fd(dest, stat.st_uid, stat.st_gid).at_path("chown", from)?;
    rustix::fs::fchmod(dest, Mode::from_raw_mode(stat.st_mode & 0o7777)).at_path("chmod", from)?;
    for (name, value) in attributes(source).at_path("read", from)? {
        fsat::set_xattr(dest, &name, &value).at_path("set an attribute of", from)?;
    }
    rustix::fs::futimens(dest, &times(fsat::mtime(stat))).at_path("set the time of", from)
}

/// All attributes, sorted, but for labels that the machine gives by itself.
fn attributes(fd: &OwnedFd) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut out = Vec::new();
    for name in fsat::list_xattrs(fd)? {
        if name == b"security.selinux" || name.starts_with(b"security.SMACK64") {
            continue;
        }
        if let Ok(text) = std::str::from_utf8(&name)
            && let Some(value) = fsat::get_xattr(fd, text)?
        {
            out.push((name, value));
        }
    }
    out.sort_unstable();
    Ok(out)
}

fn same_metadata(a: &OwnedFd, b: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(same_stat(&rustix::fs::fstat(a)?, &rustix::fs::fstat(b)?) && attributes(a)? == attributes(b)?)
}

/// Kind, mode, owner, time, device, and for all but folders the size.
fn same_stat(a: &Stat, b: &Stat) -> bool {
    let key = |s: &Stat| (s.st_mode, s.st_uid, s.st_gid, fsat::mtime(s), s.st_rdev);
    key(a) == key(b) && (fsat::file_type(a).is_dir() || a.st_size == b.st_size)
}

fn same_files(a: &OwnedFd, b: &OwnedFd, name: &[u8]) -> rustix::io::Result<bool> {
    let open = |dir| fsat::openat(dir, name, FILE, Mode::empty());
    let (a, b) = (open(a)?, open(b)?);
    if attributes(&a)? != attributes(&b)? {
        return Ok(false);
    }
    // Advice only.
    let _ = rustix::fs::fadvise(&b, 0, None, Advice::DontNeed);
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    let mut at = 0;
    loop {
        let n = read_full(&a, &mut left, at)?;
        let m = read_full(&b, &mut right, at)?;
        if left[..n] != right[..m] {
            return Ok(false);
        }
        if n < PIECE {
            return Ok(true);
        }
        at += n as u64;
    }
}

/// As many bytes as there are, up to the length of `buffer`.
fn read_full(file: &OwnedFd, buffer: &mut [u8], at: u64) -> rustix::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(file, &mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
