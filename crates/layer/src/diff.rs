//! What was done to a copy of the lower layers, as an overlay upper folder.
//!
//! Where a step can't work on an overlay, it works on a copy of the layers below ([`crate::stack`]). Afterwards
//! [`extract`] moves what is new or changed into an upper folder, with the whiteouts and opaque folders that
//! overlay would have made. All else (packing, later mounts) then has one form of layer to deal with.
//!
//! The copy is the step's own work and is not trusted: no link in it is followed.

use crate::error::Context;
use crate::fsat::{self, DIR};
use crate::stack::{Record, Stamp, set_dir_metadata};
use crate::unpack::times;
use crate::{Marks, Result, pack};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::CString;
use std::path::Path;

/// Move what differs from `record` in the copy `work` into the empty folder `upper` of the same file system. The
/// copy is useless afterwards.
///
/// Overlay lets nobody make a device 0:0, since that is its mark for what is deleted; in a copy it means the same.
pub fn extract(work: &Path, record: &Record, upper: &Path, marks: Marks) -> Result<()> {
    let open = |path: &Path| fsat::open(path, DIR, Mode::empty()).at_path("open", path);
    let mut differ = Differ { record, marks, stack: Vec::new() };
    differ.enter(open(work)?, Vec::new(), Some(open(upper)?))?;
    differ.run()
}

/// A folder that was there before.
struct Level {
    work: OwnedFd,
    path: Vec<u8>,
    /// As the step left it; moving things out of it changes its times.
    stat: Stat,
    names: std::vec::IntoIter<CString>,
    /// Its counterpart, once something in it needs one.
    upper: Option<OwnedFd>,
}

struct Differ<'a> {
    record: &'a Record,
    marks: Marks,
    stack: Vec<Level>,
}

/// What became of a name.
enum Fate {
    Untouched,
    /// A folder, still the same; whether it was itself changed.
    Same {
        touched: bool,
    },
    /// New, changed, or in another's place; whether it hides a folder or anything else below it.
    Moved {
        hides: bool,
    },
    Gone,
}

