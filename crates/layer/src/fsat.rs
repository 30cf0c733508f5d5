//! File-system calls relative to open folders: confined opens, removal, attributes, overlay marks.
//!
//! Nothing here follows a symbolic link in its last component, and [`open_beneath`] follows none at
//! all, so a path never leads out of the folder it starts from.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, XattrFlags};
use rustix::io::{Errno, Result, retry_on_intr};
use rustix::path::Arg;
use std::ffi::{CStr, CString};

pub const DIR: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Under which names overlay keeps its marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Marks {
    /// `trusted.overlay.*`: mounts made with privilege.
    #[default]
    Trusted,
    /// `user.overlay.*`: mounts with `userxattr`, as in a user namespace.
    User,
}

impl Marks {
    pub(crate) fn opaque(self) -> &'static str {
        match self {
            Marks::Trusted => "trusted.overlay.opaque",
            Marks::User => "user.overlay.opaque",
        }
    }
    pub(crate) fn whiteout(self) -> &'static str {
        match self {
            Marks::Trusted => "trusted.overlay.whiteout",
            Marks::User => "user.overlay.whiteout",
        }
    }
    pub(crate) fn redirect(self) -> &'static str {
        match self {
            Marks::Trusted => "trusted.overlay.redirect",
            Marks::User => "user.overlay.redirect",
        }
    }
}

/// Whether an attribute steers overlay, and so must never come from or go to an archive.
pub fn is_overlay_mark(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// As `openat`, and once more where a signal came in between, which file systems over a network let happen.
pub fn openat<P: Arg + Copy>(dir: impl AsFd, path: P, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    retry_on_intr(|| rustix::fs::openat(dir.as_fd(), path, flags, mode))
}

/// As [`openat`], of a path from here.
pub fn open<P: Arg + Copy>(path: P, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    openat(CWD, path, flags, mode)
}

/// Open a folder below `root` without following any link.
pub fn open_beneath(root: impl AsFd, path: &[u8]) -> Result<OwnedFd> {
    if path.is_empty() {
        return openat(root, ".", DIR, Mode::empty());
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match retry_on_intr(|| rustix::fs::openat2(&root, path, DIR, Mode::empty(), resolve)) {
            // A rename somewhere raced with the lookup; EINTR as everywhere.
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Kernels before 5.6 and seccomp filters that do not know the call.
            Err(Errno::NOSYS | Errno::PERM) => return open_steps(root, path),
            other => return other,
        }
    }
}

fn open_steps(root: impl AsFd, path: &[u8]) -> Result<OwnedFd> {
    let mut at = openat(root, ".", DIR, Mode::empty())?;
    for part in path.split(|b| *b == b'/').filter(|p| !p.is_empty()) {
        if part == b".." {
            return Err(Errno::XDEV);
        }
        at = openat(&at, part, DIR, Mode::empty())?;
    }
    Ok(at)
}

pub fn lstat(dir: impl AsFd, name: &[u8]) -> Result<Stat> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

pub fn lstat_optional(dir: impl AsFd, name: &[u8]) -> Result<Option<Stat>> {
    match lstat(dir, name) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

pub fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Modification time as seconds and nanoseconds.
pub fn mtime(stat: &Stat) -> (i64, u32) {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
    (stat.st_mtime as i64, stat.st_mtime_nsec as u32)
}

/// The names in a folder without `.` and `..`, sorted by bytes.
pub fn names(dir: impl AsFd) -> Result<Vec<CString>> {
    let mut out: Vec<CString> = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            out.push(name.to_owned());
        }
    }
    out.sort_unstable();
    Ok(out)
}

/// Whether `stat` is a whiteout of the device form.
pub fn is_whiteout_device(stat: &Stat) -> bool {
    file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// An attribute of an open file, `None` where it has none.
pub fn get_xattr(fd: impl AsFd, name: &str) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0; 256];
    loop {
        match rustix::fs::fgetxattr(&fd, name, value.as_mut_slice()) {
            Ok(n) => {
                value.truncate(n);
                return Ok(Some(value));
            }
            Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM) => return Ok(None),
            Err(Errno::RANGE) if value.len() < 65536 => value.resize(65536, 0),
            Err(e) => return Err(e),
        }
    }
}

