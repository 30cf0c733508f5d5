//! Selections: which files of a tree a COPY, ADD or bind mount means.
//!
//! One walk serves both the cache key and the copy, so they can never disagree. The rules are those of
//! BuildKit's file op: wildcards match like Go's `filepath.Match` and do not cross `/`; a symlink that
//! is named is followed inside the root, those below a folder are taken as they are; `--exclude` and
//! `--parents` patterns see paths relative to the named folder.
//!
//! Invariants: entries come parents first, siblings sorted by bytes; nothing outside the root is ever
//! looked at ([`sandbox::RootDir`]).

use crate::copy::io;
use crate::file_hashes::FileHashes;
use dockerfile::ignore::Matcher;
use graph::PathSelector;
use rustix::fs::{FileType, Stat};
use sandbox::RootDir;
use solver::ErrorKind;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A tree to select from.
pub struct Tree {
    pub root: RootDir,
    pub kind: TreeKind,
    /// Contents that need not be read, where files are looked at more than once.
    pub(crate) known: Option<Arc<FileHashes>>,
}

/// How the files of a tree are seen.
pub enum TreeKind {
    /// As they are: owners, modes and attributes count.
    Layers,
    /// A folder of the builder's machine: everything belongs to root, attributes do not count, sockets
    /// are empty files, and ignored paths are not there.
    Context { ignore: Option<Arc<Matcher>> },
}

/// What kind of thing an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Dir,
    File,
    Symlink(OsString),
    Fifo,
    Socket,
    /// Character or block device with its number.
    Device {
        block: bool,
        rdev: u64,
    },
}

/// One file system object of a selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the selected root; empty for the root itself.
    pub rel: PathBuf,
    /// Real path in the tree.
    pub path: PathBuf,
    pub kind: Kind,
    /// Permission bits, 07777.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// Sorted by name.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
    /// Index in the selection of an earlier entry that is the same file.
    pub hard_link: Option<usize>,
    /// Only there since something below it was included.
    pub implied: bool,
    pub stamp: Stamp,
}

/// What tells that a file was changed between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub size: i64,
    pub mtime: (i64, i64),
    pub ctime: (i64, i64),
    pub atime: (i64, i64),
    pub inode: u64,
    pub device: u64,
}

impl Stamp {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
    pub fn of(stat: &Stat) -> Self {
        Stamp {
            size: stat.st_size,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as i64),
            ctime: (stat.st_ctime, stat.st_ctime_nsec as i64),
            atime: (stat.st_atime, stat.st_atime_nsec as i64),
            inode: stat.st_ino as u64,
            device: stat.st_dev as u64,
        }
    }
    /// Equal but for the time of the last read.
    pub fn same_content(&self, other: &Stamp) -> bool {
        Stamp { atime: (0, 0), ..*self } == Stamp { atime: (0, 0), ..*other }
    }
}

/// One match of a selector and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Last name of the match as it was found, before symlinks were followed; `/` for the root.
    pub name: OsString,
    /// Parents first; the first is the match itself.
    pub entries: Vec<Entry>,
}

impl Selected {
    pub fn root(&self) -> &Entry {
        &self.entries[0]
    }
}

fn not_found(path: &str) -> ErrorKind {
    ErrorKind::with_hint(
        format!("failed to compute cache key: failed to calculate checksum: {path:?}: not found"),
        "paths are relative to the build context (or to the stage that --from names); .dockerignore may exclude them",
    )
}

/// The folder that a wildcard is to be looked for in is missing.
pub fn no_base(base: &Path) -> ErrorKind {
    ErrorKind::with_hint(
        format!("lstat {}: no such file or directory", base.display()),
        "a wildcard may match nothing, but the folder before it must be there",
    )
}

impl Tree {
    /// The files that `selector` means.
    pub fn select(&self, selector: &PathSelector) -> Result<Vec<Selected>, ErrorKind> {
        let matches = self.matches(selector)?;
        let filter = Filter::new(selector)?;
        let mut out = Vec::with_capacity(matches.len());
        for found in matches {
            self.check_visible_links(&found)?;
            let real = match selector.follow_links {
                true => self.root.resolve(&found),
                false => self.root.resolve_parent(&found),
            }
            .map_err(io)?;
            let Some(stat) = self.lstat(&real)? else {
                return Err(not_found(&found.to_string_lossy()));
            };
            let name = found.file_name().map_or_else(|| OsString::from("/"), OsStr::to_os_string);
            let mut walk = Walk {
                tree: self,
                filter: &filter,
                entries: Vec::new(),
                inodes: HashMap::new(),
                parents: Vec::new(),
            };
            walk.visit(&real, Path::new(""), &stat)?;
            out.push(Selected { name, entries: walk.entries });
        }
        // As in BuildKit, what must be there is not looked for behind a root that is a link itself.
        let is_link = match selector.required.as_slice() {
            [] => false,
            _ => {
                let root = self.root.resolve_parent(clean(&selector.path)).map_err(io)?;
                self.lstat(&root)?.is_some_and(|s| FileType::from_raw_mode(s.st_mode).is_symlink())
            }
        };
        for required in &selector.required {
            let mut entries = out.iter().flat_map(|s| &s.entries);
            let named = |e: &Entry| Path::new("/").join(&selector.path[1..]).join(&e.rel);
            if is_link || !entries.any(|e| !e.implied && named(e).starts_with(required)) {
                return Err(not_found(required));
            }
        }
        Ok(out)
    }

