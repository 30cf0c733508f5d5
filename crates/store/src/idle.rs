//! Snapshots that no running process uses, and giving them other files that are equal to theirs.
//!
//! Who brings the files is not the store's business: crate `layer` makes folders of hard links, `ctrbuild` decides which.

use crate::error::Context;
use crate::lease::Held;
use crate::lock::GcGuard;
use crate::{Active, LocalStore, Result, SnapshotId, disk};
use rustix::fs::{CWD, RenameFlags};
use std::collections::HashSet;
use std::path::PathBuf;

/// While it lives, nobody begins to use a snapshot. Keep it for milliseconds.
pub struct Idle<'a> {
    store: &'a LocalStore,
    _guard: GcGuard,
}

impl LocalStore {
    /// Usable snapshots that no running process holds, those first that were made first.
    pub fn idle_snapshots(&self) -> Result<Vec<SnapshotId>> {
        let held = {
            let _guard = self.exclusive()?;
            self.held_snapshots()?
        };
        let mut found = Vec::new();
        for name in disk::names(&self.path("snapshots"))? {
            let Ok(id) = name.parse::<SnapshotId>() else { continue };
            if let Some(record) = self.peek_snapshot(&id)?.filter(|_| !held.contains(&id)) {
                found.push((record.created, id));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, id)| id).collect())
    }

    /// The files of a snapshot that is not held, which may vanish at any time.
    pub fn idle_files(&self, id: &SnapshotId) -> PathBuf {
        self.snapshot_dir(id).join("fs")
    }

    /// Keep others from using `ids`. `None` where one of them is in use, or gone.
    pub fn idle(&self, ids: &[SnapshotId]) -> Result<Option<Idle<'_>>> {
        let guard = self.exclusive()?;
        let held = self.held_snapshots()?;
        for id in ids {
            if held.contains(id) || !self.has_snapshot(id)? {
                return Ok(None);
            }
        }
        Ok(Some(Idle { store: self, _guard: guard }))
    }

    /// Call under the exclusive collection lock.
    fn held_snapshots(&self) -> Result<HashSet<SnapshotId>> {
        let mut out = HashSet::new();
        for thing in self.held_by_all()? {
            match thing {
                Held::Blob(_) | Held::Named(_) => {}
                Held::Snapshot(id) => drop(out.insert(id)),
                Held::Layer(diff) => out.extend(self.peek_layer(&diff)?.and_then(|l| l.snapshot)),
                Held::Record(key) => {
                    out.extend(self.peek_record(&key)?.into_iter().flat_map(|(record, _)| record.snapshots));
                }
            }
        }
        Ok(out)
    }
}

impl Idle<'_> {
    /// Let the files of `active` take the place of those of the snapshot `id`, to which they must be equal. What was
    /// there before goes with `active`. Files that they share with snapshots `with` change what those take.
    pub fn exchange(&self, id: &SnapshotId, active: &Active, with: &[SnapshotId]) -> Result<()> {
        let files = self.store.idle_files(id);
        // Names may lead to what is not on the disk yet, in place of what is.
        rustix::fs::syncfs(&self.store.inner.root_dir).at("sync", &files)?;
        rustix::fs::renameat_with(CWD, active.upper(), CWD, &files, RenameFlags::EXCHANGE)
            .at("replace", &files)?;
        // Before the old ones are removed.
        disk::sync_dir(&self.store.snapshot_dir(id))?;
        with.iter().chain([id]).try_for_each(|id| self.store.forget_usage(id))
    }
}
