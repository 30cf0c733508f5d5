//! Archives of `ADD`, extracted into a folder of an existing root file system.
//!
//! The destination folder is the root of everything the archive says, as after a `chroot` into it:
//! names and the links in them resolve inside it, also links that were there before. Whiteout names
//! mean nothing here. This follows what BuildKit's `ADD` does.

use crate::decompress::{Limits, decompress};
use crate::error::{Context, shown};
use crate::fsat;
use crate::read::{Entry, Kind, TarReader};
use crate::stream::{ChunkReader, threaded_read};
use crate::unpack::{
    NEW_FILE, Settings, chown_fd, set_xattrs, settle_file, settle_node, times, too_much, wanted_xattrs,
    write_data,
};
use crate::{Error, IdMap, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, retry_on_intr};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

/// How an archive is extracted.
#[derive(Debug, Clone, Default)]
pub struct ExtractOptions {
    /// Owner of all entries in place of their own (user, group).
    pub chown: Option<(u32, u32)>,
    pub ids: IdMap,
    /// Limits of the decompressor; its output limit bounds the archive.
    pub limits: Limits,
}

/// What became of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtractReport {
    pub entries: u64,
    /// Device nodes that this process may not make.
    pub skipped_devices: Vec<PathBuf>,
}

/// Whether `ADD` unpacks this file: a tar with at least one entry, plain or packed in a way that
/// [`decompress`] knows.
pub fn is_archive(reader: impl Read + Send) -> bool {
    let Ok((plain, _)) = decompress(reader, Limits::default()) else { return false };
    matches!(TarReader::new(BufReader::new(plain)).next(), Ok(Some(_)))
}

/// Extract the archive `reader`, packed or not, into the open folder `dest`.
///
/// Existing folders are kept and get the entry's metadata; anything else of the same name is
/// replaced.
pub fn extract(reader: impl Read + Send, dest: impl AsFd, options: &ExtractOptions) -> Result<ExtractReport> {
    let (plain, _) = decompress(reader, options.limits).map_err(Error::Source)?;
    let root = fsat::open_beneath(dest, b"").at("open", b"")?;
    let mut extractor =
        Extractor { root, options, last: None, dirs: Vec::new(), report: ExtractReport::default() };
    threaded_read(plain, None, |source| extractor.run(source)).map_err(|e| too_much(e, "bytes"))?;
    Ok(extractor.report)
}

struct Extractor<'a> {
    root: OwnedFd,
    options: &'a ExtractOptions,
    /// The parent of the last entry.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Times of folders, set at the end.
    dirs: Vec<(Vec<u8>, (i64, u32))>,
    report: ExtractReport,
}