    /// A link that is ignored leads nowhere, whatever it names.
    fn check_visible_links(&self, path: &Path) -> Result<(), ErrorKind> {
        if !matches!(self.kind, TreeKind::Context { ignore: Some(_) }) {
            return Ok(());
        }
        let mut at = PathBuf::from("/");
        for part in path.components().skip(1) {
            at.push(part);
            let real = self.root.resolve_parent(&at).map_err(io)?;
            if self.lstat(&real)?.is_none() {
                return Err(not_found(&path.to_string_lossy()));
            }
        }
        Ok(())
    }

    /// Paths that the selector names, wildcards resolved; sorted as a walk finds them.
    fn matches(&self, selector: &PathSelector) -> Result<Vec<PathBuf>, ErrorKind> {
        let clean = clean(&selector.path);
        let parts: Vec<&str> = clean.split('/').filter(|p| !p.is_empty()).collect();
        let first = match selector.wildcard {
            true => parts.iter().position(|p| dockerfile::glob::has_wildcard(p)).unwrap_or(parts.len()),
            false => parts.len(),
        };
        let base = format!("/{}", parts[..first].join("/"));
        if first == parts.len() {
            // BuildKit asks its client for a context's files by pattern, in which a backslash escapes, and
            // then looks for the literal name: such a file is never found.
            if selector.wildcard && base.contains('\\') && matches!(self.kind, TreeKind::Context { .. }) {
                return Err(not_found(&base));
            }
            return Ok(vec![PathBuf::from(base)]);
        }
        for pattern in &parts[first..] {
            dockerfile::glob::validate(pattern).map_err(|e| {
                ErrorKind::with_hint(
                    format!("{clean}: {e}"),
                    "close the bracket, or write [[] for a bracket itself",
                )
            })?;
        }
        let base = self.root.resolve(&base).map_err(io)?;
        if self.lstat(&base)?.is_none() {
            return Err(no_base(&base));
        }
        let mut found = vec![base];
        for (i, pattern) in parts[first..].iter().enumerate() {
            let last = first + i + 1 == parts.len();
            let mut next = Vec::new();
            for dir in &found {
                let Some(stat) = self.lstat(dir)? else { continue };
                if !FileType::from_raw_mode(stat.st_mode).is_dir() {
                    continue;
                }
                for (name, _) in self.list(dir)? {
                    let matched =
                        name.to_str().is_some_and(|n| dockerfile::glob::matches(pattern, n).unwrap_or(false));
                    if matched && (last || self.is_dir(&dir.join(&name))?) {
                        next.push(dir.join(&name));
                    }
                }
            }
            found = next;
        }
        Ok(found)
    }

    /// The real folder that a selector's wildcards are looked for in; `None` if that is the tree's root or
    /// there are none.
    pub fn wildcard_base(&self, selector: &PathSelector) -> Result<Option<PathBuf>, ErrorKind> {
        let clean = clean(&selector.path);
        let parts: Vec<&str> = clean.split('/').filter(|p| !p.is_empty()).collect();
        match parts.iter().position(|p| dockerfile::glob::has_wildcard(p)) {
            Some(first) if first > 0 && selector.wildcard => {
                self.root.resolve(format!("/{}", parts[..first].join("/"))).map(Some).map_err(io)
            }
            _ => Ok(None),
        }
    }

    fn is_dir(&self, path: &Path) -> Result<bool, ErrorKind> {
        Ok(self.lstat(path)?.is_some_and(|s| FileType::from_raw_mode(s.st_mode).is_dir()))
    }

    /// Metadata of what is at a real path; `None` if nothing is there or it is ignored.
    fn lstat(&self, path: &Path) -> Result<Option<Stat>, ErrorKind> {
        let stat = match self.root.symlink_metadata(path) {
            Ok(stat) => stat,
            Err(e) if crate::is_missing(&e) => return Ok(None),
            Err(e) => return Err(io(e)),
        };
        Ok(self.visible(path, &stat)?.then_some(stat))
    }

