//! Overlay upper folders to layer tars (OCI image spec, layer.md, "Creating Filesystem Changesets").
//!
//! Invariants:
//! - the bytes depend on the folder alone: entries are sorted by their names' bytes, a folder comes
//!   before what is in it, and nothing of the machine or the moment goes in;
//! - every entry is preceded by the entries of its folders;
//! - an entry equal to what lies below is left out: such copies arise where a file is opened for
//!   writing but not changed.

use crate::error::{Context, shown};
use crate::fsat::{self, DIR};
use crate::read::{Entry, Kind};
use crate::stream::{ChunkWriter, hashed_write};
use crate::{Error, IdMap, Marks, Result, windows, write};
use digest::DiffId;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashMap};
use std::ffi::CString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::vec;

/// Which attributes go into a layer. `security.capability` always does, overlay's own never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Xattrs {
    /// Nothing else, as BuildKit does.
    #[default]
    CapabilityOnly,
    /// `user.*` and ACLs too, which is what [`crate::unpack`] keeps.
    All,
}

/// How exact modification times are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Times {
    /// As the file system has them.
    #[default]
    Nanoseconds,
    /// Cut to seconds, as BuildKit does.
    Seconds,
}

/// What a layer looks like to those who unpack it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    #[default]
    Unix,
    /// `Files/` and `Hives/` with Windows' records; owners and attributes of Linux are left out, and there are no
    /// opaque markers. The folder has to be laid out so: what isn't below `Files` is refused.
    Windows,
}

/// How a layer is packed.
#[derive(Debug, Clone, Default)]
pub struct PackOptions {
    /// `SOURCE_DATE_EPOCH`: later times become this one. Seconds since 1970.
    pub clamp_times: Option<i64>,
    pub form: Form,
    pub times: Times,
    pub xattrs: Xattrs,
    pub marks: Marks,
    pub ids: IdMap,
}

/// What a layer became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackStats {
    /// sha256 of the tar.
    pub diff_id: DiffId,
    /// Bytes of the tar.
    pub size: u64,
    pub entries: u64,
    /// Files that cannot be in a layer, since their names begin with `.wh.`, and were left out.
    pub reserved_names: Vec<PathBuf>,
}

/// Write the layer of `upper` to `out`. `lowers` are the folders below it, topmost first, to leave
/// out what did not change and whiteouts of nothing; without them everything goes in.
///
/// # Errors
/// [`Error::Changed`] where a file is written to meanwhile, [`Error::Sink`] where `out` fails.
pub fn write_layer(
    upper: &Path,
    lowers: &[&Path],
    options: &PackOptions,
    out: &mut dyn Write,
) -> Result<PackStats> {
    pack(upper, lowers, options, Some(out))
}

/// Digest and size of the layer of `upper`, which is not stored anywhere.
pub fn diff_id(upper: &Path, lowers: &[&Path], options: &PackOptions) -> Result<PackStats> {
    pack(upper, lowers, options, None)
}

fn pack(
    upper: &Path,
    lowers: &[&Path],
    options: &PackOptions,
    out: Option<&mut dyn Write>,
) -> Result<PackStats> {
    let root = fsat::open(upper, DIR, Mode::empty()).at_path("open", upper)?;
    let lowers = Below { known: !lowers.is_empty(), dirs: lowers.iter().map(|p| p.to_path_buf()).collect() };
    let ((entries, reserved_names), digest, size) = hashed_write(out, |out| {
        let mut packer = Packer {
            options,
            out,
            pending: Vec::new(),
            links: HashMap::new(),
            entries: 0,
            reserved: Vec::new(),
        };
        packer.walk(root, lowers)?;
        write::end(packer.out)?;
        Ok((packer.entries, packer.reserved))
    })?;
    Ok(PackStats { diff_id: DiffId(digest), size, entries, reserved_names })
}

/// The folders of lower layers that lie below one folder, topmost first.
struct Below {
    /// Whether there are lower layers at all; without, nothing is known about what is unchanged.
    known: bool,
    dirs: Vec<PathBuf>,
}

