//! Layer tars to overlay upper folders (OCI image spec, layer.md, "Applying Changesets").
//!
//! A layer goes into a folder of its own that knows nothing of the layers below, so all layers of an
//! image unpack at the same time. Whiteouts become what overlay understands: a `0:0` character device
//! for `.wh.name`, an attribute for `.wh..wh..opq`.
//!
//! Invariants:
//! - every path is resolved here, part by part, inside the destination; the kernel never follows a
//!   link for us;
//! - whiteouts speak about lower layers only, so their place among the entries does not matter;
//! - owners, modes and times of folders are set last, so they neither get in the way nor change.
//!
//! What one layer alone cannot tell is reported: folders without an entry ([`UnpackReport::implicit_dirs`])
//! and hard links to files of lower layers ([`UnpackReport::lower_links`]).

use crate::error::{Context, shown};
use crate::fsat::{self, DIR};
use crate::pack::Form;
use crate::read::{Entry, Kind, TarReader};
use crate::stream::{ChunkReader, hashed_read};
use crate::writers::{self, NewFile, Writers};
use crate::{Error, IdMap, Marks, Result};
use digest::DiffId;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

/// Links followed while one path is resolved, at most (Linux allows 40, containerd 255).
const MOST_LINKS: usize = 255;
/// Runs of zeros of this length become holes.
const HOLE: usize = 64 * 1024;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// How whiteouts are kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Whiteouts {
    /// `0:0` character devices; Linux 5.8 lets user namespaces make them too.
    #[default]
    Devices,
    /// Empty files with an attribute, in folders marked `x` (Linux 6.7).
    Xattrs,
}

/// How a layer is unpacked.
#[derive(Debug, Clone, Default)]
pub struct UnpackOptions {
    pub marks: Marks,
    pub whiteouts: Whiteouts,
    pub ids: IdMap,
    /// Most bytes of tar.
    pub max_bytes: Option<u64>,
    /// Most entries.
    pub max_entries: Option<u64>,
}

/// What became of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpackReport {
    /// sha256 of the tar as it was read.
    pub diff_id: DiffId,
    /// Bytes of the tar.
    pub size: u64,
    pub entries: u64,
    /// Folders that were needed but that have no entry, so that owner, mode and even the kind of
    /// thing (a link to a folder, perhaps) are up to the layers below. Sorted; parents come first.
    pub implicit_dirs: Vec<PathBuf>,
    /// Hard links whose target is not in this layer: (name, target), relative to the root.
    pub lower_links: Vec<(PathBuf, PathBuf)>,
    /// Whether the layer hides everything below it (`.wh..wh..opq` at its root). Overlay ignores the
    /// mark on a root, so whoever stacks layers must leave the lower ones out.
    pub opaque_root: bool,
    /// Device nodes that this process may not make.
    pub skipped_devices: Vec<PathBuf>,
    /// Windows where entries have records of it, which are not kept.
    pub form: Form,
}

/// Unpack the uncompressed tar `reader` into the empty folder `dest`. The digest of the tar is
/// computed in the same pass, by another thread.
///
/// On failure `dest` holds a part of the layer and must be thrown away.
pub fn apply(reader: impl Read + Send, dest: &Path, options: &UnpackOptions) -> Result<UnpackReport> {
    let root = fsat::open(dest, DIR, Mode::empty()).at_path("open", dest)?;
    let mut unpacker = Unpacker::new(root, options);
    let ((), digest, size) = hashed_read(reader, options.max_bytes, |source| {
        writers::with(|files| unpacker.entries(source, files))?;
        unpacker.finish_dirs()
    })
    .map_err(|e| too_much(e, "bytes"))?;
    Ok(UnpackReport {
        diff_id: DiffId(digest),
        size,
        entries: unpacker.entries,
        implicit_dirs: unpacker.implicit.iter().map(|p| shown(p)).collect(),
        lower_links: unpacker.lower_links,
        opaque_root: unpacker.opaque_root,
        skipped_devices: unpacker.skipped_devices,
        form: unpacker.form,
    })
}

/// A limit that was passed inside a stream, as the error that names it.
pub(crate) fn too_much(e: Error, what: &'static str) -> Error {
    match &e {
        Error::Source(inner) => {
            match inner.get_ref().and_then(|i| i.downcast_ref::<crate::decompress::TooMuch>()) {
                Some(too_much) => Error::Limit { what, limit: too_much.limit },
                None => e,
            }
        }
        _ => e,
    }
}

