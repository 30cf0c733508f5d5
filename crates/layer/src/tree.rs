//! Hashes of file trees: what a cached step has read.
//!
//! A [`Tree`] is the metadata of a folder; contents are read only when a hash needs them, each file
//! once, many at a time. The hash of a node covers its kind, mode, owner, size, content, link target,
//! device numbers and attributes, and the names and hashes of what is in it. It covers no times and
//! no inode numbers, so equal files have equal hashes on every machine.
//!
//! Invariant: a file that is written to while it is hashed is an error, never a wrong hash.

use crate::error::{Context, shown};
use crate::fsat::{self, DIR};
use crate::pack::{Xattrs, xattrs};
use crate::{Error, Result};
use digest::{StableHasher, TreeHash};
use rayon::prelude::*;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, ResolveFlags, Stat};
use rustix::io::{Errno, retry_on_intr};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Schema of the hashes; a change here changes every cache key.
const NODE: &str = "ctrbuild.tree.v1";
const SELECTION: &str = "ctrbuild.tree.selection.v1";

/// What decides whether a file's content is the same as before, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileStamp {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    pub ctime: (i64, u32),
}

/// Remembers content hashes between builds. An implementation that persists must not keep a hash
/// whose `ctime` is within the clock's tick (take two seconds) of the time of `put`: a later write in
/// the same tick would go unseen.
pub trait FileHashes: Sync {
    fn get(&self, stamp: &FileStamp) -> Option<[u8; 32]>;
    fn put(&self, stamp: FileStamp, hash: [u8; 32]);
}

/// Remembers nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFileHashes;

impl FileHashes for NoFileHashes {
    fn get(&self, _: &FileStamp) -> Option<[u8; 32]> {
        None
    }
    fn put(&self, _: FileStamp, _: [u8; 32]) {}
}

/// What a filter says about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    Take,
    /// Leave it out, with all that is below.
    Skip,
    /// For a folder: leave it out unless something below is taken.
    IfNeeded,
}

/// Whether owners count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    #[default]
    Hash,
    /// All belongs to root: build contexts, whose owners mean nothing.
    Ignore,
}

/// Tells which paths (relative, and whether it is a folder) a scan takes.
pub type Filter<'a> = &'a (dyn Fn(&Path, bool) -> Visit + Sync);

/// How a tree is scanned.
#[derive(Clone, Copy, Default)]
pub struct ScanOptions<'a> {
    pub filter: Option<Filter<'a>>,
    pub owners: Owners,
    pub xattrs: Xattrs,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    File,
    Dir,
    Symlink { target: PathBuf },
    Char { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
    Socket,
}

/// One file or folder.
#[derive(Debug)]
pub struct Node {
    name: Vec<u8>,
    pub kind: NodeKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of a file.
    pub size: u64,
    pub stamp: FileStamp,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Sorted by name.
    children: Vec<Node>,
    hash: OnceLock<[u8; 32]>,
}

impl Node {
    pub fn name(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.name))
    }
    /// What a folder holds, sorted by name.
    pub fn children(&self) -> &[Node] {
        &self.children
    }
}

/// A scanned folder.
#[derive(Debug)]
pub struct Tree {
    root_fd: OwnedFd,
    root: Node,
}

