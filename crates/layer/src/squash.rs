//! Several layers as one: what a stack of upper folders says together about whatever lies below them.
//!
//! Where overlay would hide something of the layers below, the result has the mark for it, and no mark more: a file that
//! came and went within the stack leaves no trace. Files are linked, not copied: layers are never changed in place.

use crate::error::Context;
use crate::fsat::{self, DIR};
use crate::stack::{Merged, copy_dir_metadata, copy_leaf, merge};
use crate::{Marks, Result, diff};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode};
use rustix::io::Errno;
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// A folder to be made, or one whose content is complete.
enum Visit {
    Enter { path: Vec<u8>, uppers: Vec<PathBuf>, below: Below },
    Leave { path: Vec<u8>, like: PathBuf },
}

/// What lies below a folder.
#[derive(Clone)]
struct Below {
    dirs: Vec<PathBuf>,
    /// Whether it is to be hidden name by name, since the folder above could not be marked.
    hidden: bool,
}

/// Merge `uppers` (the topmost first) into the empty folder `dest` of the same file system, as one layer on `lowers`
/// (the topmost first).
pub fn squash(uppers: &[&Path], lowers: &[&Path], dest: &Path, marks: Marks) -> Result<()> {
    let root = rustix::fs::open(dest, DIR, Mode::empty()).at_path("open", dest)?;
    let owned = |paths: &[&Path]| paths.iter().map(|p| p.to_path_buf()).collect::<Vec<_>>();
    let below = Below { dirs: owned(lowers), hidden: false };
    let mut todo = vec![Visit::Enter { path: Vec::new(), uppers: owned(uppers), below }];
    while let Some(visit) = todo.pop() {
        match visit {
            Visit::Leave { path, like } => {
                let dir = fsat::open_beneath(&root, &path).at("open", &path)?;
                let stat = rustix::fs::stat(&like).at_path("read", &like)?;
                copy_dir_metadata(&dir, &stat, &like, &path)?;
            }
            Visit::Enter { path, uppers, below } => {
                let dir = fsat::open_beneath(&root, &path).at("open", &path)?;
                if let Some(like) = uppers.first() {
                    todo.push(Visit::Leave { path: path.clone(), like: like.clone() });
                }
                fill(&dir, &path, &uppers, &below, marks, &mut todo)?;
            }
        }
    }
    Ok(())
}

/// Make everything in one folder, the folders in it empty; those are noted in `todo`.
fn fill(
    dir: &OwnedFd,
    path: &[u8],
    uppers: &[PathBuf],
    below: &Below,
    marks: Marks,
    todo: &mut Vec<Visit>,
) -> Result<()> {
    let mut lower = merge(&below.dirs, marks)?;
    lower.retain(|_, merged| !matches!(merged, Merged::Hidden));
    for (name, merged) in merge(uppers, marks)? {
        let here = fsat::join(path, name.as_bytes());
        let covered = lower.remove(&name);
        match merged {
            Merged::Hidden => {
                if covered.is_some() {
                    diff::whiteout(dir, &name).at("mark the deletion of", &here)?;
                }
            }
            Merged::Leaf(stat, from) => match link(dir, &name, &from) {
                Ok(()) => {}
                // An inode has only so many names, and some file systems know but one.
                Err(Errno::MLINK | Errno::PERM | Errno::NOTSUP) => {
                    copy_leaf(dir, name.as_bytes(), &stat, &from, &here)?;
                }
                Err(e) => return Err(e).at("link", &here),
            },
            Merged::Dir(parts, closed) => {
                rustix::fs::mkdirat(dir, &name, Mode::from_raw_mode(0o700)).at("create", &here)?;
                let (dirs, mut hidden) = match covered {
                    Some(Merged::Dir(dirs, _)) => (dirs, below.hidden),
                    _ => (Vec::new(), false),
                };
                let mut below = Below { dirs, hidden };
                if closed && !below.dirs.is_empty() {
                    let made = rustix::fs::openat(dir, &name, DIR, Mode::empty()).at("open", &here)?;
                    match fsat::set_xattr(&made, marks.opaque().as_bytes(), b"y") {
                        Ok(()) => below.dirs.clear(),
                        // A file system without attributes: what is below is hidden name by name.
                        Err(Errno::NOTSUP) => hidden = true,
                        Err(e) => return Err(e).at("mark", &here),
                    }
                }
                below.hidden = hidden;
                todo.push(Visit::Enter { path: here, uppers: parts, below });
            }
        }
    }
    if below.hidden {
        for name in lower.keys() {
            let here = fsat::join(path, name.as_bytes());
            diff::whiteout(dir, name).at("mark the deletion of", &here)?;
        }
    }
    Ok(())
}

fn link(dir: &OwnedFd, name: &CString, from: &Path) -> rustix::io::Result<()> {
    rustix::fs::linkat(CWD, from, dir, name, AtFlags::empty())
}
