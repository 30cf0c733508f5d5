//! Automatic linking: a COPY whose layer says nothing about its base is used again on another base.
//!
//! The layer that a file op makes depends on its base only through what stands at the paths that it
//! touches. Where that can be told from a look at the base (no symlink on the way, nothing that is
//! replaced, folders with known owner and mode), the look is hashed together with the op and what it
//! copies. Two bases with the same hash get the same layer: the copy is not done again, and a registry
//! that has the layer has it for both.
//!
//! Where it cannot be told, the op is simply executed.

use crate::file_op::source;
use crate::select::{Kind, clean};
use crate::{LocalWorker, hash, passwd, windows};
use digest::{CacheKey, StableHasher};
use graph::{CopyFrom, FileAction, FileOp, Owner};
use layer::pack::Form;
use rustix::fs::FileType;
use sandbox::RootDir;
use solver::{ErrorKind, Job};
use std::path::{Path, PathBuf};

/// What stands at a path.
enum Place {
    Missing,
    Dir,
    /// A symlink, a file, anything that makes the result depend on more than a look.
    Other,
}

/// The key under which the op's own layer can be found for any base that looks the same; `None` if that
/// can't be told. `base` is the root file system before the op.
pub fn key(
    worker: &LocalWorker,
    job: &Job,
    op: &FileOp,
    base: &RootDir,
) -> Result<Option<CacheKey>, ErrorKind> {
    // What Windows can't have depends on all names of a folder, not only on those that are touched.
    if windows::form_of(&job.graph.get(job.vertex).platform.os) == Form::Windows {
        return Ok(None);
    }
    let mut h = StableHasher::new("ctrbuild.relink.v1");
    h.put(op);
    let mut look = Look { base, h: &mut h };
    for action in &op.actions {
        let told = match action {
            FileAction::Mkfile(_) => false,
            FileAction::Mkdir(mkdir) => {
                look.owner(&mkdir.owner)?;
                !matches!(look.path(Path::new(&clean(&mkdir.path)))?, Place::Other)
            }
            FileAction::Copy(copy) if copy.unpack => false,
            FileAction::Copy(copy) => {
                look.owner(&copy.owner)?;
                let dest = PathBuf::from(clean(&copy.dest));
                match &copy.from {
                    CopyFrom::Inline { name, .. } => look.file(&dest, Path::new(name))?,
                    CopyFrom::Input { input, selector } => {
                        let (tree, selection) = source(worker, job, *input, selector)?;
                        let content = hash::hash(&tree, &selection)?;
                        look.h.put(&content);
                        let mut told = true;
                        for selected in selection.iter() {
                            told &= match selected.root().kind {
                                Kind::Dir => look.tree(&dest, selected.entries.iter().skip(1))?,
                                _ => look.file(&dest, Path::new(&selected.name))?,
                            };
                        }
                        told
                    }
                }
            }
        };
        if !told {
            return Ok(None);
        }
    }
    Ok(Some(CacheKey::from_bytes(h.finish())))
}

struct Look<'a> {
    base: &'a RootDir,
    h: &'a mut StableHasher,
}

impl Look<'_> {
    /// The numbers behind a name are the base's.
    fn owner(&mut self, owner: &Option<Owner>) -> Result<(), ErrorKind> {
        if let Some(Owner(spec)) = owner {
            let (uid, gid) = passwd::owner(Some(self.base), spec)?;
            self.h.put(&uid).put(&gid);
        }
        Ok(())
    }

    /// One name, not followed.
    fn name(&mut self, path: &Path) -> Result<Place, ErrorKind> {
        match self.base.symlink_metadata(path) {
            Err(e) if crate::is_missing(&e) => {
                self.h.tag(0);
                Ok(Place::Missing)
            }
            Err(e) => Err(crate::copy::io(e)),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => {
                self.h.tag(1).put(&(stat.st_mode & 0o7777)).put(&stat.st_uid).put(&stat.st_gid);
                Ok(Place::Dir)
            }
            Ok(_) => Ok(Place::Other),
        }
    }

    /// A path and all folders on the way to it.
    fn path(&mut self, path: &Path) -> Result<Place, ErrorKind> {
        let mut so_far = PathBuf::from("/");
        let mut place = Place::Dir;
        for part in path.components().skip(1) {
            so_far.push(part);
            place = self.name(&so_far)?;
            if !matches!(place, Place::Dir) {
                // Below what is missing, everything is missing. Anything else must be the last part.
                return Ok(if so_far == path || matches!(place, Place::Missing) {
                    place
                } else {
                    Place::Other
                });
            }
        }
        Ok(place)
    }

    /// A file that goes to `dest`, or into it if that is a folder.
    fn file(&mut self, dest: &Path, name: &Path) -> Result<bool, ErrorKind> {
        Ok(match self.path(dest)? {
            Place::Missing => true,
            Place::Dir => matches!(self.name(&dest.join(name))?, Place::Missing),
            Place::Other => false,
        })
    }

    /// A folder whose contents go into `dest`.
    fn tree<'e>(
        &mut self,
        dest: &Path,
        entries: impl Iterator<Item = &'e crate::select::Entry>,
    ) -> Result<bool, ErrorKind> {
        match self.path(dest)? {
            Place::Missing => return Ok(true),
            Place::Other => return Ok(false),
            Place::Dir => {}
        }
        // A folder that the base lacks hides all below it.
        let mut missing: Option<PathBuf> = None;
        for entry in entries {
            if missing.as_ref().is_some_and(|m| entry.rel.starts_with(m)) {
                continue;
            }
            match (self.name(&dest.join(&entry.rel))?, &entry.kind) {
                (Place::Missing, Kind::Dir) => missing = Some(entry.rel.clone()),
                (Place::Missing, _) => {}
                (Place::Dir, Kind::Dir) => {
                    // The entry may equal what is there, and then it is not in the layer.
                    let stat = self.base.symlink_metadata(dest.join(&entry.rel)).map_err(crate::copy::io)?;
                    self.h.u64(stat.st_mtime as u64).u64(stat.st_mtime_nsec);
                }
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}
