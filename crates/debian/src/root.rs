//! The new root, seen only through a handle: every path is resolved inside it by the kernel
//! (openat2(2), `RESOLVE_IN_ROOT`), so no link of a package can lead out of it.
//!
//! Paths are bytes relative to the root without `.` and `..`; [`clean`] makes them.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::ffi::{CString, OsStr};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A folder that nothing gets out of.
#[derive(Debug)]
pub(crate) struct Root {
    handle: OwnedFd,
    path: PathBuf,
}

/// A path inside a root: no leading `/` or `./`, no `..`, no NUL; empty is the root itself.
pub(crate) fn clean(path: &[u8]) -> Option<Vec<u8>> {
    if path.contains(&0) || path.len() > 4096 {
        return None;
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return None,
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(n) => (&path[..n], &path[n + 1..]),
        None => (b"", path),
    }
}

fn c(path: &[u8]) -> io::Result<CString> {
    CString::new(if path.is_empty() { b"." } else { path }).map_err(io::Error::from)
}

/// Seconds since 1970 as both times of a file.
pub(crate) fn times(seconds: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Is shown a file: its folder, name and status, and its path.
pub(crate) type See<'a> = dyn FnMut(BorrowedFd<'_>, &CString, &fs::Stat, &[u8]) -> io::Result<()> + 'a;

