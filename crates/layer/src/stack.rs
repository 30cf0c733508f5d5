//! A stack of layers as one plain folder: what an overlay shows, copied, for places where overlay is refused.
//!
//! The copy shares nothing with the layers but blocks (reflinks, where the file system has them), so that they
//! are safe from whoever writes to it. What was made is noted in a [`Record`], by which [`crate::diff`] finds out
//! later what was changed.
//!
//! Deliberately not here: mounts, and the choice between overlay and copies.

use crate::error::Context;
use crate::fsat::{self, DIR};
use crate::unpack::{NEW_FILE, chown_fd, set_xattrs, times};
use crate::{Error, Marks, Result, pack};
use rayon::prelude::*;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, StatxFlags, Uid};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// What a copy is for, which decides what overlay would show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reading: names of one file stay names of one file, and the root is the topmost layer's.
    View,
    /// A step writes to it. Overlay copies a name up alone, so that a write to one of several names of a file
    /// changes no other: each becomes a file of its own. The root stays as it is.
    Work,
}

/// What a copy looked like when it was made.
#[derive(Debug, Default)]
pub struct Record {
    /// By path of the folder.
    pub(crate) dirs: HashMap<Vec<u8>, BTreeMap<CString, Stamp>>,
    /// The newest change of the copy, in seconds and nanoseconds since 1970.
    latest: (i64, u64),
}

/// What tells whether something is still what was made, and untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub ino: u64,
    /// When the inode was made, where the file system says so: numbers are used again.
    pub born: Option<(i64, u32)>,
    pub mode: u32,
    pub owner: (u32, u32),
    pub size: i64,
    pub modified: (i64, u32),
    pub changed: (i64, u64),
}

impl Stamp {
    pub(crate) fn of(dir: &OwnedFd, name: &[u8]) -> rustix::io::Result<Stamp> {
        let stat = fsat::lstat(dir, name)?;
        let born = rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME)
            .ok()
            .filter(|x| x.stx_mask & StatxFlags::BTIME.bits() != 0)
            .map(|x| (x.stx_btime.tv_sec, x.stx_btime.tv_nsec));
        #[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
        Ok(Stamp {
            ino: stat.st_ino as u64,
            born,
            mode: stat.st_mode,
            owner: (stat.st_uid, stat.st_gid),
            size: stat.st_size,
            modified: fsat::mtime(&stat),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u64),
        })
    }

    pub(crate) fn is_dir(&self) -> bool {
        FileType::from_raw_mode(self.mode).is_dir()
    }

    /// Whether both are the same inode, whatever was done to it.
    pub(crate) fn is(&self, other: &Stamp) -> bool {
        (self.ino, self.born, self.is_dir()) == (other.ino, other.born, other.is_dir())
    }
}

/// One name of a merged folder.
pub(crate) enum Merged {
    /// The folders that make it up, the topmost first; the flag says that what lies further down is hidden.
    Dir(Vec<PathBuf>, bool),
    Leaf(Box<Stat>, PathBuf),
    /// A whiteout.
    Hidden,
}

/// The names in a folder that is merged of `dirs`, the topmost first, by the rules of overlay.
pub(crate) fn merge(dirs: &[PathBuf], marks: Marks) -> Result<BTreeMap<CString, Merged>> {
    let mut out: BTreeMap<CString, Merged> = BTreeMap::new();
    for dir in dirs {
        let fd = fsat::open(dir, DIR, Mode::empty()).at_path("open", dir)?;
        for name in fsat::names(&fd).at_path("list", dir)? {
            let path = dir.join(OsStr::from_bytes(name.as_bytes()));
            if matches!(out.get(&name), Some(Merged::Dir(_, true) | Merged::Leaf(..) | Merged::Hidden)) {
                continue;
            }
            let stat = fsat::lstat(&fd, name.as_bytes()).at_path("read", &path)?;
            if fsat::file_type(&stat).is_dir() {
                let open = fsat::openat(&fd, name.as_c_str(), DIR, Mode::empty());
                let open = open.at_path("open", &path)?;
                let opaque = fsat::is_opaque(&open, marks).at_path("read", &path)?;
                match out.get_mut(&name) {
                    Some(Merged::Dir(parts, closed)) => {
                        parts.push(path);
                        *closed = opaque;
                    }
                    _ => drop(out.insert(name, Merged::Dir(vec![path], opaque))),
                }
                continue;
            }
            // Something else than a folder hides all folders below it.
            if let Some(Merged::Dir(_, closed)) = out.get_mut(&name) {
                *closed = true;
                continue;
            }
            let whiteout = pack::is_whiteout_at(&fd, name.as_bytes(), &stat, marks).at_path("read", &path)?;
            out.insert(name, if whiteout { Merged::Hidden } else { Merged::Leaf(Box::new(stat), path) });
        }
    }
    Ok(out)
}

