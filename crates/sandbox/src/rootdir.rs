//! [`RootDir`]: path operations that can't leave a folder, whatever symlinks the tree below holds.
//!
//! Every path is resolved as in a chroot: absolute symlinks start at the root, `..` stops there, magic links of
//! procfs aren't followed. The kernel does it (`openat2` with `RESOLVE_IN_ROOT`); where `openat2` is missing
//! (before Linux 5.6) or refused by a seccomp filter, a component-wise `O_NOFOLLOW` walk does the same.
//! Operations on the last component (rename, chown, xattrs ...) never follow a symlink there.

#[cfg(test)]
mod tests;
mod walk;

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timestamps, Uid};
use rustix::io::Errno;

use crate::error::Error;
use walk::{Last, Verdict, walk};

/// A folder that confines all paths given to its methods. Paths may start with a slash or not: both mean the
/// root. Errors are `Error::Io` with the path in the message and the kernel's error as the source.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name; never `.` or `..`.
    pub name: OsString,
    /// Its type as the folder knows it; `Unknown` on file systems that don't record it.
    pub kind: FileType,
    /// Inode number.
    pub inode: u64,
}

/// Which way paths are resolved; chosen by hand in tests only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Kernel,
    #[cfg(test)]
    Walk,
}

type Result<T> = std::result::Result<T, Error>;

fn failed<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Error {
    move |e| Error::io(format!("can't {action} {}", path.display()), e)
}

/// Splits off the last component. `None` for the root itself and for paths that end in `..`.
fn split_last(path: &Path) -> Option<(&Path, &OsStr)> {
    let mut bytes = path.as_os_str().as_bytes();
    loop {
        if let [rest @ .., b'/'] = bytes {
            bytes = rest;
        } else if bytes == b"." || bytes.ends_with(b"/.") {
            bytes = &bytes[..bytes.len() - 1];
        } else {
            break;
        }
    }
    let cut = bytes.iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1);
    let (parent, name) = bytes.split_at(cut);
    if name.is_empty() || name == b".." {
        return None;
    }
    Some((Path::new(OsStr::from_bytes(parent)), OsStr::from_bytes(name)))
}

fn resolve_open(way: Way, root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    if way == Way::Kernel {
        let shown = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..16 {
            match rustix::fs::openat2(root, shown, flags, Mode::empty(), resolve) {
                // Something was renamed meanwhile: the kernel couldn't tell whether `..` stays inside.
                Err(Errno::AGAIN | Errno::INTR) => {}
                // Missing, or refused by a seccomp filter; if it is the file that refuses, so it does below.
                Err(Errno::NOSYS | Errno::PERM) => break,
                // RESOLVE_NO_MAGICLINKS says ELOOP for /proc/*/fd/*, and so does a plain chain of links.
                other => return Ok(other?),
            }
        }
    }
    let last = if flags.contains(OFlags::NOFOLLOW) { Last::Keep } else { Last::Follow };
    let found = walk(root, path, last, |_, _, _, _| Ok(Verdict::Fail))?.into_fd();
    if flags.contains(OFlags::PATH) {
        if flags.contains(OFlags::DIRECTORY) && !crate::overlay::is_dir(&found)? {
            return Err(Errno::NOTDIR.into());
        }
        return Ok(found);
    }
    let stat = rustix::fs::statat(&found, "", AtFlags::EMPTY_PATH)?;
    if FileType::from_raw_mode(stat.st_mode).is_symlink() {
        return Err(Errno::LOOP.into());
    }
    // Opens the very inode that the walk has found.
    Ok(rustix::fs::open(link_of(&found), flags.difference(OFlags::NOFOLLOW), Mode::empty())?)
}