/// Metadata of a folder, set at the end.
struct DirMeta {
    mode: u32,
    owner: Option<(u32, u32)>,
    mtime: (i64, u32),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

struct Unpacker<'a> {
    root: OwnedFd,
    options: &'a UnpackOptions,
    me: (u32, u32),
    /// The parent of the last entry, by its path in the archive, and its real path.
    last: Option<(Vec<u8>, Vec<u8>, OwnedFd)>,
    dirs: BTreeMap<Vec<u8>, DirMeta>,
    implicit: BTreeSet<Vec<u8>>,
    deferred_links: Vec<(Vec<u8>, Vec<u8>)>,
    lower_links: Vec<(PathBuf, PathBuf)>,
    skipped_devices: Vec<PathBuf>,
    opaque_root: bool,
    form: Form,
    entries: u64,
    /// Permission bits that new files don't get.
    withheld: u32,
}

impl<'a> Unpacker<'a> {
    fn new(root: OwnedFd, options: &'a UnpackOptions) -> Self {
        Unpacker {
            withheld: withheld(&root),
            root,
            options,
            me: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
            last: None,
            dirs: BTreeMap::new(),
            implicit: BTreeSet::new(),
            deferred_links: Vec::new(),
            lower_links: Vec::new(),
            skipped_devices: Vec::new(),
            opaque_root: false,
            form: Form::Unix,
            entries: 0,
        }
    }

    fn entries(&mut self, source: &mut ChunkReader, files: &mut Writers) -> Result<()> {
        let mut tar = TarReader::new(source);
        while let Some(entry) = tar.next()? {
            self.entries += 1;
            if let Some(limit) = self.options.max_entries
                && self.entries > limit
            {
                return Err(Error::Limit { what: "entries", limit });
            }
            self.entry(&entry, &mut tar, files)?;
        }
        self.form = tar.form();
        self.link_deferred()
    }

    fn entry<R: BufRead>(
        &mut self,
        entry: &Entry,
        tar: &mut TarReader<R>,
        files: &mut Writers,
    ) -> Result<()> {
        if entry.path.contains(&0) {
            return Err(Error::entry(&entry.path, "its name has a NUL"));
        }
        // Checked on the name as it is: `.wh...` would otherwise normalize to its parent.
        let raw = entry.path.strip_suffix(b"/").unwrap_or(&entry.path);
        if let Some(target) = fsat::split(raw).1.strip_prefix(WHITEOUT)
            && matches!(target, b"" | b"." | b"..")
        {
            return Err(Error::entry(&entry.path, "it is a whiteout of no name"));
        }
        let path = fsat::normalize(&entry.path);
        let (parent, name) = fsat::split(&path);
        if name.is_empty() {
            // The root: its metadata belong to whoever made the folder, as in containerd.
            return Ok(());
        }
        if parent.split(|b| *b == b'/').any(|part| part.starts_with(WHITEOUT)) {
            // Folders of that name are aufs's own (`.wh..wh.plnk`), never part of the image.
            return Ok(());
        }
        let (real, dir) = match files.with_room(|| self.parent(parent)) {
            // Where this layer has a file, nothing from below shows; umoci writes such whiteouts all the same.
            Err(Error::Entry { .. }) if name.starts_with(WHITEOUT) => return Ok(()),
            other => other?,
        };
        self.entry_in(entry, tar, files, (&real, &dir), name)?;
        // Only what is below the parent can have been removed, so the folder itself stays valid.
        self.last = Some((parent.to_vec(), real, dir));
        Ok(())
    }