/// A folder of the copy that is being filled.
struct Level {
    fd: OwnedFd,
    path: Vec<u8>,
    /// Where its metadata come from; nowhere for the root of a copy to work on.
    like: Option<PathBuf>,
    dirs: std::vec::IntoIter<(CString, Vec<PathBuf>)>,
    listing: BTreeMap<CString, Stamp>,
}

struct Copier {
    root: OwnedFd,
    marks: Marks,
    purpose: Purpose,
    /// First name of each inode that has several, by device and number.
    links: HashMap<(u64, u64), Vec<u8>>,
    record: Record,
}

/// Copy what an overlay of `lowers` (the topmost first) would show to the empty folder `dest`.
///
/// Returns only when a change made from now on can be told from the copying by its time, if it is to be worked on.
pub fn copy(lowers: &[&Path], dest: &Path, marks: Marks, purpose: Purpose) -> Result<Record> {
    let root = fsat::open(dest, DIR, Mode::empty()).at_path("open", dest)?;
    let again = root.try_clone().at_path("open", dest)?;
    let mut copier = Copier { root, marks, purpose, links: HashMap::new(), record: Record::default() };
    copier.run(again, lowers.iter().map(|p| p.to_path_buf()).collect())?;
    if purpose == Purpose::Work {
        copier.record.wait_for_the_clock();
    }
    Ok(copier.record)
}

impl Copier {
    fn run(&mut self, root: OwnedFd, lowers: Vec<PathBuf>) -> Result<()> {
        let like = lowers.first().filter(|_| self.purpose == Purpose::View).cloned();
        let mut stack = vec![self.fill(root, Vec::new(), like, &lowers)?];
        while let Some(level) = stack.last_mut() {
            if let Some((name, parts)) = level.dirs.next() {
                let path = fsat::join(&level.path, name.as_bytes());
                rustix::fs::mkdirat(&level.fd, &name, Mode::from_raw_mode(0o700)).at("create", &path)?;
                let fd = fsat::openat(&level.fd, &name, DIR, Mode::empty()).at("open", &path)?;
                let like = parts.first().cloned();
                let next = self.fill(fd, path, like, &parts)?;
                stack.push(next);
                continue;
            }
            let Some(done) = stack.pop() else { break };
            if let Some(like) = &done.like {
                let stat = rustix::fs::stat(like).at_path("read", like)?;
                copy_dir_metadata(&done.fd, &stat, like, &done.path)?;
            }
            if let Some(above) = stack.last_mut() {
                let (_, name) = fsat::split(&done.path);
                let stamp = Stamp::of(&above.fd, name).at("read", &done.path)?;
                self.record.latest = self.record.latest.max(stamp.changed);
                let name = CString::new(name).map_err(|_| Error::Internal("a name holds a NUL byte"))?;
                above.listing.insert(name, stamp);
            }
            if self.purpose == Purpose::Work {
                self.record.dirs.insert(done.path, done.listing);
            }
        }
        Ok(())
    }