impl Tree {
    /// Read the metadata of everything below `root`. No link is followed. A file that vanishes
    /// meanwhile is as if it had not been there.
    pub fn scan(root: &Path, options: &ScanOptions<'_>) -> Result<Tree> {
        let root_fd = fsat::open(root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .at_path("open", root)?;
        let stat = rustix::fs::fstat(&root_fd).at_path("read", root)?;
        let scan = Scan { options };
        let dir = fsat::open_beneath(&root_fd, b"").at_path("open", root)?;
        let root = scan.dir(dir, Vec::new(), &stat, b"")?;
        Ok(Tree { root_fd, root })
    }

    /// The folder itself.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// The node of a relative path; no link is followed.
    pub fn get(&self, path: &Path) -> Option<&Node> {
        let path = fsat::normalize(path.as_os_str().as_bytes());
        let mut node = &self.root;
        for part in path.split(|b| *b == b'/').filter(|p| !p.is_empty()) {
            let at = node.children.binary_search_by(|c| c.name.as_slice().cmp(part)).ok()?;
            node = &node.children[at];
        }
        Some(node)
    }

    /// All nodes but the root with their relative paths, parents first, sorted.
    pub fn walk(&self) -> Vec<(PathBuf, &Node)> {
        let mut out = Vec::new();
        let mut todo: Vec<(Vec<u8>, &Node)> =
            self.root.children.iter().rev().map(|c| (c.name.clone(), c)).collect();
        while let Some((path, node)) = todo.pop() {
            todo.extend(node.children.iter().rev().map(|c| (fsat::join(&path, &c.name), c)));
            out.push((shown(&path), node));
        }
        out
    }

    /// Hash of the whole folder.
    pub fn hash(&self, cache: &dyn FileHashes) -> Result<TreeHash> {
        self.node_hash(&self.root, b"", cache).map(TreeHash::from_bytes)
    }

    /// Hash of what is at a relative path, `None` where there is nothing.
    pub fn hash_at(&self, path: &Path, cache: &dyn FileHashes) -> Result<Option<TreeHash>> {
        let real = fsat::normalize(path.as_os_str().as_bytes());
        self.get(path).map(|n| self.node_hash(n, &real, cache).map(TreeHash::from_bytes)).transpose()
    }

    /// Hash of a set of paths, with their names. Order and repetition do not matter; that a path is
    /// absent counts too.
    pub fn hash_paths<P: AsRef<Path> + Sync>(&self, paths: &[P], cache: &dyn FileHashes) -> Result<TreeHash> {
        let mut names: Vec<Vec<u8>> =
            paths.iter().map(|p| fsat::normalize(p.as_ref().as_os_str().as_bytes())).collect();
        names.sort_unstable();
        names.dedup();
        let hashes: Vec<Option<[u8; 32]>> = names
            .par_iter()
            .map(|n| self.get(&shown(n)).map(|node| self.node_hash(node, n, cache)).transpose())
            .collect::<Result<_>>()?;
        let mut h = StableHasher::new(SELECTION);
        h.u64(names.len() as u64);
        for (name, hash) in names.iter().zip(hashes) {
            h.bytes(name);
            match hash {
                Some(hash) => h.tag(1).fixed(&hash),
                None => h.tag(0),
            };
        }
        Ok(TreeHash::from_bytes(h.finish()))
    }

    fn node_hash(&self, node: &Node, path: &[u8], cache: &dyn FileHashes) -> Result<[u8; 32]> {
        if let Some(known) = node.hash.get() {
            return Ok(*known);
        }
        let mut h = StableHasher::new(NODE);
        let (kind, major, minor) = match node.kind {
            NodeKind::File => (1, 0, 0),
            NodeKind::Dir => (2, 0, 0),
            NodeKind::Symlink { .. } => (3, 0, 0),
            NodeKind::Char { major, minor } => (4, major, minor),
            NodeKind::Block { major, minor } => (5, major, minor),
            NodeKind::Fifo => (6, 0, 0),
            NodeKind::Socket => (7, 0, 0),
        };
        h.tag(kind).u64(u64::from(node.mode)).u64(u64::from(node.uid)).u64(u64::from(node.gid));
        h.u64(u64::from(major)).u64(u64::from(minor));
        h.u64(node.xattrs.len() as u64);
        for (name, value) in &node.xattrs {
            h.bytes(name).bytes(value);
        }
        match &node.kind {
            NodeKind::File => {
                h.u64(node.size).fixed(&self.content(node, path, cache)?);
            }
            NodeKind::Symlink { target } => {
                h.bytes(target.as_os_str().as_bytes());
            }
            NodeKind::Dir => {
                let hashes: Vec<[u8; 32]> = node
                    .children
                    .par_iter()
                    .map(|c| self.node_hash(c, &fsat::join(path, &c.name), cache))
                    .collect::<Result<_>>()?;
                h.u64(hashes.len() as u64);
                for (child, hash) in node.children.iter().zip(hashes) {
                    h.bytes(&child.name).fixed(&hash);
                }
            }
            _ => {}
        }
        Ok(*node.hash.get_or_init(|| h.finish()))
    }

    fn content(&self, node: &Node, path: &[u8], cache: &dyn FileHashes) -> Result<[u8; 32]> {
        if let Some(known) = cache.get(&node.stamp) {
            return Ok(known);
        }
        let file = self.open(path)?;
        let changed = || Error::Changed { path: shown(path) };
        let check = |file: &OwnedFd| -> Result<()> {
            let stat = rustix::fs::fstat(file).at("read", path)?;
            if stamp(&stat) == node.stamp { Ok(()) } else { Err(changed()) }
        };
        check(&file)?;
        let mut hasher = blake3::Hasher::new();
        let mut total = 0;
        BUFFER.with_borrow_mut(|buf| {
            buf.resize(BUFFER_SIZE, 0);
            loop {
                match rustix::io::read(&file, buf.as_mut_slice()) {
                    Ok(0) => return Ok(()),
                    Ok(n) => {
                        hasher.update(&buf[..n]);
                        total += n as u64;
                    }
                    Err(Errno::INTR) => {}
                    Err(e) => return Err(e).at("read", path),
                }
            }
        })?;
        check(&file)?;
        if total != node.size {
            return Err(changed());
        }
        let hash = *hasher.finalize().as_bytes();
        cache.put(node.stamp, hash);
        Ok(hash)
    }

    fn open(&self, path: &[u8]) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            match retry_on_intr(|| rustix::fs::openat2(&self.root_fd, path, flags, Mode::empty(), resolve)) {
                Ok(fd) => return Ok(fd),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {
                    return Err(Error::Changed { path: shown(path) });
                }
                Err(Errno::NOSYS | Errno::PERM) => {
                    let (parent, name) = fsat::split(path);
                    let dir = fsat::open_beneath(&self.root_fd, parent).at("open", path)?;
                    return fsat::openat(&dir, name, flags, Mode::empty()).at("open", path);
                }
                Err(e) => return Err(e).at("open", path),
            }
        }
    }
}