    /// Whether the ignore rules leave a path: itself, or something below it.
    fn visible(&self, path: &Path, stat: &Stat) -> Result<bool, ErrorKind> {
        let TreeKind::Context { ignore: Some(ignore) } = &self.kind else { return Ok(true) };
        let rel = path.strip_prefix("/").unwrap_or(path);
        if rel.as_os_str().is_empty() {
            return Ok(true);
        }
        let text = rel.to_string_lossy();
        if !ignore.matches_or_parent(&text) {
            return Ok(true);
        }
        if !FileType::from_raw_mode(stat.st_mode).is_dir() || ignore.can_skip(&text) {
            return Ok(false);
        }
        // An ignored folder is there if something in it is.
        for (name, stat) in self.root.read_dir_metadata(path).map_err(io)? {
            if self.visible(&path.join(name), &stat)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What is visible in a folder, by name, sorted.
    fn list(&self, dir: &Path) -> Result<Vec<(OsString, Stat)>, ErrorKind> {
        let mut out = Vec::new();
        for (name, stat) in self.root.read_dir_metadata(dir).map_err(io)? {
            if self.visible(&dir.join(&name), &stat)? {
                out.push((name, stat));
            }
        }
        Ok(out)
    }

    fn entry(&self, path: &Path, rel: &Path, stat: &Stat) -> Result<Entry, ErrorKind> {
        let context = matches!(self.kind, TreeKind::Context { .. });
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Symlink(self.root.read_link(path).map_err(io)?.into_os_string()),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket if context => Kind::File,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice => Kind::Device { block: false, rdev: stat.st_rdev },
            FileType::BlockDevice => Kind::Device { block: true, rdev: stat.st_rdev },
            _ => Kind::File,
        };
        let mut xattrs = Vec::new();
        if !context {
            for name in self.root.list_xattrs(path).map_err(io)? {
                let overlay = [&b"trusted.overlay."[..], b"user.overlay."];
                if overlay.iter().any(|p| name.as_bytes().starts_with(p)) {
                    continue;
                }
                if let Some(value) = self.root.get_xattr(path, &name).map_err(io)? {
                    xattrs.push((name, value));
                }
            }
        }
        let is_socket = FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
        Ok(Entry {
            rel: rel.to_path_buf(),
            path: path.to_path_buf(),
            size: if kind == Kind::File && !is_socket { stat.st_size as u64 } else { 0 },
            kind,
            mode: stat.st_mode & 0o7777,
            uid: if context { 0 } else { stat.st_uid },
            gid: if context { 0 } else { stat.st_gid },
            xattrs,
            hard_link: None,
            implied: false,
            stamp: Stamp::of(stat),
        })
    }
}

/// The `--exclude` and `--parents` patterns of a selector.
struct Filter {
    include: Option<Matcher>,
    exclude: Option<Matcher>,
}

/// What the patterns say of a path.
struct Verdict {
    included: bool,
    /// Nothing below can be included.
    prune: bool,
}

impl Filter {
    fn new(selector: &PathSelector) -> Result<Self, ErrorKind> {
        let matcher = |patterns: &[String]| match patterns {
            [] => Ok(None),
            _ => Matcher::new(patterns).map(Some).map_err(|e| ErrorKind::other(e.to_string())),
        };
        Ok(Filter { include: matcher(&selector.include)?, exclude: matcher(&selector.exclude)? })
    }

    fn judge(&self, rel: &Path) -> Verdict {
        let text = rel.to_string_lossy();
        if text.is_empty() {
            return Verdict { included: self.include.is_none(), prune: false };
        }
        let excluded = self.exclude.as_ref().is_some_and(|m| m.matches_or_parent(&text));
        let included = !excluded && self.include.as_ref().is_none_or(|m| m.matches_or_parent(&text));
        let prune = excluded && self.exclude.as_ref().is_some_and(|m| m.can_skip(&text));
        Verdict { included, prune }
    }
}

struct Walk<'t> {
    tree: &'t Tree,
    filter: &'t Filter,
    entries: Vec<Entry>,
    inodes: HashMap<(u64, u64), usize>,
    /// Folders on the way that were not included themselves.
    parents: Vec<Entry>,
}