    /// Copy all but the folders of one folder.
    fn fill(
        &mut self,
        fd: OwnedFd,
        path: Vec<u8>,
        like: Option<PathBuf>,
        parts: &[PathBuf],
    ) -> Result<Level> {
        let mut dirs = Vec::new();
        let mut leaves = Vec::new();
        let mut twins = Vec::new();
        for (name, merged) in merge(parts, self.marks)? {
            match merged {
                Merged::Hidden => {}
                Merged::Dir(parts, _) => dirs.push((name, parts)),
                Merged::Leaf(stat, from) => {
                    let here = fsat::join(&path, name.as_bytes());
                    match self.twin(&stat, &here) {
                        Some(first) => twins.push((name, first)),
                        None => leaves.push((name, stat, from, here)),
                    }
                }
            }
        }
        let made = leaves
            .into_par_iter()
            .map(|(name, stat, from, here)| {
                copy_leaf(&fd, name.as_bytes(), &stat, &from, &here)?;
                let stamp = Stamp::of(&fd, name.as_bytes()).at("read", &here)?;
                Ok((name, stamp))
            })
            .collect::<Result<Vec<_>>>()?;
        for (name, first) in twins {
            let (parent, base) = fsat::split(&first);
            let parent = fsat::open_beneath(&self.root, parent).at("open", &first)?;
            rustix::fs::linkat(&parent, base, &fd, &name, AtFlags::empty()).at("link", &first)?;
        }
        self.record.latest = made.iter().map(|(_, s)| s.changed).fold(self.record.latest, Ord::max);
        Ok(Level { fd, path, like, dirs: dirs.into_iter(), listing: made.into_iter().collect() })
    }

    /// The first name of this file in the copy, if it is to be linked to that.
    fn twin(&mut self, stat: &Stat, here: &[u8]) -> Option<Vec<u8>> {
        if self.purpose == Purpose::Work || stat.st_nlink < 2 {
            return None;
        }
        #[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
        let inode = (stat.st_dev as u64, stat.st_ino as u64);
        match self.links.get(&inode) {
            Some(first) => Some(first.clone()),
            None => {
                self.links.insert(inode, here.to_vec());
                None
            }
        }
    }
}

