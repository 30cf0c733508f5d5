//! What one layer alone cannot tell, settled against the layers below it.
//!
//! [`crate::unpack`] knows only its own layer. Where an entry's folder has no entry itself, the lower
//! layers say what that folder is: a folder whose owner, mode and time it has, or a link to one, in
//! which case the entries belong where the link points. And a hard link may name a file below.
//!
//! Call [`settle`] for the layers from the base up, after all were unpacked. It changes only `dest`.

use crate::error::{Context, shown};
use crate::fsat::{self, DIR};
use crate::stack::{copy_dir_metadata, copy_leaf};
use crate::unpack::UnpackReport;
use crate::{Error, Marks, Result, pack};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode, RenameFlags, Stat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Links followed while one path is resolved, at most.
const MOST_LINKS: usize = 255;

/// Settle the unpacked layer `dest` against `lowers`, topmost first, which are settled already.
/// Nothing happens where the report names neither implicit folders nor links into lower layers.
///
/// # Errors
/// [`Error::Entry`] where a hard link's target is in no layer, as applying the layer would fail too.
pub fn settle(dest: &Path, lowers: &[&Path], report: &UnpackReport, marks: Marks) -> Result<()> {
    let lowers = if report.opaque_root { &[] } else { lowers };
    let settler =
        Settler { root: fsat::open(dest, DIR, Mode::empty()).at_path("open", dest)?, dest, lowers, marks };
    for dir in &report.implicit_dirs {
        settler.implicit(dir.as_os_str().as_bytes())?;
    }
    for (path, target) in &report.lower_links {
        settler.link(path.as_os_str().as_bytes(), target.as_os_str().as_bytes())?;
    }
    Ok(())
}

struct Settler<'a> {
    root: OwnedFd,
    dest: &'a Path,
    lowers: &'a [&'a Path],
    marks: Marks,
}

/// What is at a path of the lower layers, without following it.
enum Found {
    Nothing,
    Dir(Stat, PathBuf),
    Other(Stat, PathBuf),
}