impl Root {
    pub fn open(path: &Path) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Root { handle: fs::openat(CWD, path, flags, Mode::empty())?, path: path.to_path_buf() })
    }

    /// Where it is, for messages and for the runner.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For messages.
    pub fn show(&self, path: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(path))
    }

    fn resolve(&self, path: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = c(path)?;
        // EAGAIN: a rename elsewhere raced with the walk; the kernel asks to try again.
        for _ in 0..64 {
            match fs::openat2(&self.handle, &path, flags | OFlags::CLOEXEC, mode, how) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Opens a folder for use as the base of `*at` calls, following links inside the root.
    pub fn folder(&self, path: &[u8]) -> io::Result<OwnedFd> {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
    }

    /// Like [`Root::folder`], and makes what is missing with mode 0755.
    pub fn make_folder(&self, path: &[u8]) -> io::Result<OwnedFd> {
        match self.folder(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && !path.is_empty() => {
                let (above, name) = split(path);
                let above = self.make_folder(above)?;
                match fs::mkdirat(&above, c(name)?, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => self.folder(path),
                    Err(e) => Err(e.into()),
                }
            }
            other => other,
        }
    }

    /// The parent folder of `path`, made if missing, and the last name.
    pub fn parent<'p>(&self, path: &'p [u8]) -> io::Result<(OwnedFd, &'p [u8])> {
        let (above, name) = split(path);
        Ok((self.make_folder(above)?, name))
    }

    /// Whether something is there, links not followed at the end.
    pub fn exists(&self, path: &[u8]) -> bool {
        let (above, name) = split(path);
        let Ok(above) = self.folder(above) else { return false };
        c(name).is_ok_and(|n| fs::statat(&above, n, AtFlags::SYMLINK_NOFOLLOW).is_ok())
    }

    /// Reads a regular file of at most 16 MiB; `None` if it is not there.
    pub fn read(&self, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match self.resolve(path, flags, Mode::empty()) {
            Ok(f) => std::fs::File::from(f),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut data = Vec::new();
        file.take(16 << 20).read_to_end(&mut data)?;
        Ok(Some(data))
    }

    /// Writes a whole file, which replaces what had its name; folders above it are made.
    pub fn write(&self, path: &[u8], data: &[u8], mode: u32) -> io::Result<()> {
        let (above, name) = self.parent(path)?;
        let mut file = create(above.as_fd(), name)?;
        file.write_all(data)?;
        fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(())
    }

    /// Removes a file or link. Ok also if it is not there.
    pub fn remove(&self, path: &[u8]) -> io::Result<()> {
        let (above, name) = split(path);
        let result =
            self.folder(above).and_then(|above| Ok(fs::unlinkat(&above, c(name)?, AtFlags::empty())?));
        match result {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Makes a link; Ok also if a link of the same target is there already.
    pub fn link(&self, path: &[u8], target: &[u8]) -> io::Result<()> {
        let (above, name) = self.parent(path)?;
        let name = c(name)?;
        match fs::symlinkat(c(target)?, &above, &name) {
            Err(Errno::EXIST) if fs::readlinkat(&above, &name, Vec::new())?.as_bytes() == target => Ok(()),
            other => Ok(other?),
        }
    }

    /// Removes everything below a folder for which `keep` is false; kept things keep the folders above them.
    /// `keep` gets paths relative to the root.
    pub fn empty(&self, path: &[u8], keep: &dyn Fn(&[u8]) -> bool) -> io::Result<()> {
        let handle =
            match self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(h) => h,
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    return Ok(());
                }
                Err(e) if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => return Ok(()),
                Err(e) => return Err(e),
            };
        sweep(handle.as_fd(), path, keep).map(drop)
    }

    /// Calls `see` for every file below the root with its folder, name and status; folders come after what
    /// is in them and the root itself comes last. Links are never followed. Folders that may not be read go
    /// to `closed`.
    pub fn walk(&self, see: &mut See<'_>, closed: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let handle = self.resolve(b"", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        walk(handle.as_fd(), b"", see, closed)?;
        let dot = c(b".")?;
        let stat = fs::statat(&handle, &dot, AtFlags::SYMLINK_NOFOLLOW)?;
        see(handle.as_fd(), &dot, &stat, b"")
    }
}

/// Makes a new file in a folder, in place of what had its name. Never follows a link.
pub(crate) fn create(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<std::fs::File> {
    let name = c(name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..8 {
        match fs::openat(folder, &name, flags, Mode::from_raw_mode(0o600)) {
            Ok(file) => return Ok(file.into()),
            Err(Errno::EXIST) => match fs::unlinkat(folder, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(e.into()),
            },
            Err(e) => return Err(e.into()),
        }
    }
    Err(Errno::EXIST.into())
}

fn entries(folder: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn open_below(folder: BorrowedFd<'_>, name: &CString) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat(folder, name, flags, Mode::empty())?)
}

fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, name].join(&b'/') }
}

/// Whether anything was kept.
fn sweep(folder: BorrowedFd<'_>, path: &[u8], keep: &dyn Fn(&[u8]) -> bool) -> io::Result<bool> {
    let mut kept = false;
    for name in entries(folder)? {
        let full = below(path, &name);
        let name = c(&name)?;
        let stat = fs::statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        let keep_this = keep(&full);
        if fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::Directory {
            let inner = sweep(open_below(folder, &name)?.as_fd(), &full, keep)?;
            if inner || keep_this {
                kept = true;
            } else {
                fs::unlinkat(folder, &name, AtFlags::REMOVEDIR)?;
            }
        } else if keep_this {
            kept = true;
        } else {
            fs::unlinkat(folder, &name, AtFlags::empty())?;
        }
    }
    Ok(kept)
}

fn walk(
    folder: BorrowedFd<'_>,
    path: &[u8],
    see: &mut See<'_>,
    closed: &mut dyn FnMut(&[u8]),
) -> io::Result<()> {
    for name in entries(folder)? {
        let full = below(path, &name);
        let name = c(&name)?;
        let stat = fs::statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        if fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::Directory {
            match open_below(folder, &name) {
                Ok(inner) => walk(inner.as_fd(), &full, see, closed)?,
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => closed(&full),
                Err(e) => return Err(e),
            }
        }
        see(folder, &name, &stat, &full)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        assert_eq!(clean(b"./usr//bin/x"), Some(b"usr/bin/x".to_vec()));
        assert_eq!(clean(b"/"), Some(Vec::new()));
        for bad in [&b"../x"[..], b"a/../b", b"a\0b"] {
            assert_eq!(clean(bad), None);
        }
    }

    #[test]
    fn links_stay_inside() {
        let outer = tempfile::tempdir().unwrap();
        let inside = outer.path().join("root");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(outer.path().join("canary"), "old").unwrap();
        let root = Root::open(&inside).unwrap();
        root.link(b"up", b"../../..").unwrap();
        root.link(b"abs", outer.path().as_os_str().as_bytes()).unwrap();
        root.write(b"up/canary", b"new", 0o644).unwrap();
        assert!(root.write(b"abs/canary", b"new", 0o644).is_err() || inside.join("canary").exists());
        root.link(b"file", outer.path().join("canary").as_os_str().as_bytes()).unwrap();
        root.write(b"file", b"new", 0o644).unwrap();
        assert_eq!(std::fs::read(outer.path().join("canary")).unwrap(), b"old");
        assert_eq!(root.read(b"file").unwrap().unwrap(), b"new");
        root.empty(b"up", &|_| false).unwrap();
        root.empty(b"", &|p| p == b"file").unwrap();
        let left: Vec<_> = std::fs::read_dir(&inside).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["file"]);
        assert_eq!(std::fs::read(outer.path().join("canary")).unwrap(), b"old");
    }
}