impl Record {
    /// Change times come in ticks: within one, a change after the copy would look like the copy itself. A file
    /// system that keeps whole seconds only ticks once a second.
    fn wait_for_the_clock(&self) {
        let (seconds, nanos) = self.latest;
        for _ in 0..1500 {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
            let past = if nanos == 0 {
                now.tv_sec > seconds
            } else {
                (now.tv_sec, u64::try_from(now.tv_nsec).unwrap_or(0)) > (seconds, nanos)
            };
            if past {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

pub(crate) fn copy_dir_metadata(dir: &OwnedFd, stat: &Stat, from: &Path, path: &[u8]) -> Result<()> {
    let source = fsat::open(from, DIR, Mode::empty()).at_path("open", from)?;
    let xattrs = pack::xattrs(&source, pack::Xattrs::All).at_path("read", from)?;
    set_dir_metadata(dir, stat, &xattrs, path)
}

pub(crate) fn set_dir_metadata(
    dir: &OwnedFd,
    stat: &Stat,
    xattrs: &[(Vec<u8>, Vec<u8>)],
    path: &[u8],
) -> Result<()> {
    chown_fd(dir, stat.st_uid, stat.st_gid).at("chown", path)?;
    set_xattrs(dir, xattrs, path)?;
    rustix::fs::fchmod(dir, Mode::from_raw_mode(stat.st_mode & 0o7777)).at("chmod", path)?;
    rustix::fs::futimens(dir, &times(fsat::mtime(stat))).at("set the time of", path)
}

/// Copy one thing that is no folder from a lower layer, with all its metadata.
pub(crate) fn copy_leaf(dir: &OwnedFd, name: &[u8], stat: &Stat, from: &Path, path: &[u8]) -> Result<()> {
    let kind = fsat::file_type(stat);
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    if kind.is_file() {
        const SOURCE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
        let source = fsat::open(from, SOURCE, Mode::empty()).at_path("open", from)?;
        let fd = fsat::openat(dir, name, NEW_FILE, Mode::from_raw_mode(0o600)).at("create", path)?;
        copy_content(&source, &fd, stat).at("write", path)?;
        chown_fd(&fd, stat.st_uid, stat.st_gid).at("chown", path)?;
        rustix::fs::fchmod(&fd, mode).at("chmod", path)?;
        let xattrs = pack::xattrs(&source, pack::Xattrs::All).at_path("read", from)?;
        set_xattrs(&fd, &xattrs, path)?;
        return rustix::fs::futimens(&fd, &times(fsat::mtime(stat))).at("set the time of", path);
    }
    make_node(dir, name, stat, from, path)
}

/// Make a link, device, FIFO or socket as `from` is one, with its owner, mode and time.
pub(crate) fn make_node(dir: &OwnedFd, name: &[u8], stat: &Stat, from: &Path, path: &[u8]) -> Result<()> {
    let kind = fsat::file_type(stat);
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    if kind.is_symlink() {
        let target = rustix::fs::readlink(from, Vec::new()).at_path("read", from)?;
        rustix::fs::symlinkat(target.as_c_str(), dir, name).at("create", path)?;
    } else {
        rustix::fs::mknodat(dir, name, kind, mode, stat.st_rdev).at("create", path)?;
    }
    let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    rustix::fs::chownat(dir, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).at("chown", path)?;
    if !kind.is_symlink() {
        rustix::fs::chmodat(dir, name, mode, AtFlags::empty()).at("chmod", path)?;
    }
    rustix::fs::utimensat(dir, name, &times(fsat::mtime(stat)), AtFlags::SYMLINK_NOFOLLOW)
        .at("set the time of", path)
}

/// Shares the blocks where the file system can, and else copies what is no hole.
pub(crate) fn copy_content(from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> rustix::io::Result<()> {
    /// Set once a clone was refused, as it would be for each file.
    static NO_CLONES: AtomicBool = AtomicBool::new(false);
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if size == 0 {
        return Ok(());
    }
    if !NO_CLONES.load(Ordering::Relaxed) {
        match rustix::fs::ioctl_ficlone(to, from) {
            Ok(()) => return Ok(()),
            Err(_) => NO_CLONES.store(true, Ordering::Relaxed),
        }
    }
    if u64::try_from(stat.st_blocks).unwrap_or(0) * 512 >= size {
        return copy_range(from, to, 0, size);
    }
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start.min(size),
            // No data up to the end.
            Err(Errno::NXIO) => break,
            // A file system that knows nothing of holes.
            Err(Errno::INVAL) => at,
            Err(e) => return Err(e),
        };
        let end = match rustix::fs::seek(from, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            Err(_) => size,
        };
        if end <= start {
            break;
        }
        copy_range(from, to, start, end)?;
        at = end;
    }
    rustix::fs::ftruncate(to, size)
}

fn copy_range(from: &OwnedFd, to: &OwnedFd, start: u64, end: u64) -> rustix::io::Result<()> {
    let (mut here, mut there) = (start, start);
    let mut buffer = Vec::new();
    while here < end {
        let most = usize::try_from(end - here).unwrap_or(usize::MAX).min(1 << 30);
        if buffer.is_empty() {
            match rustix::fs::copy_file_range(from, Some(&mut here), to, Some(&mut there), most) {
                Ok(0) => return Err(Errno::IO),
                Ok(_) | Err(Errno::INTR) => continue,
                Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::IO)) => return Err(e),
                // Across file systems, or on one that can't: through memory.
                Err(_) => buffer.resize(256 * 1024, 0),
            }
        }
        let most = most.min(buffer.len());
        match rustix::io::pread(from, &mut buffer[..most], here) {
            Ok(0) => return Err(Errno::IO),
            Ok(n) => {
                let mut written = 0;
                while written < n {
                    written += rustix::io::pwrite(to, &buffer[written..n], here + written as u64)?;
                }
                here += n as u64;
                there = here;
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