/// The names of all attributes of an open file.
pub fn list_xattrs(fd: impl AsFd) -> Result<Vec<Vec<u8>>> {
    let mut list = vec![0; 1024];
    let n = loop {
        match rustix::fs::flistxattr(&fd, list.as_mut_slice()) {
            Ok(n) => break n,
            Err(Errno::NOTSUP) => break 0,
            Err(Errno::RANGE) if list.len() < 65536 => list.resize(65536, 0),
            Err(e) => return Err(e),
        }
    };
    Ok(list[..n].split(|b| *b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

pub fn set_xattr(fd: impl AsFd, name: &[u8], value: &[u8]) -> Result<()> {
    rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())
}

/// Whether an open folder hides what lies below it.
pub fn is_opaque(dir: impl AsFd, marks: Marks) -> Result<bool> {
    Ok(get_xattr(dir, marks.opaque())?.is_some_and(|v| v == b"y"))
}

/// Remove whatever `name` is, with all below it, without following links.
pub fn remove_tree(dir: impl AsFd, name: &[u8]) -> Result<()> {
    match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return other,
    }
    // A stack instead of recursion: an archive may nest folders as deep as it likes.
    let mut stack = vec![(openat(&dir, name, DIR, Mode::empty())?, name.to_vec())];
    while let Some((at, _)) = stack.last() {
        let mut deeper = None;
        for entry in names(at)? {
            match rustix::fs::unlinkat(at, entry.as_c_str(), AtFlags::empty()) {
                Ok(()) => {}
                Err(Errno::ISDIR | Errno::PERM) => {
                    match rustix::fs::unlinkat(at, entry.as_c_str(), AtFlags::REMOVEDIR) {
                        Ok(()) => {}
                        Err(Errno::NOTEMPTY) => {
                            deeper = Some(entry);
                            break;
                        }
                        Err(e) => return Err(e),
                    }
                }
                Err(e) => return Err(e),
            }
        }
        if let Some(entry) = deeper {
            let child = openat(at, entry.as_c_str(), DIR, Mode::empty())?;
            stack.push((child, entry.into_bytes()));
            continue;
        }
        let Some((_, name)) = stack.pop() else { break };
        match stack.last() {
            Some((parent, _)) => rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?,
            None => rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR)?,
        }
    }
    Ok(())
}

/// The parts of an archive's name, resolved by text alone: `.` and empty parts vanish, `..` takes
/// one part back and stops at the root. What remains never leads out of the root by itself.
pub fn normalize(name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// Parent and last part of a normalized name.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(i) => (&path[..i], &path[i + 1..]),
        None => (b"", path),
    }
}

/// `parent` and `name` as one normalized name.
pub fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() {
        return name.to_vec();
    }
    let mut out = Vec::with_capacity(parent.len() + name.len() + 1);
    out.extend_from_slice(parent);
    out.push(b'/');
    out.extend_from_slice(name);
    out
}

/// First key after all that lie below `path`, in byte order: `/` is followed by `0`.
pub fn join_end(path: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    out.push(b'/' + 1);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        for (raw, want) in [
            (&b"a/b"[..], &b"a/b"[..]),
            (b"/a//b/./", b"a/b"),
            (b"../../etc", b"etc"),
            (b"a/../../b", b"b"),
            (b"./", b""),
            (b"..", b""),
        ] {
            assert_eq!(normalize(raw), want);
        }
    }

    #[test]
    fn trees_are_removed_but_not_what_links_point_at() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir_all(outside.join("x")).unwrap();
        let tree = dir.path().join("t/a/b/c");
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::write(tree.join("f"), "f").unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("l")).unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap();
        remove_tree(&fd, b"t").unwrap();
        assert!(!dir.path().join("t").exists());
        assert!(outside.join("x").exists());
    }
}