impl Settler<'_> {
    fn implicit(&self, path: &[u8]) -> Result<()> {
        let (parent, name) = fsat::split(path);
        let dir = match fsat::open_beneath(&self.root, path) {
            Ok(dir) => dir,
            // Moved with a folder above it.
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => return Ok(()),
            Err(e) => return Err(e).at("open", path),
        };
        if fsat::is_opaque(&dir, self.marks).at("read", path)? {
            return Ok(());
        }
        match self.find(path)? {
            Found::Nothing => Ok(()),
            Found::Dir(stat, from) => copy_dir_metadata(&dir, &stat, &from, path),
            Found::Other(stat, _) if !fsat::file_type(&stat).is_symlink() => Ok(()),
            Found::Other(..) => {
                // The image has a link here: the entries go where it points.
                let Some(real) = self.resolve(path)? else { return Ok(()) };
                let target = self.make_dirs(&real)?;
                merge(&dir, &target, path)?;
                let above = fsat::open_beneath(&self.root, parent).at("open", parent)?;
                rustix::fs::unlinkat(&above, name, AtFlags::REMOVEDIR).at("remove", path)
            }
        }
    }

    /// Look a path up in the lower layers as overlay merges them.
    fn find(&self, path: &[u8]) -> Result<Found> {
        'layers: for lower in self.lowers {
            let mut at = lower.to_path_buf();
            let mut hidden = false;
            let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|p| !p.is_empty()).collect();
            for (i, part) in parts.iter().enumerate() {
                at.push(OsStr::from_bytes(part));
                let raw = at.as_os_str().as_bytes();
                let Some(stat) = fsat::lstat_optional(CWD, raw).at_path("read", &at)? else {
                    if hidden {
                        return Ok(Found::Nothing);
                    }
                    continue 'layers;
                };
                if pack::is_whiteout_at(CWD, raw, &stat, self.marks).at_path("read", &at)? {
                    return Ok(Found::Nothing);
                }
                let is_dir = fsat::file_type(&stat).is_dir();
                if i + 1 == parts.len() {
                    return Ok(if is_dir { Found::Dir(stat, at) } else { Found::Other(stat, at) });
                }
                if !is_dir {
                    return Ok(Found::Nothing);
                }
                let fd = fsat::open(&at, DIR, Mode::empty()).at_path("open", &at)?;
                // Layers further down do not show through.
                hidden |= fsat::is_opaque(&fd, self.marks).at_path("read", &at)?;
            }
        }
        Ok(Found::Nothing)
    }

    /// The real path of a folder of the image below, following links inside it; `None` where it is no
    /// folder in the end, or leads in circles.
    fn resolve(&self, path: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut todo: VecDeque<Vec<u8>> = parts(path);
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part == b".." {
                done.pop();
                continue;
            }
            done.push(part);
            let here = done.join(&b'/');
            match self.find(&here)? {
                Found::Dir(..) => {}
                Found::Other(stat, at) if fsat::file_type(&stat).is_symlink() => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Ok(None);
                    }
                    let target = rustix::fs::readlink(&at, Vec::new()).at_path("read", &at)?.into_bytes();
                    done.pop();
                    if target.first() == Some(&b'/') {
                        done.clear();
                    }
                    for part in parts(&target).into_iter().rev() {
                        todo.push_front(part);
                    }
                }
                Found::Other(..) => return Ok(None),
                // A dangling link: its target comes into being here, as when a layer is applied.
                Found::Nothing => {}
            }
        }
        Ok(Some(done.join(&b'/')))
    }

    /// The folder `path` of this layer, made with the metadata that it has below.
    fn make_dirs(&self, path: &[u8]) -> Result<OwnedFd> {
        let mut at = fsat::open_beneath(&self.root, b"").at_path("open", self.dest)?;
        let mut done = Vec::new();
        for part in path.split(|b| *b == b'/').filter(|p| !p.is_empty()) {
            done = fsat::join(&done, part);
            match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
                Ok(()) => {
                    at = fsat::openat(&at, part, DIR, Mode::empty()).at("open", &done)?;
                    if let Found::Dir(stat, from) = self.find(&done)? {
                        copy_dir_metadata(&at, &stat, &from, &done)?;
                    }
                }
                Err(Errno::EXIST) => at = fsat::openat(&at, part, DIR, Mode::empty()).at("open", &done)?,
                Err(e) => return Err(e).at("create", &done),
            }
        }
        Ok(at)
    }

    /// Make `path` a copy of `target` below. That they are one file in the image cannot be kept across
    /// layers without copying the target too, which is what overlay does when one is written to.
    fn link(&self, path: &[u8], target: &[u8]) -> Result<()> {
        let (parent, base) = fsat::split(target);
        let real = match self.resolve(parent)? {
            Some(real) => fsat::join(&real, base),
            None => target.to_vec(),
        };
        let Found::Other(stat, from) = self.find(&real)? else {
            return Err(Error::entry(
                path,
                format!("its hard link target `{}` is in no layer", shown(target).display()),
            ));
        };
        let (above, base) = fsat::split(&real);
        let dir = self.make_dirs(above)?;
        match fsat::lstat_optional(&dir, base).at("read", &real)? {
            Some(_) => {}
            None => copy_leaf(&dir, base, &stat, &from, &real)?,
        }
        let (parent, name) = fsat::split(path);
        let to = self.make_dirs(parent)?;
        rustix::fs::linkat(&dir, base, &to, name, AtFlags::empty()).at("link", path)
    }
}

fn parts(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|b| *b == b'/').filter(|p| !matches!(*p, b"" | b".")).map(<[u8]>::to_vec).collect()
}

/// Move all that is in `from` into `to`; folders of both merge, of other things the moved one wins.
fn merge(from: &OwnedFd, to: &OwnedFd, path: &[u8]) -> Result<()> {
    for name in fsat::names(from).at("list", path)? {
        let here = fsat::join(path, name.as_bytes());
        let raw = name.as_bytes();
        match rustix::fs::renameat_with(from, raw, to, raw, RenameFlags::NOREPLACE) {
            Ok(()) => continue,
            Err(Errno::EXIST) => {}
            Err(e) => return Err(e).at("move", &here),
        }
        let stat = |dir: &OwnedFd| fsat::lstat(dir, raw).at("read", &here);
        let (mine, theirs) = (stat(from)?, stat(to)?);
        if fsat::file_type(&mine).is_dir() && fsat::file_type(&theirs).is_dir() {
            let open = |dir: &OwnedFd| fsat::openat(dir, raw, DIR, Mode::empty()).at("open", &here);
            merge(&open(from)?, &open(to)?, &here)?;
            rustix::fs::unlinkat(from, raw, AtFlags::REMOVEDIR).at("remove", &here)?;
        } else {
            fsat::remove_tree(to, raw).at("replace", &here)?;
            rustix::fs::renameat(from, raw, to, raw).at("move", &here)?;
        }
    }
    Ok(())
}