impl Below {
    /// What `name` is below, with its path; `None` where there is nothing or it was deleted.
    fn find(&self, name: &CString, marks: Marks) -> Result<Option<(Stat, PathBuf)>> {
        for dir in &self.dirs {
            let path = dir.join(to_path(name));
            match fsat::lstat_optional(CWD, path_bytes(&path)).at_path("read", &path)? {
                None => {}
                Some(stat)
                    if is_whiteout_at(CWD, path_bytes(&path), &stat, marks).at_path("read", &path)? =>
                {
                    return Ok(None);
                }
                Some(stat) => return Ok(Some((stat, path))),
            }
        }
        Ok(None)
    }

    /// What lies below the folder `name`.
    fn enter(&self, name: &CString, marks: Marks) -> Result<Below> {
        let mut dirs = Vec::new();
        for dir in &self.dirs {
            let path = dir.join(to_path(name));
            match fsat::open(&path, DIR, Mode::empty()) {
                Ok(fd) => {
                    let opaque = fsat::is_opaque(&fd, marks).at_path("read", &path)?;
                    dirs.push(path);
                    if opaque {
                        break;
                    }
                }
                Err(Errno::NOENT) => {}
                // Something else than a folder hides all folders below it.
                Err(Errno::NOTDIR | Errno::LOOP) => break,
                Err(e) => return Err(e).at_path("open", &path),
            }
        }
        Ok(Below { known: self.known, dirs })
    }
}

/// A folder that is being walked.
struct Level {
    dir: OwnedFd,
    path: Vec<u8>,
    names: vec::IntoIter<CString>,
    below: Below,
    /// Folders that wait to be written, when this one was entered.
    pending: usize,
}

struct Packer<'a> {
    options: &'a PackOptions,
    out: &'a mut ChunkWriter,
    /// Unchanged folders on the way here, written once something in them is.
    pending: Vec<Entry>,
    /// First name of each inode that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    entries: u64,
    reserved: Vec<PathBuf>,
}