const BUFFER_SIZE: usize = 128 * 1024;

thread_local! {
    /// One read buffer a thread, instead of one a file.
    static BUFFER: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
}

struct Scan<'a> {
    options: &'a ScanOptions<'a>,
}

impl Scan<'_> {
    fn dir(&self, dir: OwnedFd, name: Vec<u8>, stat: &Stat, path: &[u8]) -> Result<Node> {
        let mut node = self.node(name, stat, NodeKind::Dir);
        node.xattrs = xattrs(&dir, self.options.xattrs).at("read the attributes of", path)?;
        let names = fsat::names(&dir).at("list", path)?;
        let mut plain = Vec::new();
        let mut dirs = Vec::new();
        for name in names {
            let here = fsat::join(path, name.as_bytes());
            let Some(stat) = fsat::lstat_optional(&dir, name.as_bytes()).at("read", &here)? else { continue };
            let is_dir = fsat::file_type(&stat).is_dir();
            let visit = self.options.filter.map_or(Visit::Take, |f| f(&shown(&here), is_dir));
            match (visit, is_dir) {
                (Visit::Skip, _) | (Visit::IfNeeded, false) => {}
                (_, true) => dirs.push((name, here, stat, visit)),
                (_, false) => plain.extend(self.leaf(&dir, &name, &stat, &here)?),
            }
        }
        let inner: Vec<Option<Node>> = dirs
            .into_par_iter()
            .map(|(name, here, stat, visit)| {
                let child = match fsat::openat(&dir, name.as_c_str(), DIR, Mode::empty()) {
                    Ok(child) => child,
                    Err(Errno::NOENT) => return Ok(None),
                    Err(e) => return Err(e).at("open", &here),
                };
                let node = self.dir(child, name.into_bytes(), &stat, &here)?;
                Ok((visit == Visit::Take || !node.children.is_empty()).then_some(node))
            })
            .collect::<Result<_>>()?;
        plain.extend(inner.into_iter().flatten());
        plain.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        node.children = plain;
        Ok(node)
    }

    fn leaf(&self, dir: &OwnedFd, name: &CString, stat: &Stat, path: &[u8]) -> Result<Option<Node>> {
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let kind = match fsat::file_type(stat) {
            t if t.is_file() => NodeKind::File,
            t if t.is_symlink() => match rustix::fs::readlinkat(dir, name.as_c_str(), Vec::new()) {
                Ok(target) => NodeKind::Symlink { target: shown(target.as_bytes()) },
                Err(Errno::NOENT) => return Ok(None),
                Err(e) => return Err(e).at("read", path),
            },
            t if t.is_char_device() => NodeKind::Char { major, minor },
            t if t.is_block_device() => NodeKind::Block { major, minor },
            t if t.is_fifo() => NodeKind::Fifo,
            t if t.is_socket() => NodeKind::Socket,
            _ => return Err(Error::entry(path, "it is of an unknown kind")),
        };
        let mut node = self.node(name.as_bytes().to_vec(), stat, kind);
        if node.kind == NodeKind::File && !self.skips_file_xattrs() {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            node.xattrs = match fsat::openat(dir, name.as_c_str(), flags, Mode::empty()) {
                Ok(file) => xattrs(&file, self.options.xattrs).at("read the attributes of", path)?,
                Err(Errno::NOENT) => return Ok(None),
                Err(e) => return Err(e).at("open", path),
            };
        }
        Ok(Some(node))
    }

    /// In a context nothing but content, name and mode is carried over, so attributes do not count.
    fn skips_file_xattrs(&self) -> bool {
        self.options.owners == Owners::Ignore
    }

    fn node(&self, name: Vec<u8>, stat: &Stat, kind: NodeKind) -> Node {
        let (uid, gid) = match self.options.owners {
            Owners::Hash => (stat.st_uid, stat.st_gid),
            Owners::Ignore => (0, 0),
        };
        // The permission bits of a link mean nothing and differ between systems.
        let mode = if matches!(kind, NodeKind::Symlink { .. }) { 0o777 } else { stat.st_mode & 0o7777 };
        Node {
            name,
            size: if kind == NodeKind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
            kind,
            mode,
            uid,
            gid,
            stamp: stamp(stat),
            xattrs: Vec::new(),
            children: Vec::new(),
            hash: OnceLock::new(),
        }
    }
}