    fn entry_in<R: BufRead>(
        &mut self,
        entry: &Entry,
        tar: &mut TarReader<R>,
        files: &mut Writers,
        (parent, dir): (&[u8], &OwnedFd),
        name: &[u8],
    ) -> Result<()> {
        if name == OPAQUE {
            return self.opaque(parent, dir);
        }
        if let Some(target) = name.strip_prefix(WHITEOUT) {
            // `.wh..wh.*` are aufs's own files; they say nothing about the image.
            return if target.starts_with(WHITEOUT) { Ok(()) } else { self.whiteout(parent, dir, target) };
        }
        let path = fsat::join(parent, name);
        match &entry.kind {
            Kind::Dir => self.dir(entry, &path, dir, name),
            Kind::HardLink => self.hard_link(entry, path, dir, name),
            Kind::File => {
                let settings = self.settings(entry, &path)?;
                let mode = if settings.keep_mode { entry.mode } else { 0o600 };
                let file = files.with_room(|| self.create(&path, dir, name, mode))?;
                if writers::is_small(entry) {
                    // Only names depend on what comes before and after: the rest happens beside.
                    let data = tar.data_all()?;
                    return files.write(NewFile { file, path, entry: entry.clone(), settings, data });
                }
                write_data(&file, entry, tar, &path)?;
                settle_file(&file, entry, settings, &path)
            }
            Kind::Symlink => {
                if entry.link.is_empty() || entry.link.contains(&0) {
                    return Err(Error::entry(&path, "it is a link to nothing"));
                }
                self.replace(&path, dir, name, || rustix::fs::symlinkat(entry.link.as_slice(), dir, name))?;
                settle_node(dir, name, entry, self.new_owner(entry, &path)?, &path)
            }
            Kind::Char { .. } | Kind::Block { .. } | Kind::Fifo => self.node(entry, &path, dir, name),
        }
    }

    fn node(&mut self, entry: &Entry, path: &[u8], dir: &OwnedFd, name: &[u8]) -> Result<()> {
        use rustix::fs::FileType;
        let (kind, dev) = match entry.kind {
            Kind::Char { major, minor } => (FileType::CharacterDevice, rustix::fs::makedev(major, minor)),
            Kind::Block { major, minor } => (FileType::BlockDevice, rustix::fs::makedev(major, minor)),
            _ => (FileType::Fifo, 0),
        };
        let mode = Mode::from_raw_mode(0o600);
        let make = || rustix::fs::mknodat(dir, name, kind, mode, dev);
        match self.replace(path, dir, name, make) {
            Err(Error::Io { source, .. })
                if kind != FileType::Fifo && Errno::from_io_error(&source) == Some(Errno::PERM) =>
            {
                self.skipped_devices.push(shown(path));
                Ok(())
            }
            Err(e) => Err(e),
            Ok(()) => settle_node(dir, name, entry, self.new_owner(entry, path)?, path),
        }
    }

    fn dir(&mut self, entry: &Entry, path: &[u8], dir: &OwnedFd, name: &[u8]) -> Result<()> {
        self.make_dir(path, dir, name)?;
        self.implicit.remove(path);
        let meta = DirMeta {
            mode: entry.mode,
            owner: self.owner(entry, path)?,
            mtime: entry.mtime,
            xattrs: wanted_xattrs(entry),
        };
        self.dirs.insert(path.to_vec(), meta);
        Ok(())
    }

