//! Mount points that were made for a step: removed afterwards if they are still empty, with the times of their
//! folders restored, so that nothing of a mount enters a layer.

use std::path::Path;

use rustix::fs::{AtFlags, FileType, Timespec, Timestamps};

use crate::error::Error;
use crate::overlay::MountFd;
use crate::rootdir::RootDir;
use crate::spec::Stub;
use crate::wire::{StubRecord, Times};

/// Times as they travel.
pub fn times_of(stat: &rustix::fs::Stat) -> Times {
    Times {
        access: (stat.st_atime as u64, stat.st_atime_nsec as u32),
        modification: (stat.st_mtime as u64, stat.st_mtime_nsec as u32),
    }
}

fn timestamps(times: Times) -> Timestamps {
    let time = |(sec, nsec): (u64, u32)| Timespec { tv_sec: sec as i64, tv_nsec: i64::from(nsec) };
    Timestamps { last_access: time(times.access), last_modification: time(times.modification) }
}

/// Removes what `made` lists, the latest first. The step is over: nothing is mounted in the root any more.
pub fn clean(root: MountFd, made: Vec<StubRecord>) -> Vec<Stub> {
    let root = RootDir::from(std::os::fd::OwnedFd::from(root));
    let mut stubs: Vec<Stub> = made
        .into_iter()
        .rev()
        .map(|record| Stub { removed: remove(&root, &record).is_ok_and(|gone| gone), path: record.path })
        .collect();
    stubs.reverse();
    stubs
}

/// True if the stub is gone.
fn remove(root: &RootDir, record: &StubRecord) -> Result<bool, Error> {
    // The step may have put a symlink in place of a parent.
    if root.resolve_parent(&record.path)? != record.path {
        return Ok(false);
    }
    let stat = match root.symlink_metadata(&record.path) {
        Ok(stat) => stat,
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(e) => return Err(e),
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    let parent = record.path.parent().unwrap_or(Path::new("/"));
    let current = times_of(&root.metadata(parent)?);
    if record.folder {
        if !kind.is_dir() || !root.read_dir(&record.path)?.is_empty() {
            return Ok(false);
        }
        root.remove_dir(&record.path)?;
    } else {
        if !kind.is_file() || stat.st_size != 0 {
            return Ok(false);
        }
        root.remove_file(&record.path)?;
    }
    let unchanged = current.modification == record.after.modification;
    let times = timestamps(if unchanged { record.before } else { current });
    let (folder, name) = root.parent(parent)?;
    rustix::fs::utimensat(&folder, &name, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| Error::io("can't restore times", e))?;
    Ok(true)
}