impl Differ<'_> {
    fn enter(&mut self, work: OwnedFd, path: Vec<u8>, upper: Option<OwnedFd>) -> Result<()> {
        let stat = rustix::fs::fstat(&work).at("read", &path)?;
        let mut names = fsat::names(&work).at("list", &path)?;
        if let Some(before) = self.record.dirs.get(&path) {
            names.extend(before.keys().cloned());
            names.sort_unstable();
            names.dedup();
        }
        self.stack.push(Level { work, path, stat, names: names.into_iter(), upper });
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        while let Some(level) = self.stack.last_mut() {
            let Some(name) = level.names.next() else {
                self.leave()?;
                continue;
            };
            let path = fsat::join(&level.path, name.as_bytes());
            let before = self.record.dirs.get(&level.path).and_then(|names| names.get(&name));
            match fate(&level.work, &name, before).at("read", &path)? {
                Fate::Untouched => {}
                Fate::Same { touched } => {
                    let dir = fsat::openat(&level.work, &name, DIR, Mode::empty()).at("open", &path)?;
                    self.enter(dir, path, None)?;
                    if touched {
                        self.uppers()?;
                    }
                }
                Fate::Gone => {
                    if before.is_some() {
                        let upper = self.uppers()?;
                        whiteout(upper, &name).at("mark the deletion of", &path)?;
                    }
                }
                Fate::Moved { hides } => {
                    self.uppers()?;
                    let Some(level) = self.stack.last() else { break };
                    let Some(upper) = &level.upper else { break };
                    rustix::fs::renameat(&level.work, &name, upper, &name).at("move", &path)?;
                    clean(upper, &name, &path)?;
                    if hides {
                        self.hide(upper, &name, &path)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes the counterparts of all folders down to the present one.
    fn uppers(&mut self) -> Result<&OwnedFd> {
        let mut above: Option<&OwnedFd> = None;
        for level in &mut self.stack {
            let made = match (level.upper.take(), above) {
                (Some(made), _) => made,
                (None, Some(above)) => {
                    let (_, name) = fsat::split(&level.path);
                    rustix::fs::mkdirat(above, name, Mode::from_raw_mode(0o700)).at("create", &level.path)?;
                    fsat::openat(above, name, DIR, Mode::empty()).at("open", &level.path)?
                }
                (None, None) => return Err(crate::Error::Internal("the root of a layer is missing")),
            };
            above = Some(level.upper.insert(made));
        }
        above.ok_or(crate::Error::Internal("a difference outside of the root"))
    }

    /// The present folder is done: its counterpart gets its metadata.
    fn leave(&mut self) -> Result<()> {
        let Some(level) = self.stack.pop() else { return Ok(()) };
        let Some(upper) = level.upper else { return Ok(()) };
        let xattrs =
            pack::xattrs(&level.work, pack::Xattrs::All).at("read the attributes of", &level.path)?;
        set_dir_metadata(&upper, &level.stat, &xattrs, &level.path)
    }

    /// The folder `name` took the place of something below.
    fn hide(&self, parent: &OwnedFd, name: &CString, path: &[u8]) -> Result<()> {
        let dir = fsat::openat(parent, name, DIR, Mode::empty()).at("open", path)?;
        match fsat::set_xattr(&dir, self.marks.opaque().as_bytes(), b"y") {
            Ok(()) => Ok(()),
            // A file system without attributes: what is below is hidden name by name.
            Err(Errno::NOTSUP) => self.hide_names(dir, path),
            Err(e) => Err(e).at("mark", path),
        }
    }

    fn hide_names(&self, dir: OwnedFd, path: &[u8]) -> Result<()> {
        let mut todo = vec![(dir, path.to_vec())];
        while let Some((dir, path)) = todo.pop() {
            let Some(before) = self.record.dirs.get(&path) else { continue };
            let stat = rustix::fs::fstat(&dir).at("read", &path)?;
            for (name, stamp) in before {
                let here = fsat::join(&path, name.as_bytes());
                match fsat::lstat_optional(&dir, name.as_bytes()).at("read", &here)? {
                    None => whiteout(&dir, name).at("mark the deletion of", &here)?,
                    Some(now) if fsat::file_type(&now).is_dir() && stamp.is_dir() => {
                        let deeper = fsat::openat(&dir, name, DIR, Mode::empty());
                        todo.push((deeper.at("open", &here)?, here));
                    }
                    Some(_) => {}
                }
            }
            rustix::fs::futimens(&dir, &times(fsat::mtime(&stat))).at("set the time of", &path)?;
        }
        Ok(())
    }
}

fn fate(dir: &OwnedFd, name: &CString, before: Option<&Stamp>) -> rustix::io::Result<Fate> {
    let now = match Stamp::of(dir, name.as_bytes()) {
        Ok(now) => now,
        Err(Errno::NOENT) => return Ok(Fate::Gone),
        Err(e) => return Err(e),
    };
    if FileType::from_raw_mode(now.mode).is_char_device()
        && fsat::is_whiteout_device(&fsat::lstat(dir, name.as_bytes())?)
    {
        return Ok(Fate::Gone);
    }
    Ok(match before {
        None => Fate::Moved { hides: false },
        Some(before) if !now.is(before) => Fate::Moved { hides: now.is_dir() },
        Some(before) if now.is_dir() => Fate::Same { touched: now != *before },
        Some(before) if now == *before => Fate::Untouched,
        Some(_) => Fate::Moved { hides: false },
    })
}

/// A mark that something below is deleted. No right is needed for this device.
pub(crate) fn whiteout(dir: &OwnedFd, name: &CString) -> rustix::io::Result<()> {
    rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)
}

/// Takes away what would mean something to overlay: its attributes, and devices 0:0.
fn clean(parent: &OwnedFd, name: &CString, path: &[u8]) -> Result<()> {
    let stat = fsat::lstat(parent, name.as_bytes()).at("read", path)?;
    if fsat::file_type(&stat).is_file() {
        return clean_file(parent, name).at("read the attributes of", path);
    }
    if !fsat::file_type(&stat).is_dir() {
        return Ok(());
    }
    // A stack instead of recursion: a step may nest folders as deep as it likes.
    let mut stack = vec![clean_dir(parent, name, path)?];
    while let Some((fd, path, dirs)) = stack.last_mut() {
        let Some(name) = dirs.pop() else {
            stack.pop();
            continue;
        };
        let here = fsat::join(path, name.as_bytes());
        let next = clean_dir(fd, &name, &here)?;
        stack.push(next);
    }
    Ok(())
}

/// Cleans one folder and what is no folder in it; returns the folders in it.
fn clean_dir(parent: &OwnedFd, name: &CString, path: &[u8]) -> Result<(OwnedFd, Vec<u8>, Vec<CString>)> {
    let fd = fsat::openat(parent, name, DIR, Mode::empty()).at("open", path)?;
    let stat = rustix::fs::fstat(&fd).at("read", path)?;
    strip(&fd).at("read the attributes of", path)?;
    let mut dirs = Vec::new();
    let mut removed = false;
    for name in fsat::names(&fd).at("list", path)? {
        let here = fsat::join(path, name.as_bytes());
        let stat = fsat::lstat(&fd, name.as_bytes()).at("read", &here)?;
        match fsat::file_type(&stat) {
            kind if kind.is_dir() => dirs.push(name),
            kind if kind.is_file() => clean_file(&fd, &name).at("read the attributes of", &here)?,
            _ if fsat::is_whiteout_device(&stat) => {
                rustix::fs::unlinkat(&fd, &name, AtFlags::empty()).at("remove", &here)?;
                removed = true;
            }
            _ => {}
        }
    }
    if removed {
        rustix::fs::futimens(&fd, &times(fsat::mtime(&stat))).at("set the time of", path)?;
    }
    Ok((fd, path.to_vec(), dirs))
}

fn clean_file(dir: &OwnedFd, name: &CString) -> rustix::io::Result<()> {
    const FILE: OFlags =
        OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
    strip(&fsat::openat(dir, name, FILE, Mode::empty())?)
}

fn strip(fd: &OwnedFd) -> rustix::io::Result<()> {
    for name in fsat::list_xattrs(fd)?.iter().filter(|name| fsat::is_overlay_mark(name)) {
        match rustix::fs::fremovexattr(fd, name.as_slice()) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