    /// Make a folder unless there is one. One that takes the place of a whiteout hides what the
    /// whiteout would have hidden.
    fn make_dir(&mut self, path: &[u8], dir: &OwnedFd, name: &[u8]) -> Result<()> {
        let make = || rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700));
        match make() {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(e) => return Err(e).at("create", path),
        }
        let stat = fsat::lstat(dir, name).at("read", path)?;
        if fsat::file_type(&stat).is_dir() {
            return Ok(());
        }
        let whiteout = self.is_whiteout(dir, name, &stat).at("read", path)?;
        self.remove(path, dir, name)?;
        make().at("create", path)?;
        if whiteout {
            let fd = fsat::openat(dir, name, DIR, Mode::empty()).at("open", path)?;
            fsat::set_xattr(&fd, self.options.marks.opaque().as_bytes(), b"y").at("mark", path)?;
        }
        Ok(())
    }

    fn is_whiteout(&self, dir: &OwnedFd, name: &[u8], stat: &rustix::fs::Stat) -> rustix::io::Result<bool> {
        if fsat::is_whiteout_device(stat) {
            return Ok(true);
        }
        if self.options.whiteouts != Whiteouts::Xattrs
            || !fsat::file_type(stat).is_file()
            || stat.st_size != 0
        {
            return Ok(false);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = fsat::openat(dir, name, flags, Mode::empty())?;
        Ok(fsat::get_xattr(&fd, self.options.marks.whiteout())?.is_some())
    }

    fn opaque(&mut self, parent: &[u8], dir: &OwnedFd) -> Result<()> {
        self.opaque_root |= parent.is_empty();
        fsat::set_xattr(dir, self.options.marks.opaque().as_bytes(), b"y").at("mark", parent)
    }

    fn whiteout(&mut self, parent: &[u8], dir: &OwnedFd, name: &[u8]) -> Result<()> {
        let path = fsat::join(parent, name);
        if let Some(stat) = fsat::lstat_optional(dir, name).at("read", &path)? {
            // What this layer itself brings under the name stays: whiteouts speak about lower layers.
            // A file hides the lower one anyhow; a folder must not let lower entries through.
            if fsat::file_type(&stat).is_dir() {
                let fd = fsat::openat(dir, name, DIR, Mode::empty()).at("open", &path)?;
                fsat::set_xattr(&fd, self.options.marks.opaque().as_bytes(), b"y").at("mark", &path)?;
            }
            return Ok(());
        }
        match self.options.whiteouts {
            Whiteouts::Devices => {
                let mode = Mode::from_raw_mode(0o000);
                rustix::fs::mknodat(dir, name, rustix::fs::FileType::CharacterDevice, mode, 0)
                    .at("create the whiteout", &path)
            }
            Whiteouts::Xattrs => {
                let fd = fsat::openat(dir, name, NEW_FILE, Mode::from_raw_mode(0o600)).at("create", &path)?;
                fsat::set_xattr(&fd, self.options.marks.whiteout().as_bytes(), b"y").at("mark", &path)?;
                // Tells overlay to look for such files here; an opaque folder needs no whiteouts.
                if !fsat::is_opaque(dir, self.options.marks).at("read", parent)? {
                    fsat::set_xattr(dir, self.options.marks.opaque().as_bytes(), b"x").at("mark", parent)?;
                }
                Ok(())
            }
        }
    }

    fn hard_link(&mut self, entry: &Entry, path: Vec<u8>, dir: &OwnedFd, name: &[u8]) -> Result<()> {
        let target = fsat::normalize(&entry.link);
        if target.is_empty() || entry.link.contains(&0) {
            return Err(Error::entry(&path, "it is a hard link to nothing"));
        }
        if !self.link_now(&path, dir, name, &target)? {
            // The target may come later or be in a lower layer.
            self.remove_existing(&path, dir, name)?;
            self.deferred_links.push((path, target));
        }
        Ok(())
    }

    /// `Ok(false)` where the target is not there.
    fn link_now(&mut self, path: &[u8], dir: &OwnedFd, name: &[u8], target: &[u8]) -> Result<bool> {
        let (parent, base) = fsat::split(target);
        let Some((real, from)) = self.existing(parent)? else { return Ok(false) };
        let Some(stat) = fsat::lstat_optional(&from, base).at("read", target)? else { return Ok(false) };
        if fsat::file_type(&stat).is_dir() {
            return Err(Error::entry(path, "it is a hard link to a folder"));
        }
        if self.is_whiteout(&from, base, &stat).at("read", target)? {
            return Ok(false);
        }
        if fsat::join(&real, base) == path {
            return Ok(true);
        }
        // Without AT_SYMLINK_FOLLOW a hard link to a link is one to the link itself.
        self.replace(path, dir, name, || rustix::fs::linkat(&from, base, dir, name, AtFlags::empty()))?;
        Ok(true)
    }

    fn link_deferred(&mut self) -> Result<()> {
        let mut waiting = std::mem::take(&mut self.deferred_links);
        // A link may point at one that waits too; each round links at least one or is the last.
        loop {
            let before = waiting.len();
            let mut still = Vec::new();
            for (path, target) in waiting {
                let (parent, name) = fsat::split(&path);
                let Some((_, dir)) = self.existing(parent)? else { continue };
                if fsat::lstat_optional(&dir, name).at("read", &path)?.is_some() {
                    // A later entry took the name.
                    continue;
                }
                if !self.link_now(&path, &dir, name, &target)? {
                    still.push((path, target));
                }
            }
            waiting = still;
            if waiting.is_empty() || waiting.len() == before {
                break;
            }
        }
        self.lower_links = waiting.iter().map(|(path, target)| (shown(path), shown(target))).collect();
        Ok(())
    }

    /// A new file to write, in place of whatever had the name.
    fn create(&mut self, path: &[u8], dir: &OwnedFd, name: &[u8], mode: u32) -> Result<OwnedFd> {
        let mut file = None;
        self.replace(path, dir, name, || {
            file = Some(fsat::openat(dir, name, NEW_FILE, Mode::from_raw_mode(mode))?);
            Ok(())
        })?;
        file.ok_or(Error::Internal("a created file has no descriptor"))
    }

    /// Run `make`, which fails with EEXIST where the name is taken; then free the name and try again.
    fn replace(
        &mut self,
        path: &[u8],
        dir: &OwnedFd,
        name: &[u8],
        mut make: impl FnMut() -> rustix::io::Result<()>,
    ) -> Result<()> {
        match make() {
            Err(Errno::EXIST) => {
                self.remove(path, dir, name)?;
                make().at("create", path)
            }
            other => other.at("create", path),
        }
    }

    fn remove_existing(&mut self, path: &[u8], dir: &OwnedFd, name: &[u8]) -> Result<()> {
        match fsat::lstat_optional(dir, name).at("read", path)? {
            Some(_) => self.remove(path, dir, name),
            None => Ok(()),
        }
    }

    fn remove(&mut self, path: &[u8], dir: &OwnedFd, name: &[u8]) -> Result<()> {
        fsat::remove_tree(dir, name).at("replace", path)?;
        // Forget what is gone.
        self.dirs.remove(path);
        self.implicit.remove(path);
        let below = fsat::join(path, b"")..fsat::join_end(path);
        let gone: Vec<_> = self.dirs.range(below.clone()).map(|(k, _)| k.clone()).collect();
        for key in gone {
            self.dirs.remove(&key);
        }
        let gone: Vec<_> = self.implicit.range(below).cloned().collect();
        for key in gone {
            self.implicit.remove(&key);
        }
        Ok(())
    }

    /// The folder that `path` (normalized) means, made where it is missing, and its real path.
    fn parent(&mut self, path: &[u8]) -> Result<(Vec<u8>, OwnedFd)> {
        if let Some((cached, real, dir)) = self.last.take()
            && cached == path
        {
            return Ok((real, dir));
        }
        match fsat::open_beneath(&self.root, path) {
            Ok(dir) => return Ok((path.to_vec(), dir)),
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => {}
            Err(e) => return Err(e).at("open", path),
        }
        self.resolve(path, Missing::Make)?.ok_or(Error::Internal("a folder was not made"))
    }

    /// As `parent`, but `None` where a part is missing.
    fn existing(&mut self, path: &[u8]) -> Result<Option<(Vec<u8>, OwnedFd)>> {
        match fsat::open_beneath(&self.root, path) {
            Ok(dir) => return Ok(Some((path.to_vec(), dir))),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => {}
            Err(e) => return Err(e).at("open", path),
        }
        self.resolve(path, Missing::Report)
    }

    /// Resolve part by part with the destination as the root, as a process inside it would see it.
    fn resolve(&mut self, path: &[u8], missing: Missing) -> Result<Option<(Vec<u8>, OwnedFd)>> {
        let open_root = |s: &Self| fsat::open_beneath(&s.root, b"").at("open", b"");
        let mut stack: Vec<(Vec<u8>, OwnedFd)> = vec![(Vec::new(), open_root(self)?)];
        let mut todo: VecDeque<Vec<u8>> = parts(path);
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part == b".." {
                if stack.len() > 1 {
                    stack.pop();
                }
                continue;
            }
            let Some((at_path, at)) = stack.last() else { return Err(Error::Internal("a path has no root")) };
            let here = fsat::join(at_path, &part);
            let next = match fsat::openat(at, part.as_slice(), DIR, Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::NOENT) if missing == Missing::Report => return Ok(None),
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(at, part.as_slice(), Mode::from_raw_mode(0o755))
                        .at("create", &here)?;
                    self.note_implicit(&here);
                    fsat::openat(at, part.as_slice(), DIR, Mode::empty()).at("open", &here)?
                }
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    match rustix::fs::readlinkat(at, part.as_slice(), Vec::new()) {
                        Ok(target) => {
                            links += 1;
                            if links > MOST_LINKS {
                                return Err(Error::entry(path, "its folder is behind too many links"));
                            }
                            let target = target.into_bytes();
                            if target.first() == Some(&b'/') {
                                stack.truncate(1);
                            }
                            for part in parts(&target).into_iter().rev() {
                                todo.push_front(part);
                            }
                            if todo.len() > 65536 {
                                return Err(Error::entry(path, "its folder is behind too long links"));
                            }
                            continue;
                        }
                        Err(Errno::INVAL) => {
                            let stat = fsat::lstat(at, &part).at("read", &here)?;
                            if !self.is_whiteout(at, &part, &stat).at("read", &here)? {
                                return Err(Error::entry(
                                    path,
                                    format!("`{}` is no folder", shown(&here).display()),
                                ));
                            }
                            if missing == Missing::Report {
                                return Ok(None);
                            }
                            // Deleted below, and made anew here without an entry of its own.
                            self.make_dir(&here, at, &part)?;
                            self.note_implicit(&here);
                            fsat::openat(at, part.as_slice(), DIR, Mode::empty()).at("open", &here)?
                        }
                        Err(e) => return Err(e).at("read", &here),
                    }
                }
                Err(e) => return Err(e).at("open", &here),
            };
            stack.push((here, next));
        }
        Ok(stack.pop())
    }

    fn note_implicit(&mut self, path: &[u8]) {
        self.implicit.insert(path.to_vec());
        let meta = DirMeta { mode: 0o755, owner: None, mtime: (0, 0), xattrs: Vec::new() };
        self.dirs.insert(path.to_vec(), meta);
    }

    fn owner(&self, entry: &Entry, path: &[u8]) -> Result<Option<(u32, u32)>> {
        self.options.ids.to_disk(entry.uid, entry.gid).map_err(|(kind, id)| Error::Unmapped {
            path: shown(path),
            kind,
            id,
        })
    }

    /// An owner to change to: none where the file has it already.
    fn new_owner(&self, entry: &Entry, path: &[u8]) -> Result<Option<(u32, u32)>> {
        Ok(self.owner(entry, path)?.filter(|owner| *owner != self.me))
    }

    fn settings(&self, entry: &Entry, path: &[u8]) -> Result<Settings> {
        // Changing the owner clears setuid and setgid.
        let keep_mode = entry.mode & (0o7000 | self.withheld) == 0;
        Ok(Settings { owner: self.new_owner(entry, path)?, keep_mode })
    }

    fn finish_dirs(&mut self) -> Result<()> {
        // Deepest first: a folder without search permission would hide those below it.
        for (path, meta) in self.dirs.iter().rev() {
            let dir = fsat::open_beneath(&self.root, path).at("open", path)?;
            if let Some((uid, gid)) = meta.owner
                && (uid, gid) != self.me
            {
                chown_fd(&dir, uid, gid).at("chown", path)?;
            }
            set_xattrs(&dir, &meta.xattrs, path)?;
            rustix::fs::fchmod(&dir, Mode::from_raw_mode(meta.mode)).at("chmod", path)?;
            rustix::fs::futimens(&dir, &times(meta.mtime)).at("set the time of", path)?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Report,
}

pub(crate) const NEW_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Parts of a link target or path; `..` stays.
fn parts(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|b| *b == b'/').filter(|p| !matches!(*p, b"" | b".")).map(<[u8]>::to_vec).collect()
}