impl Extractor<'_> {
    fn run(&mut self, source: &mut ChunkReader) -> Result<()> {
        let mut tar = TarReader::new(source);
        while let Some(entry) = tar.next()? {
            self.report.entries += 1;
            self.entry(&entry, &mut tar)?;
        }
        // A packed stream that is cut short after the last entry is still damaged.
        let source = tar.into_inner();
        loop {
            match source.fill_buf() {
                Ok([]) => break,
                Ok(rest) => {
                    let n = rest.len();
                    source.consume(n);
                }
                Err(e) => return Err(Error::Source(e)),
            }
        }
        for (path, mtime) in std::mem::take(&mut self.dirs) {
            // Replaced or hidden since by another entry: then there is nothing to set.
            if let Ok(dir) = self.open_dir(&path) {
                rustix::fs::futimens(&dir, &times(mtime)).at("set the time of", &path)?;
            }
        }
        Ok(())
    }

    fn entry<R: BufRead>(&mut self, entry: &Entry, tar: &mut TarReader<R>) -> Result<()> {
        if entry.path.contains(&0) || entry.link.contains(&0) {
            return Err(Error::entry(&entry.path, "its name has a NUL"));
        }
        let path = fsat::normalize(&entry.path);
        let (parent, name) = fsat::split(&path);
        if name.is_empty() {
            return Ok(());
        }
        let dir = self.parent(parent)?;
        self.entry_in(entry, tar, &path, &dir, name)?;
        self.last = Some((parent.to_vec(), dir));
        Ok(())
    }

    fn entry_in<R: BufRead>(
        &mut self,
        entry: &Entry,
        tar: &mut TarReader<R>,
        path: &[u8],
        dir: &OwnedFd,
        name: &[u8],
    ) -> Result<()> {
        let existing = fsat::lstat_optional(dir, name).at("read", path)?;
        if let Some(stat) = existing {
            let both = fsat::file_type(&stat).is_dir() && entry.kind == Kind::Dir;
            if !both {
                fsat::remove_tree(dir, name).at("replace", path)?;
            }
        }
        let owner = self.owner(entry, path)?;
        match &entry.kind {
            Kind::Dir => {
                match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(e).at("create", path),
                }
                let made = fsat::open_beneath(dir, name).at("open", path)?;
                if let Some((uid, gid)) = owner {
                    chown_fd(&made, uid, gid).at("chown", path)?;
                }
                set_xattrs(&made, &wanted_xattrs(entry), path)?;
                rustix::fs::fchmod(&made, Mode::from_raw_mode(entry.mode)).at("chmod", path)?;
                self.dirs.push((path.to_vec(), entry.mtime));
                Ok(())
            }
            Kind::File => {
                let file =
                    fsat::openat(dir, name, NEW_FILE, Mode::from_raw_mode(0o600)).at("create", path)?;
                write_data(&file, entry, tar, path)?;
                settle_file(&file, entry, Settings { owner, keep_mode: false }, path)
            }
            Kind::Symlink => {
                rustix::fs::symlinkat(entry.link.as_slice(), dir, name).at("create", path)?;
                settle_node(dir, name, entry, owner, path)
            }
            Kind::HardLink => {
                let target = fsat::normalize(&entry.link);
                let (parent, base) = fsat::split(&target);
                let from = self.open_dir(parent).at("open the target of", path)?;
                rustix::fs::linkat(&from, base, dir, name, AtFlags::empty()).at("link", path)?;
                self.settle_link(dir, name, entry, owner, path)
            }
            Kind::Char { .. } | Kind::Block { .. } | Kind::Fifo => self.node(entry, path, dir, name, owner),
        }
    }

    /// As in BuildKit, what the entry of a hard link says of owner, mode and time counts for the file: the
    /// last one of its names decides.
    fn settle_link(
        &self,
        dir: &OwnedFd,
        name: &[u8],
        entry: &Entry,
        owner: Option<(u32, u32)>,
        path: &[u8],
    ) -> Result<()> {
        let linked = fsat::lstat_optional(dir, name).at("read", path)?;
        // A link to a symlink must not lead to what that names.
        let kind = match linked.is_some_and(|stat| fsat::file_type(&stat).is_symlink()) {
            true => Kind::Symlink,
            false => Kind::File,
        };
        settle_node(dir, name, &Entry { kind, ..entry.clone() }, owner, path)
    }

    fn node(
        &mut self,
        entry: &Entry,
        path: &[u8],
        dir: &OwnedFd,
        name: &[u8],
        owner: Option<(u32, u32)>,
    ) -> Result<()> {
        let (kind, dev) = match entry.kind {
            Kind::Char { major, minor } => (FileType::CharacterDevice, rustix::fs::makedev(major, minor)),
            Kind::Block { major, minor } => (FileType::BlockDevice, rustix::fs::makedev(major, minor)),
            _ => (FileType::Fifo, 0),
        };
        match rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(0o600), dev) {
            Err(Errno::PERM) if kind != FileType::Fifo => {
                self.report.skipped_devices.push(shown(path));
                Ok(())
            }
            Err(e) => Err(e).at("create", path),
            Ok(()) => settle_node(dir, name, entry, owner, path),
        }
    }

    fn owner(&self, entry: &Entry, path: &[u8]) -> Result<Option<(u32, u32)>> {
        let (uid, gid) = self.options.chown.unwrap_or((entry.uid, entry.gid));
        self.options.ids.to_disk(uid, gid).map_err(|(kind, id)| Error::Unmapped {
            path: shown(path),
            kind,
            id,
        })
    }

    /// The folder `path`; the parts that are missing are made (0755, root). A dangling link on the
    /// way is an error, not a place to make folders in.
    fn parent(&mut self, path: &[u8]) -> Result<OwnedFd> {
        if let Some((cached, dir)) = self.last.take()
            && cached == path
        {
            return Ok(dir);
        }
        match self.open_dir(path) {
            Err(Errno::NOENT) => {}
            other => return other.at("open", path),
        }
        let mut at = self.open_dir(b"").at("open", b"")?;
        let mut done: Vec<u8> = Vec::new();
        for part in path.split(|b| *b == b'/') {
            let here = fsat::join(&done, part);
            at = match self.open_dir(&here) {
                Ok(dir) => dir,
                Err(Errno::NOENT) => {
                    match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
                        Ok(()) => {}
                        Err(Errno::EXIST) => return Err(Errno::NOENT).at("open", &here),
                        Err(e) => return Err(e).at("create", &here),
                    }
                    let dir = fsat::open_beneath(&at, part).at("open", &here)?;
                    // Neither the umask nor the caller's group may show.
                    if let Ok(Some((uid, gid))) = self.options.ids.to_disk(0, 0) {
                        chown_fd(&dir, uid, gid).at("chown", &here)?;
                    }
                    rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755)).at("chmod", &here)?;
                    dir
                }
                Err(e) => return Err(e).at("open", &here),
            };
            done = here;
        }
        Ok(at)
    }

    /// Open a folder with the destination as the root of all links.
    fn open_dir(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        open_in_root(&self.root, path)
    }
}

/// Open the folder `path` as a process whose root is `root` would, following links inside it.
fn open_in_root(root: &OwnedFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = if path.is_empty() { b"." } else { path };
    loop {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match retry_on_intr(|| rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}
