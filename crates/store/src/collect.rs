//! How a collection goes on while others work on the store.
//!
//! It looks at everything without keeping anybody out, and decides what is to go. Then it takes that away in batches
//! under the exclusive collection lock, each time after it has read what leases got since: whoever found, made or named
//! something meanwhile has noted that there, and no lease goes while somebody has the turn to collect (see `lease`).
//! What was noted is a root from then on and stays, with all that it needs.
//!
//! Invariants:
//! - what is taken away was garbage when it was looked at, and no lease has named it since;
//! - records go before what they need, so a collection that is killed leaves garbage and nothing else;
//! - nothing that is needed is written: a full disk can be collected.
//!
//! Deliberately not here: what is to go (`gc`), what is kept (`roots`).

use crate::gc::{GcPolicy, GcReport, Kind, Plan, Removed};
use crate::lease::Journal;
use crate::lock::{GcGuard, Turn};
use crate::mark::{EntryId, Inventory, Object};
use crate::mounts::try_lock_mount;
use crate::reach::Unreadable;
use crate::roots::Roots;
use crate::{LocalStore, Result, disk};
use rayon::prelude::*;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

/// Abandoned partial downloads are kept for this long, unless a policy removes what was used later.
const PARTIAL_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Most times that a collection goes on for the sake of a cap.
const MOST_PASSES: usize = 64;
/// More new lines than this are looked into without the lock; so often at most, since others may go on writing.
const MANY_LINES: usize = 64;
const MOST_CUTS: usize = 16;

/// How long others are kept out and let in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// A batch ends after this; it takes away one thing at least.
    pub hold: Duration,
    /// Between two batches. Kernel locks know no queue: whoever waits must have the time to wake up.
    pub pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { hold: Duration::from_millis(5), pause: Duration::from_millis(5) }
    }
}

/// When others may do what they like; for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    Begun,
    Listed,
    Between,
}

/// What goes in batches.
#[derive(Debug, Clone)]
enum Victim {
    /// To be looked at again: whoever makes it anew may hold it for long.
    Broken(EntryId),
    Evicted(EntryId),
    Garbage(Object),
}

struct Collection<'s> {
    store: &'s LocalStore,
    pace: Pace,
    moment: &'s mut dyn FnMut(Moment),
    /// `None` after the end.
    turn: Option<Turn>,
    journal: Journal,
    roots: Roots,
    /// What is out of sight and to be deleted without any lock.
    doomed: Vec<PathBuf>,
}

impl LocalStore {
    pub(crate) fn gc_paced(
        &self,
        policy: &GcPolicy,
        pace: Pace,
        moment: &mut dyn FnMut(Moment),
    ) -> Result<GcReport> {
        self.check_writable()?;
        // The lease first: it cannot be made under the exclusive lock. A full disk may refuse it, and
        // collecting must work then too.
        let _ = self.lease_id();
        let mut report = GcReport::default();
        let age = policy.unused_for.map_or(PARTIAL_AGE, |unused_for| unused_for.min(PARTIAL_AGE));
        if policy.kinds.has(Kind::Partial) {
            let (count, bytes) = self.drop_old_partials(age)?;
            if count > 0 {
                report.removed.push(Removed { kind: Kind::Partial, id: format!("{count} downloads"), bytes });
            }
        }
        self.drop_dead_key_locks()?;
        self.drop_hints(age)?;
        let mut collection = Collection::begin(self, pace, moment)?;
        // Files that several layers share go with the last of them: what a layer's removal was counted for may still be
        // there, and is measured anew.
        for _ in 0..MOST_PASSES {
            let shared = collection.pass(policy, &mut report)?;
            if !shared || policy.keep_bytes.is_none() {
                break;
            }
        }
        collection.end()?;
        collection.delete()?;
        report.freed = report.removed.iter().map(|r| r.bytes).sum();
        Ok(report)
    }

    /// Rewrite the index of one operation without keys that have no record any more. Appenders are locked out. Whether
    /// there was something to do.
    fn compact_index(&self, path: &Path, guard: Option<&GcGuard>) -> Result<bool> {
        let text = disk::read_optional(path)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut lines: Vec<&str> = Vec::new();
        let mut seen = HashSet::new();
        for line in text.lines().rev().filter(|l| !l.is_empty()) {
            let Ok(key) = line.parse() else { continue };
            if seen.insert(line) && self.cache_path(&key).exists() {
                lines.push(line);
            }
        }
        let found = !lines.is_empty() && text.lines().filter(|l| !l.is_empty()).count() == lines.len();
        if found || guard.is_none() {
            return Ok(!found);
        }
        if lines.is_empty() {
            disk::remove_file(path)?;
        } else if let Some(tmp) = self.tmp_path_if_leased() {
            let mut fresh = String::new();
            for line in lines.iter().rev() {
                fresh.push_str(line);
                fresh.push('\n');
            }
            // Lines without use cost time only, and a full disk must not end a collection.
            let _ = disk::write_atomic(&tmp, path, fresh.as_bytes(), disk::Durability::Cached);
        }
        Ok(true)
    }
}