impl Packer<'_> {
    fn walk(&mut self, root: OwnedFd, below: Below) -> Result<()> {
        let opaque = fsat::is_opaque(&root, self.options.marks).at("read", b"")?;
        match self.options.form {
            Form::Unix if opaque => self.marker(b".wh..wh..opq")?,
            Form::Unix => {}
            Form::Windows if opaque => return Err(Error::entry(b"", "it hides all layers below")),
            // Both first, whatever is in the folder, and the same in every layer.
            Form::Windows => {
                for name in [windows::HIVES, windows::FILES] {
                    self.write(&plain(name, Kind::Dir, 0o755))?;
                }
            }
        }
        let below = if opaque { Below { known: below.known, dirs: Vec::new() } } else { below };
        let names = fsat::names(&root).at("list", b"")?.into_iter();
        let mut stack = vec![Level { dir: root, path: Vec::new(), names, below, pending: 0 }];
        while let Some(level) = stack.last_mut() {
            let Some(name) = level.names.next() else {
                let pending = level.pending;
                stack.pop();
                // An unchanged folder that nothing was written in is not written either.
                self.pending.truncate(pending);
                continue;
            };
            let path = fsat::join(&level.path, name.as_bytes());
            let stat = fsat::lstat(&level.dir, name.as_bytes()).at("read", &path)?;
            if self.options.form == Form::Windows && level.path.is_empty() {
                if name.as_bytes() == windows::HIVES {
                    continue;
                }
                if name.as_bytes() != windows::FILES || !fsat::file_type(&stat).is_dir() {
                    return Err(Error::entry(
                        &path,
                        "layers of Windows images have files below `Files` only",
                    ));
                }
            }
            let pending = self.pending.len();
            if let Some((dir, below)) = self.visit(level, &name, &path, &stat)? {
                let names = fsat::names(&dir).at("list", &path)?.into_iter();
                stack.push(Level { dir, path, names, below, pending });
            }
        }
        Ok(())
    }

    /// Write one thing, or note an unchanged folder. Returns a folder to go into.
    fn visit(
        &mut self,
        level: &Level,
        name: &CString,
        path: &[u8],
        stat: &Stat,
    ) -> Result<Option<(OwnedFd, Below)>> {
        let marks = self.options.marks;
        if is_whiteout_at(&level.dir, name.as_bytes(), stat, marks).at("read", path)? {
            if !level.below.known || level.below.find(name, marks)?.is_some() {
                self.marker(&fsat::join(&level.path, &[b".wh.", name.as_bytes()].concat()))?;
            }
            return Ok(None);
        }
        if name.as_bytes().starts_with(b".wh.") {
            self.reserved.push(shown(path));
            return Ok(None);
        }
        if fsat::file_type(stat).is_dir() {
            return self.dir(level, name, path, stat).map(Some);
        }
        if fsat::file_type(stat).is_socket() {
            // Sockets exist only while a process listens; no tar format has them.
            return Ok(None);
        }
        // Also one of several names of a file: as in BuildKit's layers, what is unchanged stays where it was,
        // and a new name of it is a file of its own.
        if let Some((lower, lower_path)) = level.below.find(name, marks)?
            && self.same(&level.dir, name, path, stat, &lower, &lower_path)?
        {
            return Ok(None);
        }
        self.leaf(level, name, path, stat)?;
        Ok(None)
    }

    fn dir(&mut self, level: &Level, name: &CString, path: &[u8], stat: &Stat) -> Result<(OwnedFd, Below)> {
        let marks = self.options.marks;
        let dir = fsat::openat(&level.dir, name.as_c_str(), DIR, Mode::empty()).at("open", path)?;
        if fsat::get_xattr(&dir, marks.redirect()).at("read", path)?.is_some() {
            return Err(Error::entry(path, "it is an overlay redirect, which layers cannot express"));
        }
        let mut entry = self.entry(path, stat, Kind::Dir)?;
        entry.xattrs = self.xattrs(&dir, path)?;
        let opaque = fsat::is_opaque(&dir, marks).at("read", path)?;
        let hidden = level.below.find(name, marks)?;
        let unchanged = match &hidden {
            Some((lower, lower_path)) if !opaque && fsat::file_type(lower).is_dir() => {
                same_metadata(stat, lower) && entry.xattrs == self.xattrs(&open_dir(lower_path)?, path)?
            }
            _ => false,
        };
        if self.options.form == Form::Windows && path == windows::FILES {
            // It was written first.
        } else if unchanged {
            self.pending.push(entry);
        } else {
            self.write(&entry)?;
        }
        // Without anything below there is nothing to hide.
        if opaque && (hidden.is_some() || !level.below.known) {
            match self.options.form {
                Form::Unix => self.marker(&fsat::join(path, b".wh..wh..opq"))?,
                Form::Windows => self.hide_each(&level.below.enter(name, marks)?, &dir, path)?,
            }
        }
        let below = if opaque {
            Below { known: level.below.known, dirs: Vec::new() }
        } else {
            level.below.enter(name, marks)?
        };
        Ok((dir, below))
    }

    /// A whiteout for each thing that a folder hides, instead of one marker for all of them.
    fn hide_each(&mut self, below: &Below, dir: &OwnedFd, path: &[u8]) -> Result<()> {
        if !below.known {
            return Err(Error::entry(path, "it hides what is below it, and it is not known what that is"));
        }
        let own = fsat::names(dir).at("list", path)?;
        let mut hidden = BTreeSet::new();
        for lower in &below.dirs {
            hidden.extend(fsat::names(&open_dir(lower)?).at_path("list", lower)?);
        }
        for name in hidden {
            if own.contains(&name) || below.find(&name, self.options.marks)?.is_none() {
                continue;
            }
            self.marker(&fsat::join(path, &[b".wh.", name.as_bytes()].concat()))?;
        }
        Ok(())
    }

    fn leaf(&mut self, level: &Level, name: &CString, path: &[u8], stat: &Stat) -> Result<()> {
        let device = |(major, minor): (u32, u32), block: bool| {
            if block { Kind::Block { major, minor } } else { Kind::Char { major, minor } }
        };
        let numbers = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let kind = match fsat::file_type(stat) {
            t if t.is_file() => Kind::File,
            t if t.is_symlink() => Kind::Symlink,
            t if t.is_fifo() => Kind::Fifo,
            t if t.is_char_device() => device(numbers, false),
            t if t.is_block_device() => device(numbers, true),
            _ => return Err(Error::entry(path, "it is of a kind that layers cannot express")),
        };
        if self.options.form == Form::Windows && !matches!(kind, Kind::File | Kind::Symlink) {
            return Err(Error::entry(path, "Windows has no pipes and devices among its files"));
        }
        let mut entry = self.entry(path, stat, kind)?;
        if stat.st_nlink > 1 {
            #[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
            let inode = (stat.st_dev as u64, stat.st_ino as u64);
            match self.links.get(&inode) {
                Some(first) => {
                    entry.kind = Kind::HardLink;
                    entry.link = first.clone();
                    entry.size = 0;
                    return self.write(&entry);
                }
                None => drop(self.links.insert(inode, path.to_vec())),
            }
        }
        match entry.kind {
            Kind::Symlink => {
                let target =
                    rustix::fs::readlinkat(&level.dir, name.as_c_str(), Vec::new()).at("read", path)?;
                entry.link = target.into_bytes();
                self.write(&entry)
            }
            Kind::File => {
                let file = open_file(&level.dir, name).at("open", path)?;
                entry.xattrs = self.xattrs(&file, path)?;
                self.write(&entry)?;
                self.content(&file, &entry)
            }
            _ => self.write(&entry),
        }
    }

    fn content(&mut self, file: &OwnedFd, entry: &Entry) -> Result<()> {
        let mut left = entry.size;
        while left > 0 {
            let space = self.out.space()?;
            let most = space.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match rustix::io::read(file, &mut space[..most]) {
                Ok(0) => return Err(Error::Changed { path: shown(&entry.path) }),
                Ok(n) => {
                    self.out.filled(n);
                    left -= n as u64;
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(e).at("read", &entry.path),
            }
        }
        write::pad(self.out, entry.size)
    }

    fn write(&mut self, entry: &Entry) -> Result<()> {
        for dir in std::mem::take(&mut self.pending) {
            self.entries += 1;
            write::header(self.out, &dir, self.options.form)?;
        }
        self.entries += 1;
        write::header(self.out, entry, self.options.form)
    }

    /// A whiteout or opaque marker: an empty file whose metadata never vary.
    fn marker(&mut self, path: &[u8]) -> Result<()> {
        self.write(&plain(path, Kind::File, 0))
    }

    fn entry(&self, path: &[u8], stat: &Stat, kind: Kind) -> Result<Entry> {
        let (uid, gid) = match self.options.form {
            Form::Unix => self.options.ids.to_image(stat.st_uid, stat.st_gid),
            Form::Windows => Ok((0, 0)),
        }
        .map_err(|(kind, id)| Error::Unmapped { path: shown(path), kind, id })?;
        let mut mtime = fsat::mtime(stat);
        if self.options.times == Times::Seconds {
            mtime.1 = 0;
        }
        if let Some(latest) = self.options.clamp_times
            && mtime > (latest, 0)
        {
            mtime = (latest, 0);
        }
        Ok(Entry {
            path: path.to_vec(),
            link: Vec::new(),
            size: if kind == Kind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
            kind,
            mode: stat.st_mode & 0o7777,
            uid,
            gid,
            mtime,
            xattrs: Vec::new(),
            sparse: None,
        })
    }

    fn xattrs(&self, fd: &OwnedFd, path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if self.options.form == Form::Windows {
            return Ok(Vec::new());
        }
        xattrs(fd, self.options.xattrs).at("read the attributes of", path)
    }

    /// Whether a thing is what it was below: same metadata and content. Content is always compared,
    /// since a program may set any time it likes.
    fn same(
        &self,
        dir: &OwnedFd,
        name: &CString,
        path: &[u8],
        stat: &Stat,
        lower: &Stat,
        lower_path: &Path,
    ) -> Result<bool> {
        if !same_metadata(stat, lower)
            || stat.st_size != lower.st_size
            || fsat::mtime(stat) != fsat::mtime(lower)
        {
            return Ok(false);
        }
        if fsat::file_type(stat).is_symlink() {
            let link = rustix::fs::readlinkat(dir, name.as_c_str(), Vec::new()).at("read", path)?;
            return Ok(link == rustix::fs::readlink(lower_path, Vec::new()).at_path("read", lower_path)?);
        }
        if !fsat::file_type(stat).is_file() {
            return Ok(true);
        }
        let upper = open_file(dir, name).at("open", path)?;
        let lower = fsat::open(lower_path, FILE, Mode::empty()).at_path("open", lower_path)?;
        Ok(self.xattrs(&upper, path)? == self.xattrs(&lower, path)?
            && same_content(upper, lower).at("read", path)?)
    }
}