/// Permission bits that a new file in this folder may not get when it is made, whatever is asked for: those of the
/// umask, and any where the folder has an ACL for new files.
fn withheld(dir: &OwnedFd) -> u32 {
    const ALL: u32 = 0o777;
    if !matches!(fsat::get_xattr(dir, "system.posix_acl_default"), Ok(None)) {
        return ALL;
    }
    // There is no call that only asks, and setting it for a moment would be seen by other threads.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let umask = status.lines().find_map(|l| l.strip_prefix("Umask:"));
    umask.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or(ALL)
}

/// What a new file needs besides what its entry says.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Settings {
    /// Owner to change to.
    pub owner: Option<(u32, u32)>,
    /// The file was made with its mode.
    pub keep_mode: bool,
}

/// Owner, mode, attributes and time of a file that was just written.
pub(crate) fn settle_file(file: &OwnedFd, entry: &Entry, settings: Settings, path: &[u8]) -> Result<()> {
    // In this order: changing the owner clears setuid and capabilities, writing sets the time.
    if let Some((uid, gid)) = settings.owner {
        chown_fd(file, uid, gid).at("chown", path)?;
    }
    if !settings.keep_mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode)).at("chmod", path)?;
    }
    set_xattrs(file, &wanted_xattrs(entry), path)?;
    rustix::fs::futimens(file, &times(entry.mtime)).at("set the time of", path)
}