fn stamp(stat: &Stat) -> FileStamp {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
    FileStamp {
        dev: stat.st_dev as u64,
        ino: stat.st_ino as u64,
        size: stat.st_size as u64,
        mtime: fsat::mtime(stat),
        ctime: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
    }
}

/// A folder as sorted lines `kind mode uid:gid size hash path`, for tests and for people. Kinds are
/// those of `ls -l` with `f` for files; a link shows its target and a device its numbers.
pub fn dump(dir: &Path) -> Result<Vec<String>> {
    let options = ScanOptions { xattrs: Xattrs::All, ..ScanOptions::default() };
    let tree = Tree::scan(dir, &options)?;
    let mut lines = Vec::new();
    for (path, node) in tree.walk() {
        let mut size = "-".to_string();
        let mut hash = "-".to_string();
        let mut extra = String::new();
        let kind = match &node.kind {
            NodeKind::File => {
                size = node.size.to_string();
                let content = tree.content(node, path.as_os_str().as_bytes(), &NoFileHashes)?;
                hash = digest::to_hex(&content)[..16].to_string();
                'f'
            }
            NodeKind::Dir => 'd',
            NodeKind::Symlink { target } => {
                extra = format!(" -> {}", target.display());
                'l'
            }
            NodeKind::Char { major, minor } => {
                size = format!("{major},{minor}");
                'c'
            }
            NodeKind::Block { major, minor } => {
                size = format!("{major},{minor}");
                'b'
            }
            NodeKind::Fifo => 'p',
            NodeKind::Socket => 's',
        };
        for (name, value) in &node.xattrs {
            let value: String = value.iter().map(|b| format!("{b:02x}")).collect();
            extra.push_str(&format!(" [{}={value}]", String::from_utf8_lossy(name)));
        }
        let (mode, uid, gid) = (node.mode, node.uid, node.gid);
        lines.push(format!("{kind} {mode:04o} {uid}:{gid} {size} {hash} /{}{extra}", path.display()));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::Mutex;

    fn hash(dir: &Path) -> TreeHash {
        Tree::scan(dir, &ScanOptions::default()).unwrap().hash(&NoFileHashes).unwrap()
    }

    fn sample() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/f"), "one").unwrap();
        fs::write(dir.path().join("a/g"), "two").unwrap();
        std::os::unix::fs::symlink("g", dir.path().join("a/l")).unwrap();
        dir
    }

    #[test]
    fn a_hash_changes_exactly_with_what_counts() {
        use std::os::unix::fs::PermissionsExt;
        let dir = sample();
        let at = |p: &str| dir.path().join(p);
        let base = hash(dir.path());
        assert_eq!(base, hash(sample().path()), "equal trees, other inodes and times");
        fs::File::open(at("a/g")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(base, hash(dir.path()));
        type Step<'a> = &'a dyn Fn();
        let changes: [(&str, Step<'_>, Step<'_>); 6] = [
            ("content", &|| fs::write(at("a/g"), "Two").unwrap(), &|| fs::write(at("a/g"), "two").unwrap()),
            ("name", &|| fs::rename(at("a/g"), at("a/h")).unwrap(), &|| {
                fs::rename(at("a/h"), at("a/g")).unwrap()
            }),
            ("mode", &|| fs::set_permissions(at("a/g"), fs::Permissions::from_mode(0o755)).unwrap(), &|| {
                fs::set_permissions(at("a/g"), fs::Permissions::from_mode(0o644)).unwrap()
            }),
            ("folder", &|| fs::create_dir(at("c")).unwrap(), &|| fs::remove_dir(at("c")).unwrap()),
            ("place", &|| fs::rename(at("a/b/f"), at("a/f")).unwrap(), &|| {
                fs::rename(at("a/f"), at("a/b/f")).unwrap()
            }),
            (
                "target",
                &|| {
                    fs::remove_file(at("a/l")).unwrap();
                    std::os::unix::fs::symlink("h", at("a/l")).unwrap();
                },
                &|| {
                    fs::remove_file(at("a/l")).unwrap();
                    std::os::unix::fs::symlink("g", at("a/l")).unwrap();
                },
            ),
        ];
        for (what, change, undo) in changes {
            change();
            assert_ne!(base, hash(dir.path()), "{what}");
            undo();
            assert_eq!(base, hash(dir.path()), "{what}");
        }
    }

    #[test]
    fn selections_and_filters() {
        let dir = sample();
        let tree = Tree::scan(dir.path(), &ScanOptions::default()).unwrap();
        let of = |paths: &[&str]| tree.hash_paths(paths, &NoFileHashes).unwrap();
        assert_eq!(of(&["a/g", "a/b"]), of(&["/a/b/", "./a/g", "a/g"]));
        assert_ne!(of(&["a/g"]), of(&["a/b/f"]));
        assert_ne!(of(&["a/x"]), of(&[]));
        fs::write(dir.path().join("a/b/new"), "x").unwrap();
        let filter = |p: &Path, is_dir: bool| match (p.to_str(), is_dir) {
            (Some("a/b/f"), _) => Visit::Take,
            (_, true) => Visit::IfNeeded,
            _ => Visit::Skip,
        };
        let options = ScanOptions { filter: Some(&filter), ..ScanOptions::default() };
        let some = Tree::scan(dir.path(), &options).unwrap();
        let names: Vec<_> = some.walk().into_iter().map(|(p, _)| p.display().to_string()).collect();
        assert_eq!(names, ["a", "a/b", "a/b/f"]);
    }

    #[test]
    fn files_are_read_once_and_changes_are_seen() {
        struct Counting(Mutex<std::collections::HashMap<FileStamp, [u8; 32]>>, Mutex<u32>);
        impl FileHashes for Counting {
            fn get(&self, stamp: &FileStamp) -> Option<[u8; 32]> {
                self.0.lock().unwrap().get(stamp).copied()
            }
            fn put(&self, stamp: FileStamp, hash: [u8; 32]) {
                *self.1.lock().unwrap() += 1;
                self.0.lock().unwrap().insert(stamp, hash);
            }
        }
        let dir = sample();
        let cache = Counting(Mutex::default(), Mutex::default());
        for _ in 0..2 {
            let tree = Tree::scan(dir.path(), &ScanOptions::default()).unwrap();
            tree.hash(&cache).unwrap();
            tree.hash_at(Path::new("a"), &cache).unwrap();
        }
        assert_eq!(*cache.1.lock().unwrap(), 2);
        let tree = Tree::scan(dir.path(), &ScanOptions::default()).unwrap();
        fs::write(dir.path().join("a/g"), "three").unwrap();
        assert!(matches!(tree.hash(&NoFileHashes), Err(Error::Changed { .. })));
    }
}