/// An entry whose metadata never vary.
fn plain(path: &[u8], kind: Kind, mode: u32) -> Entry {
    Entry {
        path: path.to_vec(),
        link: Vec::new(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        size: 0,
        xattrs: Vec::new(),
        sparse: None,
    }
}

/// The attributes of an open file that go into a layer, sorted by name.
pub(crate) fn xattrs(fd: &OwnedFd, which: Xattrs) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    const CAPABILITY: &str = "security.capability";
    if which == Xattrs::CapabilityOnly {
        let value = fsat::get_xattr(fd, CAPABILITY)?;
        return Ok(value.map(|v| (CAPABILITY.as_bytes().to_vec(), v)).into_iter().collect());
    }
    let mut out = Vec::new();
    for name in fsat::list_xattrs(fd)? {
        let wanted = name == CAPABILITY.as_bytes()
            || name.starts_with(b"user.")
            || name.starts_with(b"system.posix_acl_");
        if wanted
            && !fsat::is_overlay_mark(&name)
            && let Ok(text) = std::str::from_utf8(&name)
            && let Some(value) = fsat::get_xattr(fd, text)?
        {
            out.push((name, value));
        }
    }
    out.sort_unstable();
    Ok(out)
}

const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

fn open_file(dir: &OwnedFd, name: &CString) -> rustix::io::Result<OwnedFd> {
    fsat::openat(dir, name.as_c_str(), FILE, Mode::empty())
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    fsat::open(path, DIR, Mode::empty()).at_path("open", path)
}