/// Owner, mode and time of something that cannot be opened: it was just made under this name.
pub(crate) fn settle_node(
    dir: &OwnedFd,
    name: &[u8],
    entry: &Entry,
    owner: Option<(u32, u32)>,
    path: &[u8],
) -> Result<()> {
    if let Some((uid, gid)) = owner {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).at("chown", path)?;
    }
    // The mode of a link means nothing, and chmod would follow it.
    if entry.kind != Kind::Symlink {
        rustix::fs::chmodat(dir, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
            .at("chmod", path)?;
    }
    rustix::fs::utimensat(dir, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
        .at("set the time of", path)
}

pub(crate) fn chown_fd(fd: &OwnedFd, uid: u32, gid: u32) -> rustix::io::Result<()> {
    rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

pub(crate) fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanos) as _ };
    Timestamps { last_access: time, last_modification: time }
}

/// The attributes that an image carries: capabilities, ACLs and those of users; never overlay's own.
pub(crate) fn wanted_xattrs(entry: &Entry) -> Vec<(Vec<u8>, Vec<u8>)> {
    entry
        .xattrs
        .iter()
        .filter(|(name, _)| {
            (name.starts_with(b"user.")
                || name == b"security.capability"
                || name.starts_with(b"system.posix_acl_"))
                && !fsat::is_overlay_mark(name)
                && !name.contains(&0)
        })
        .cloned()
        .collect()
}