/// A path through which system calls without a descriptor form reach an open file itself.
fn link_of(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

impl RootDir {
    /// Opens the folder `path` relative to `at`; this path itself isn't confined.
    pub fn open(at: impl AsFd, path: impl AsRef<Path>) -> Result<RootDir> {
        let path = path.as_ref();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(at, path, flags, Mode::empty()).map_err(failed("open", path))?;
        Ok(RootDir { fd })
    }

    /// Opens a folder of the host by path.
    pub fn open_path(path: impl AsRef<Path>) -> Result<RootDir> {
        RootDir::open(rustix::fs::CWD, path)
    }

    /// A folder below as a root of its own.
    pub fn subdir(&self, path: impl AsRef<Path>) -> Result<RootDir> {
        let fd = self.open_file(path, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(RootDir { fd })
    }

    /// Opens what `path` leads to; with `NOFOLLOW` in `flags` a symlink in the last place isn't followed.
    /// Creates nothing: `CREATE` in `flags` is refused, see [`RootDir::create_file`].
    pub fn open_file(&self, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd> {
        let path = path.as_ref();
        if flags.intersects(OFlags::CREATE | OFlags::TMPFILE.difference(OFlags::DIRECTORY)) {
            return Err(failed("open", path)(Errno::INVAL));
        }
        resolve_open(Way::Kernel, self.fd.as_fd(), path, flags).map_err(failed("open", path))
    }

    /// The whole content of a regular file of at most `max` bytes. Never blocks on a FIFO or device; those and
    /// folders are `EINVAL`, larger files `EFBIG`.
    pub fn read_limited(&self, path: impl AsRef<Path>, max: u64) -> Result<Vec<u8>> {
        let path = path.as_ref();
        // Asks for the type before the file is opened for reading: opening a device may already do something.
        let found = self.open_file(path, OFlags::PATH)?;
        let stat = rustix::fs::statat(&found, "", AtFlags::EMPTY_PATH).map_err(failed("stat", path))?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(Error::io(format!("{} is not a regular file", path.display()), Errno::INVAL));
        }
        let too_large = || Error::io(format!("{} is larger than {max} bytes", path.display()), Errno::FBIG);
        if stat.st_size as u64 > max {
            return Err(too_large());
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::open(link_of(&found), flags, Mode::empty()).map_err(failed("open", path))?;
        let mut content = Vec::with_capacity(stat.st_size as usize);
        let mut file = std::fs::File::from(file).take(max.saturating_add(1));
        file.read_to_end(&mut content).map_err(failed("read", path))?;
        if content.len() as u64 > max { Err(too_large()) } else { Ok(content) }
    }

    /// Metadata of what `path` leads to.
    pub fn metadata(&self, path: impl AsRef<Path>) -> Result<Stat> {
        let fd = self.open_file(path.as_ref(), OFlags::PATH)?;
        rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH).map_err(failed("stat", path.as_ref()))
    }

    /// Metadata of the last component itself.
    pub fn symlink_metadata(&self, path: impl AsRef<Path>) -> Result<Stat> {
        let fd = self.open_file(path.as_ref(), OFlags::PATH | OFlags::NOFOLLOW)?;
        rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH).map_err(failed("stat", path.as_ref()))
    }

    /// True if `path` leads to something.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.open_file(path, OFlags::PATH).is_ok()
    }

    /// The text of a symlink, verbatim.
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        let fd = self.open_file(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let text = rustix::fs::readlinkat(&fd, "", Vec::new()).map_err(|e| {
            // The kernel says ENOENT for an empty path on what is no symlink.
            failed("read the link", path)(if e == Errno::NOENT { Errno::INVAL } else { e })
        })?;
        Ok(PathBuf::from(OsString::from_vec(text.into_bytes())))
    }

    /// Names in a folder, sorted bytewise.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> Result<Vec<DirEntry>> {
        let path = path.as_ref();
        let fd = self.open_file(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        list(fd).map_err(failed("list", path))
    }

    /// Names in a folder, sorted bytewise, each with the metadata of what it is itself. One look at the folder costs less
    /// than one at each path in it.
    pub fn read_dir_metadata(&self, path: impl AsRef<Path>) -> Result<Vec<(OsString, Stat)>> {
        let path = path.as_ref();
        let fd = self.open_file(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let of_list = fd.try_clone().map_err(|e| Error::io(format!("can't list {}", path.display()), e))?;
        let mut out = Vec::new();
        for entry in list(of_list).map_err(failed("list", path))? {
            match rustix::fs::statat(&fd, &entry.name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => out.push((entry.name, stat)),
                // Removed meanwhile.
                Err(Errno::NOENT) => {}
                Err(e) => return Err(failed("stat", &path.join(&entry.name))(e)),
            }
        }
        Ok(out)
    }

    /// The absolute path inside the root that `path` really means, without symlinks. Components that don't
    /// exist are kept as names. What is true now can be changed by anyone who can write to the tree: use the
    /// result as a name, and pass it through this type again to act on it.
    pub fn resolve(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        let walked = walk(self.fd.as_fd(), path, Last::Follow, |_, _, _, _| Ok(Verdict::Name));
        Ok(walked.map_err(failed("resolve", path))?.path())
    }

    /// As [`RootDir::resolve`], but a symlink in the last place is itself the result.
    pub fn resolve_parent(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        let walked = walk(self.fd.as_fd(), path, Last::Keep, |_, _, _, _| Ok(Verdict::Name));
        Ok(walked.map_err(failed("resolve", path))?.path())
    }

    /// The open folder that holds the last component of `path`, and its name; (`path` itself, `.`) for the root
    /// and for paths that end in `..`. For calls this type doesn't offer: don't follow the last component.
    pub fn parent(&self, path: impl AsRef<Path>) -> Result<(OwnedFd, OsString)> {
        let path = path.as_ref();
        let (parent, name) = split_last(path).unwrap_or((path, OsStr::new(".")));
        Ok((self.open_file(parent, OFlags::PATH | OFlags::DIRECTORY)?, name.to_owned()))
    }

    /// Makes one folder with exactly these permission bits, whatever the umask is.
    pub fn mkdir(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        make_dir(parent.as_fd(), &name, mode, None).map_err(failed("make folder", path))
    }

    /// Makes `path` and its missing parents, following symlinks (also dangling ones, to where they lead) inside
    /// of the root. Returns the folders it made, outermost first, as real paths. `EEXIST` or `ENOTDIR` if a
    /// file is in the way.
    pub fn mkdir_all(
        &self,
        path: impl AsRef<Path>,
        mode: u32,
        owner: Option<(u32, u32)>,
    ) -> Result<Vec<PathBuf>> {
        let path = path.as_ref();
        let mut made = Vec::new();
        let walked = walk(self.fd.as_fd(), path, Last::Follow, |parent, place, name, _| {
            match make_dir(parent, name, mode, owner) {
                Ok(()) => made.push(place.join(name)),
                // Somebody else was faster.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
            Ok(Verdict::Made)
        })
        .map_err(failed("make folder", path))?;
        if !crate::overlay::is_dir(walked.into_fd()).map_err(failed("stat", path))? {
            return Err(failed("make folder", path)(Errno::NOTDIR));
        }
        Ok(made)
    }

    /// Makes an empty folder or file at `path` for a mount, with its missing parents (mode 0755, owner 0:0).
    /// Returns what is there, opened with `O_PATH`; `before` is called ahead of each thing that is made, with
    /// the folder it goes to, that folder's path and the new name.
    pub(crate) fn mount_point(
        &self,
        path: &Path,
        folder: bool,
        mut before: impl FnMut(BorrowedFd<'_>, &Path, &OsStr) -> io::Result<()>,
    ) -> io::Result<OwnedFd> {
        walk(self.fd.as_fd(), path, Last::Follow, |parent, place, name, last| {
            before(parent, place, name)?;
            let made = if last && !folder {
                make_file(parent, name, 0o644).map(drop)
            } else {
                make_dir(parent, name, 0o755, None)
            };
            match made {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
                _ => Ok(Verdict::Made),
            }
        })
        .map(walk::Walked::into_fd)
    }

    /// Makes a new regular file with exactly these permission bits and opens it for writing.
    pub fn create_file(&self, path: impl AsRef<Path>, mode: u32) -> Result<OwnedFd> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        make_file(parent.as_fd(), &name, mode).map_err(failed("create", path))
    }

    /// Makes a symlink with this text, verbatim.
    pub fn symlink(&self, text: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        rustix::fs::symlinkat(text.as_ref(), &parent, &name).map_err(failed("make symlink", path))
    }

    /// Makes `path` another name of `existing` (of a symlink itself, if it is one).
    pub fn link(&self, existing: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let (from, old) = self.parent(existing)?;
        let (to, new) = self.parent(path)?;
        rustix::fs::linkat(&from, &old, &to, &new, AtFlags::empty()).map_err(failed("make link", path))
    }

    /// Makes a device node, FIFO or socket with exactly these permission bits; `device` is a `makedev` value.
    pub fn mknod(&self, path: impl AsRef<Path>, kind: FileType, mode: u32, device: u64) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        rustix::fs::mknodat(&parent, &name, kind, Mode::from_raw_mode(mode), device)
            .map_err(failed("make node", path))?;
        chmod_at(parent.as_fd(), &name, mode).map_err(failed("chmod", path))
    }

    /// Removes one name that is no folder.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        rustix::fs::unlinkat(&parent, &name, AtFlags::empty()).map_err(failed("remove", path))
    }

    /// Removes an empty folder.
    pub fn remove_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR).map_err(failed("remove", path))
    }

    /// Removes a name and all below it, of any depth. `Ok` if it isn't there; the root itself is refused.
    pub fn remove_all(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = match self.parent(path) {
            Ok(found) => found,
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        if name == "." {
            return Err(failed("remove", path)(Errno::BUSY));
        }
        remove_tree(parent.as_fd(), &name).map_err(failed("remove", path))
    }

    /// Renames within the root, replacing what is there.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        let (old_dir, old) = self.parent(from.as_ref())?;
        let (new_dir, new) = self.parent(to.as_ref())?;
        rustix::fs::renameat(&old_dir, &old, &new_dir, &new).map_err(failed("rename", from.as_ref()))
    }

    /// Sets owner and group of the last component itself. Clears setuid and setgid, as `chown` does.
    pub fn chown(&self, path: impl AsRef<Path>, uid: u32, gid: u32) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(&parent, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("chown", path))
    }

    /// Sets the permission bits (with setuid, setgid, sticky) of the last component itself; `EOPNOTSUPP` for a
    /// symlink, which has none.
    pub fn chmod(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        chmod_at(parent.as_fd(), &name, mode).map_err(failed("chmod", path))
    }

    /// Sets access and modification time of the last component itself.
    pub fn set_times(&self, path: impl AsRef<Path>, times: &Timestamps) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        rustix::fs::utimensat(&parent, &name, times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("set times of", path))
    }

    /// Names of the extended attributes of the last component itself, sorted.
    pub fn list_xattrs(&self, path: impl AsRef<Path>) -> Result<Vec<OsString>> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        let place = Path::new(&link_of(&parent)).join(&name);
        let raw = grow(|buffer| rustix::fs::llistxattr(&place, buffer))
            .map_err(failed("list attributes of", path))?;
        let mut names: Vec<OsString> = raw
            .split(|b| *b == 0)
            .filter(|name| !name.is_empty())
            .map(|name| OsStr::from_bytes(name).to_owned())
            .collect();
        names.sort();
        Ok(names)
    }

    /// One extended attribute of the last component itself; `None` if it has no such attribute.
    pub fn get_xattr(&self, path: impl AsRef<Path>, attribute: &OsStr) -> Result<Option<Vec<u8>>> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        let place = Path::new(&link_of(&parent)).join(&name);
        match grow(|buffer| rustix::fs::lgetxattr(&place, attribute, buffer)) {
            Ok(value) => Ok(Some(value)),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(e) => Err(failed("read an attribute of", path)(e)),
        }
    }

    /// Sets one extended attribute of the last component itself.
    pub fn set_xattr(&self, path: impl AsRef<Path>, attribute: &OsStr, value: &[u8]) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        let place = Path::new(&link_of(&parent)).join(&name);
        rustix::fs::lsetxattr(&place, attribute, value, rustix::fs::XattrFlags::empty())
            .map_err(failed("set an attribute of", path))
    }

    /// Removes one extended attribute of the last component itself; `Ok` if it wasn't there.
    pub fn remove_xattr(&self, path: impl AsRef<Path>, attribute: &OsStr) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        let place = Path::new(&link_of(&parent)).join(&name);
        match rustix::fs::lremovexattr(&place, attribute) {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(e) => Err(failed("remove an attribute of", path)(e)),
        }
    }
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for RootDir {
    fn from(fd: OwnedFd) -> Self {
        RootDir { fd }
    }
}