impl Walk<'_> {
    fn visit(&mut self, path: &Path, rel: &Path, stat: &Stat) -> Result<(), ErrorKind> {
        let mut verdict = self.filter.judge(rel);
        let is_dir = FileType::from_raw_mode(stat.st_mode).is_dir();
        let is_root = rel.as_os_str().is_empty();
        // Patterns are for what is in a folder; a file that is named itself has no path that they could see.
        verdict.included |= is_root && !is_dir;
        if !verdict.included && !is_dir && !is_root {
            return Ok(());
        }
        let mut entry = self.tree.entry(path, rel, stat)?;
        // The root is always an entry: a copy needs to know what it is.
        if verdict.included || is_root {
            entry.implied = !verdict.included;
            self.flush_parents();
            if matches!(entry.kind, Kind::File) && stat.st_nlink > 1 {
                match self.inodes.entry((stat.st_dev, stat.st_ino)) {
                    std::collections::hash_map::Entry::Occupied(first) => {
                        entry.hard_link = Some(*first.get())
                    }
                    std::collections::hash_map::Entry::Vacant(slot) => {
                        slot.insert(self.entries.len());
                    }
                }
            }
            self.entries.push(entry);
        } else {
            entry.implied = true;
            self.parents.push(entry);
        }
        if is_dir && !verdict.prune {
            for (name, stat) in self.tree.list(path)? {
                self.visit(&path.join(&name), &rel.join(&name), &stat)?;
            }
        }
        if self.parents.last().is_some_and(|p| p.rel == rel) {
            self.parents.pop();
        }
        Ok(())
    }

    /// Something below was included: the folders on the way are wanted after all.
    fn flush_parents(&mut self) {
        self.entries.append(&mut self.parents);
    }
}

/// Lexical: `..` stops at the root.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(ignore: &[&str]) -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("d/sub")).unwrap();
        for file in ["a", "d/f", "d/sub/g"] {
            std::fs::write(at(file), file).unwrap();
        }
        std::os::unix::fs::symlink("d", at("ld")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        let root = RootDir::open_path(dir.path()).unwrap();
        let kind = match ignore {
            [] => TreeKind::Layers,
            patterns => TreeKind::Context { ignore: Some(Arc::new(Matcher::new(patterns).unwrap())) },
        };
        (dir, Tree { root, kind, known: None })
    }

    fn selector(path: &str) -> PathSelector {
        PathSelector {
            path: path.into(),
            wildcard: true,
            follow_links: true,
            include: Vec::new(),
            exclude: Vec::new(),
            required: Vec::new(),
        }
    }

    fn found(tree: &Tree, selector: &PathSelector) -> Result<Vec<String>, String> {
        let selection = tree.select(selector).map_err(|e| format!("{e:?}"))?;
        let entries = selection.iter().flat_map(|s| &s.entries).filter(|e| !e.implied);
        Ok(entries.map(|e| e.path.display().to_string()).collect())
    }

    #[test]
    fn wildcards_need_their_folder() {
        let (_dir, tree) = tree(&[]);
        assert_eq!(found(&tree, &selector("/d/nothing*")).unwrap(), Vec::<String>::new());
        assert_eq!(found(&tree, &selector("/a/*")).unwrap(), Vec::<String>::new());
        for missing in ["/no/*", "/d/no/x*", "/dangling/*"] {
            assert!(found(&tree, &selector(missing)).unwrap_err().contains("lstat"), "{missing}");
        }
        for bad in ["/[", "/d/[]"] {
            assert!(found(&tree, &selector(bad)).unwrap_err().contains("syntax error"), "{bad}");
        }
        assert_eq!(tree.wildcard_base(&selector("/ld/*")).unwrap(), Some("/d".into()));
        assert_eq!(tree.wildcard_base(&selector("/*/x")).unwrap(), None);
    }

    #[test]
    fn patterns_do_not_see_a_file_that_is_named() {
        let (_dir, tree) = tree(&[]);
        let include = PathSelector { include: vec!["f".into()], ..selector("/*") };
        assert!(found(&tree, &include).unwrap_err().contains("not found"));
        std::fs::remove_file(_dir.path().join("dangling")).unwrap();
        assert_eq!(found(&tree, &include).unwrap(), ["/a", "/d/f", "/d/f"]);
    }

    #[test]
    fn what_is_required_is_not_behind_a_link() {
        let (_dir, tree) = tree(&[]);
        let below = |base: &str| PathSelector {
            include: vec!["f".into()],
            required: vec![format!("{base}/f")],
            ..selector(base)
        };
        assert_eq!(found(&tree, &below("/d")).unwrap(), ["/d/f"]);
        assert!(found(&tree, &below("/ld")).unwrap_err().contains("/ld/f"));
    }

    #[test]
    fn an_ignored_link_leads_nowhere() {
        let (_dir, tree) = tree(&["*", "!d"]);
        assert_eq!(found(&tree, &selector("/d/f")).unwrap(), ["/d/f"]);
        for ignored in ["/ld", "/ld/f"] {
            assert!(found(&tree, &selector(ignored)).is_err(), "{ignored}");
        }
    }
}