fn same_metadata(a: &Stat, b: &Stat) -> bool {
    (a.st_mode, a.st_uid, a.st_gid, a.st_rdev) == (b.st_mode, b.st_uid, b.st_gid, b.st_rdev)
}

fn same_content(a: OwnedFd, b: OwnedFd) -> std::io::Result<bool> {
    use std::io::{BufRead, BufReader};
    let mut a = BufReader::with_capacity(64 * 1024, std::fs::File::from(a));
    let mut b = BufReader::with_capacity(64 * 1024, std::fs::File::from(b));
    loop {
        let (x, y) = (a.fill_buf()?, b.fill_buf()?);
        let n = x.len().min(y.len());
        if n == 0 || x[..n] != y[..n] {
            return Ok(x.is_empty() && y.is_empty());
        }
        a.consume(n);
        b.consume(n);
    }
}

/// A whiteout of either form: a `0:0` device, or an empty file with the attribute.
pub(crate) fn is_whiteout_at(
    dir: impl rustix::fd::AsFd,
    name: &[u8],
    stat: &Stat,
    marks: Marks,
) -> rustix::io::Result<bool> {
    if fsat::is_whiteout_device(stat) {
        return Ok(true);
    }
    if !fsat::file_type(stat).is_file() || stat.st_size != 0 {
        return Ok(false);
    }
    let fd = fsat::openat(dir, name, FILE, Mode::empty())?;
    Ok(fsat::get_xattr(&fd, marks.whiteout())?.is_some())
}

fn to_path(name: &CString) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()))
}

fn path_bytes(path: &Path) -> &[u8] {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes()
}