impl<'s> Collection<'s> {
    fn begin(store: &'s LocalStore, pace: Pace, moment: &'s mut dyn FnMut(Moment)) -> Result<Self> {
        let turn = Some(store.turn()?);
        let (journal, roots) = (Journal::default(), Roots::new(Unreadable::Stop));
        let mut collection = Collection { store, pace, moment, turn, journal, roots, doomed: Vec::new() };
        // Those that died before we began hold nothing; those that end from now on stay.
        let guard = store.exclusive()?;
        collection.doomed = store.reap(&guard)?;
        let lines = collection.journal.read(store)?;
        drop(guard);
        (collection.moment)(Moment::Begun);
        collection.roots.note(store, lines)?;
        let targets = store.ref_targets(Unreadable::Stop)?;
        collection.roots.add_named(store, targets)?;
        collection.roots.add_containers(store, store.containers_for_roots(Unreadable::Stop)?)?;
        Ok(collection)
    }

    /// Forget the leases that ended meanwhile and give up the turn.
    fn end(&mut self) -> Result<()> {
        let Some(turn) = self.turn.take() else { return Ok(()) };
        let guard = self.store.exclusive()?;
        let reaped = self.store.reap(&guard);
        // Before the guard: a lease that ends looks for the turn under it.
        drop(turn);
        drop(guard);
        self.doomed.extend(reaped?);
        // With what others left there.
        self.store.add_trash(&mut self.doomed)
    }

    /// Whether a layer was removed that had files in common with others.
    fn pass(&mut self, policy: &GcPolicy, report: &mut GcReport) -> Result<bool> {
        let store = self.store;
        let others = if policy.keep_bytes.is_some() { store.other_bytes()? } else { 0 };
        let mounts = store.mount_folders()?;
        // Before the records: where there is a marker, all records of its batch are in place.
        let markers = disk::names(&store.path("batches"))?;
        let inventory = store.inventory(&self.roots, mounts)?;
        let now = store.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut plan = Plan::new(&inventory, policy, now, others);
        (self.moment)(Moment::Listed);
        let taken = self.take_away(&inventory, &plan)?;
        // What was spared is no part of the report.
        plan.evicted.retain(|id| taken.entries.contains(id));
        plan.garbage.retain(|(object, bytes)| {
            let gone = taken.objects.contains(object);
            plan.kept += if gone { 0 } else { *bytes };
            gone
        });
        if taken.shared {
            // What is left of them has a larger share now, and could be measured too early.
            let forget = || inventory.saved.keys().try_for_each(|id| store.forget_usage(id));
            forget()?;
            self.delete()?;
            forget()?;
        }
        drop_markers(store, markers, &inventory, &taken)?;
        if !taken.entries.is_empty() {
            self.compact_indices()?;
        }
        plan.describe(&taken.broken, report);
        Ok(taken.shared)
    }

    fn take_away(&mut self, inventory: &Inventory, plan: &Plan) -> Result<Taken> {
        let mut taken = Taken::default();
        let victims: Vec<Victim> = inventory
            .broken
            .iter()
            .cloned()
            .map(Victim::Broken)
            .chain(plan.evicted.iter().cloned().map(Victim::Evicted))
            .chain(plan.garbage.iter().map(|(object, _)| Victim::Garbage(object.clone())))
            .collect();
        let mut left = victims.iter().peekable();
        let mut cuts = 0;
        while left.peek().is_some() {
            let guard = self.store.exclusive()?;
            let started = Instant::now();
            let lines = self.journal.read(self.store)?;
            if lines.len() > MANY_LINES && cuts < MOST_CUTS {
                cuts += 1;
                // All that they tell of has happened. What comes while they are looked into is in the next ones.
                drop(guard);
                self.roots.note(self.store, lines)?;
                continue;
            }
            self.roots.note(self.store, lines)?;
            for victim in left.by_ref() {
                self.take(victim, inventory, &mut taken)?;
                if started.elapsed() >= self.pace.hold {
                    break;
                }
            }
            drop(guard);
            let held = started.elapsed();
            cuts = 0;
            (self.moment)(Moment::Between);
            std::thread::sleep(self.pace.pause.max(held));
        }
        Ok(taken)
    }