pub(crate) fn set_xattrs(fd: &OwnedFd, xattrs: &[(Vec<u8>, Vec<u8>)], path: &[u8]) -> Result<()> {
    for (name, value) in xattrs {
        match fsat::set_xattr(fd, name, value) {
            // The file system has none of the kind: nothing that an image could rely on.
            Ok(()) | Err(Errno::NOTSUP) => {}
            // Most keep attributes in a block of the file's own, which is full long before the disk is.
            Err(Errno::NOSPC) if has_free_blocks(fd) => {
                let bytes: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
                return Err(Error::entry(
                    path,
                    format!("the file system has no room for its {bytes} bytes of extended attributes"),
                ));
            }
            Err(e) => return Err(e).at("set an attribute of", path),
        }
    }
    Ok(())
}

fn has_free_blocks(fd: &OwnedFd) -> bool {
    rustix::fs::fstatvfs(fd).is_ok_and(|s| s.f_bavail * s.f_frsize > 1 << 20)
}

/// Write the data of a file from the archive, leaving holes for sparse regions and long zeros.
pub(crate) fn write_data<R: BufRead>(
    file: &OwnedFd,
    entry: &Entry,
    tar: &mut TarReader<R>,
    path: &[u8],
) -> Result<()> {
    let whole = [(0, entry.size)];
    let regions: &[(u64, u64)] = entry.sparse.as_deref().unwrap_or(&whole);
    let mut holes = entry.sparse.is_some();
    // Looking for zeros pays only in large files.
    let piece_size = if entry.size >= 1 << 20 { HOLE } else { usize::MAX };
    for (offset, length) in regions {
        let mut at = *offset;
        let end = offset + length;
        let mut piece: &[u8] = &[];
        while at < end {
            if piece.is_empty() {
                piece = tar.data_upto(end - at)?;
            }
            let run = piece.len().min(piece_size);
            let (head, rest) = piece.split_at(run);
            piece = rest;
            if run == HOLE && is_zero(head) {
                holes = true;
            } else {
                write_at(file, head, at).at("write", path)?;
            }
            at += run as u64;
        }
    }
    if holes {
        rustix::fs::ftruncate(file, entry.size).at("write", path)?;
    }
    Ok(())
}

fn is_zero(data: &[u8]) -> bool {
    // The first bytes decide nearly always.
    data[..64.min(data.len())].iter().all(|b| *b == 0)
        && data.chunks(4096).all(|c| c.iter().fold(0, |a, b| a | b) == 0)
}

pub(crate) fn write_at(file: &OwnedFd, mut data: &[u8], mut at: u64) -> rustix::io::Result<()> {
    while !data.is_empty() {
        match rustix::io::pwrite(file, data, at) {
            Ok(n) => {
                data = &data[n..];
                at += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