/// Calls with a buffer that grows until the value fits.
fn grow(mut call: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 1024];
    loop {
        match call(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            Err(e) => return Err(e),
        }
    }
}

fn make_dir(parent: BorrowedFd<'_>, name: &OsStr, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode))?;
    if let Some((uid, gid)) = owner {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    chmod_at(parent, name, mode)
}

fn make_file(parent: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode);
    let fd = rustix::fs::openat(parent, name, flags, mode)?;
    rustix::fs::fchmod(&fd, mode)?;
    Ok(fd)
}

/// `chmod` that doesn't follow a symlink: by way of an `O_PATH` descriptor, since `fchmodat2` is as young as 6.6.
fn chmod_at(parent: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let stat = rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH)?;
    if FileType::from_raw_mode(stat.st_mode).is_symlink() {
        return Err(Errno::OPNOTSUPP.into());
    }
    if stat.st_mode & 0o7777 == mode & 0o7777 {
        return Ok(());
    }
    Ok(rustix::fs::chmod(link_of(&fd), Mode::from_raw_mode(mode))?)
}

fn list(fd: OwnedFd) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in rustix::fs::Dir::new(fd)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            entries.push(DirEntry { name: name.to_owned(), kind: entry.file_type(), inode: entry.ino() });
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Folders are entered at most this deep; what lies deeper is moved up first, so that a hostile depth costs
/// neither descriptors nor stack.
const MAX_DEPTH: usize = 64;

fn remove_tree(top: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let mut todo = vec![name.to_owned()];
    let mut moved = 0u64;
    while let Some(name) = todo.last().cloned() {
        let before = todo.len();
        remove_below(top, &name, 0, &mut |dir, child| {
            loop {
                let place = OsString::from(format!(".ctrbuild-remove-{}-{moved}", std::process::id()));
                moved += 1;
                let exclusive = rustix::fs::RenameFlags::NOREPLACE;
                match rustix::fs::renameat_with(dir, child, top, &place, exclusive) {
                    Ok(()) => {
                        todo.push(place);
                        return Ok(());
                    }
                    Err(Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        })?;
        todo.remove(before - 1);
    }
    Ok(())
}

type MoveUp<'a> = dyn FnMut(BorrowedFd<'_>, &OsStr) -> io::Result<()> + 'a;

fn remove_below(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    depth: usize,
    move_up: &mut MoveUp<'_>,
) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e.into()),
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(e) => return Err(e.into()),
    }
    if depth == MAX_DEPTH {
        return move_up(parent, name);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for entry in list(dir.try_clone()?)? {
        remove_below(dir.as_fd(), &entry.name, depth + 1, move_up)?;
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}