    /// Take one thing away, if it still may go. Called under the exclusive collection lock.
    fn take(&mut self, victim: &Victim, inventory: &Inventory, taken: &mut Taken) -> Result<()> {
        let store = self.store;
        match victim {
            // A cache mount goes with its folder.
            Victim::Evicted(id @ EntryId::Mount(_)) => drop(taken.entries.insert(id.clone())),
            Victim::Evicted(id) => {
                if !self.roots.entries.contains(id) {
                    disk::remove_file(&store.entry_path(id))?;
                    taken.entries.insert(id.clone());
                }
            }
            Victim::Broken(id) => {
                match store.batch_of(id)? {
                    // It came to be of use again.
                    Some(batch) => drop(taken.batches.insert(batch)),
                    None => {
                        disk::remove_file(&store.entry_path(id))?;
                        taken.entries.insert(id.clone());
                        taken.broken.push(id.clone());
                    }
                }
            }
            Victim::Garbage(object) if self.roots.objects.contains(object) => {}
            Victim::Garbage(object) => {
                let gone = match object {
                    Object::Blob(digest) => {
                        disk::remove_file(&store.named_path(digest))?;
                        self.take_blob(&store.blob_path(digest), &digest.hex())?
                    }
                    Object::Snapshot(id) => {
                        taken.shared |= inventory.saved.contains_key(id);
                        self.doomed.push(store.to_trash(&store.snapshot_dir(id))?);
                        true
                    }
                    // Locked until it is out of sight, so that nobody begins to use it.
                    Object::Mount(path, _) => match try_lock_mount(path) {
                        Some(_lock) => {
                            self.doomed.push(store.to_trash(path)?);
                            true
                        }
                        None => false,
                    },
                };
                if gone {
                    taken.objects.insert(object.clone());
                }
            }
        }
        Ok(())
    }

    /// Deleting a file takes ten times as long as giving it another name, so that is for later. A full disk may have no
    /// room for names.
    fn take_blob(&mut self, path: &Path, hex: &str) -> Result<bool> {
        let trash = self.store.path("trash").join(hex);
        match fs::rename(path, &trash) {
            Ok(()) => self.doomed.push(trash),
            Err(_) => drop(disk::remove_file(path)?),
        }
        Ok(true)
    }

    /// Delete what is out of sight.
    fn delete(&mut self) -> Result<()> {
        let doomed = std::mem::take(&mut self.doomed);
        doomed.par_iter().try_for_each(|path| disk::remove_tree(path))
    }

    fn compact_indices(&mut self) -> Result<()> {
        let store = self.store;
        let mut files = Vec::new();
        store.each_sharded("index-v1", "", |_, path| {
            files.push(path.to_path_buf());
            Ok(())
        })?;
        for path in files {
            if store.compact_index(&path, None)? {
                let guard = store.exclusive()?;
                store.compact_index(&path, Some(&guard))?;
                drop(guard);
            }
        }
        Ok(())
    }
}

impl Drop for Collection<'_> {
    fn drop(&mut self) {
        // After an error. Where this fails too, the next one who opens the store finds what is left.
        let _ = self.end();
    }
}

/// What was taken away.
#[derive(Debug, Default)]
struct Taken {
    entries: HashSet<EntryId>,
    /// Those of the entries that were of no use any more.
    broken: Vec<EntryId>,
    /// Batches of those that turned out to be of use.
    batches: HashSet<String>,
    objects: HashSet<Object>,
    /// Whether a layer had files in common with others.
    shared: bool,
}

/// Remove those of the markers that no record is left of.
fn drop_markers(
    store: &LocalStore,
    markers: Vec<String>,
    inventory: &Inventory,
    taken: &Taken,
) -> Result<()> {
    let entries =
        inventory.entries.iter().filter(|e| !taken.entries.contains(&e.id)).map(|e| e.batch.as_str());
    let snapshots = inventory
        .snapshot_batches
        .iter()
        .filter(|(id, _)| !taken.objects.contains(&Object::Snapshot((*id).clone())))
        .map(|(_, batch)| batch.as_str());
    let again = taken.batches.iter().map(String::as_str);
    let live: HashSet<&str> = entries.chain(snapshots).chain(again).collect();
    for name in markers.iter().filter(|name| !live.contains(name.as_str())) {
        disk::remove_file(&store.path("batches").join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
