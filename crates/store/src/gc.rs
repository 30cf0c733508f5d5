//! Collection: what is reachable stays, what a policy evicts and what nothing reaches goes.
//!
//! Roots are the references, with all that their manifests reach, and the leases of processes. Cache and layer records
//! that no root keeps are entries that the policy may evict; an object goes once neither a root nor a remaining entry
//! needs it. Here is what is to go; how it goes while others work on the store is in `collect`.

use crate::collect::Pace;
use crate::disk;
use crate::mark::{Entry, EntryId, Inventory, Object};
use crate::reach::Unreadable;
use crate::{LocalStore, Result};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, UNIX_EPOCH};

/// What to remove besides garbage (which nothing reaches any more, and which always goes).
///
/// Entries that match all given ages are evicted, the longest unused first, until the store is no
/// larger than `keep_bytes`. With no age and no size, no entry is evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GcPolicy {
    /// Match entries that were not used for this long.
    pub unused_for: Option<Duration>,
    /// Match entries that were made at least this long ago.
    pub older_than: Option<Duration>,
    /// Stop once the store takes no more bytes than this. What nothing can remove (logs, records, what is in use)
    /// counts too.
    pub keep_bytes: Option<u64>,
    /// Evict entries of these kinds only.
    pub kinds: Kinds,
}

/// A set of kinds of entries. By default it has all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds(u16);

impl Default for Kinds {
    fn default() -> Self {
        Kinds::ALL
    }
}

impl Kinds {
    pub const ALL: Kinds = Kinds(u16::MAX);
    pub const NONE: Kinds = Kinds(0);

    #[must_use]
    pub const fn with(self, kind: Kind) -> Kinds {
        Kinds(self.0 | 1 << kind as u16)
    }
    pub const fn has(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u16 != 0
    }
}

impl GcPolicy {
    /// Remove only what nothing reaches.
    pub const GARBAGE: GcPolicy =
        GcPolicy { unused_for: None, older_than: None, keep_bytes: None, kinds: Kinds::ALL };
    /// Remove all that neither a reference nor a running process keeps.
    pub const ALL: GcPolicy = GcPolicy { unused_for: Some(Duration::ZERO), ..GcPolicy::GARBAGE };

    fn evicts(&self) -> bool {
        *self != GcPolicy::GARBAGE
    }
}

/// Kinds of things in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Blob,
    Snapshot,
    LayerRecord,
    CacheRecord,
    /// Unfinished downloads.
    Partial,
    /// What running processes are making, and remains of dead ones.
    Unfinished,
    /// Damaged blobs that were set aside.
    Quarantined,
    /// Folders of `RUN --mount=type=cache`.
    CacheMount,
    /// What was fetched to install base images.
    Download,
    Log,
}

/// One thing that a collection removed, or would remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    pub kind: Kind,
    pub id: String,
    /// Bytes on disk.
    pub bytes: u64,
}

/// What a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcReport {
    pub removed: Vec<Removed>,
    /// Bytes on disk that were, or would be, freed.
    pub freed: u64,
    /// Bytes on disk of all that stays.
    pub kept: u64,
}

/// Space that one kind takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub count: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes on disk that `gc(&GcPolicy::ALL)` would free now.
    pub reclaimable: u64,
    /// Bytes that would be taken in addition if equal files were not kept once.
    pub saved: u64,
}

impl LocalStore {
    /// Collect by `policy`. Safe beside running builds in any process: what they hold stays. Waits while another
    /// collection is at work; other commands wait for milliseconds only.
    pub fn gc(&self, policy: &GcPolicy) -> Result<GcReport> {
        self.gc_paced(policy, Pace::default(), &mut |_| {})
    }

    /// Bytes of all that no collection removes one by one.
    pub(crate) fn other_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for folder in [
            "layers-v1",
            "cache-v1",
            "index-v1",
            "refs",
            "named-v1",
            "batches",
            "logs",
            "os-image",
            "partial",
            "quarantine",
            "containers-v1",
            "hints-v1",
        ] {
            bytes += disk::tree_usage(&self.path(folder)).bytes;
        }
        Ok(bytes)
    }

    /// What [`LocalStore::gc`] would do now; changes nothing.
    pub fn gc_preview(&self, policy: &GcPolicy) -> Result<GcReport> {
        let inventory = self.inventory(&self.roots(Unreadable::Stop)?, self.mount_folders()?)?;
        let now = self.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let others = if policy.keep_bytes.is_some() { self.other_bytes()? } else { 0 };
        let mut report = GcReport::default();
        Plan::new(&inventory, policy, now, others).describe(&inventory.broken, &mut report);
        report.freed = report.removed.iter().map(|r| r.bytes).sum();
        Ok(report)
    }

    /// Space by kind.
    pub fn df(&self) -> Result<BTreeMap<Kind, Usage>> {
        let inventory = self.inventory(&self.roots(Unreadable::Stop)?, self.mount_folders()?)?;
        let mut usage: BTreeMap<Kind, Usage> = BTreeMap::new();
        for (object, bytes) in &inventory.objects {
            let kind = object.kind();
            let reclaimable = if inventory.rooted.contains(object) { 0 } else { *bytes };
            usage.entry(kind).or_default().add(*bytes, reclaimable);
        }
        if let Some(snapshots) = usage.get_mut(&Kind::Snapshot) {
            snapshots.saved = inventory.saved.values().sum();
        }
        for entry in inventory.entries.iter().filter(|e| !matches!(e.id, EntryId::Mount(_))) {
            let bytes = disk::own_usage(&self.entry_path(&entry.id));
            usage.entry(entry.kind()).or_default().add(bytes, if entry.rooted { 0 } else { bytes });
        }
        for (folder, kind) in [
            ("partial", Kind::Partial),
            ("active", Kind::Unfinished),
            ("tmp", Kind::Unfinished),
            ("trash", Kind::Unfinished),
            ("quarantine", Kind::Quarantined),
            ("os-image", Kind::Download),
            ("logs", Kind::Log),
            ("hints-v1", Kind::CacheRecord),
        ] {
            for name in disk::names(&self.path(folder))? {
                let path = self.path(folder).join(name);
                let bytes = disk::own_usage(&path) + disk::tree_usage(&path).bytes;
                usage.entry(kind).or_default().add(bytes, 0);
            }
        }
        Ok(usage)
    }
}

impl Usage {
    fn add(&mut self, bytes: u64, reclaimable: u64) {
        self.count += 1;
        self.bytes += bytes;
        self.reclaimable += reclaimable;
    }
}

impl Entry {
    fn kind(&self) -> Kind {
        match self.id {
            EntryId::Record(_) => Kind::CacheRecord,
            EntryId::Layer(_) => Kind::LayerRecord,
            EntryId::Mount(_) => Kind::CacheMount,
        }
    }
}

impl Object {
    fn kind(&self) -> Kind {
        match self {
            Object::Blob(_) => Kind::Blob,
            Object::Snapshot(_) => Kind::Snapshot,
            Object::Mount(..) => Kind::CacheMount,
        }
    }
}

/// What is to go.
pub(crate) struct Plan {
    pub evicted: Vec<EntryId>,
    /// With the bytes on disk of each.
    pub garbage: Vec<(Object, u64)>,
    /// Bytes on disk of all else.
    pub kept: u64,
}

impl Plan {
    /// `others` are the bytes of what is in no inventory.
    pub fn new(inventory: &Inventory, policy: &GcPolicy, now: Duration, others: u64) -> Plan {
        // How many entries need each object; rooted ones can never be freed.
        let mut users: HashMap<&Object, u32> = HashMap::new();
        for object in inventory.entries.iter().flat_map(|e| &e.needs) {
            *users.entry(object).or_default() += 1;
        }
        let mut kept: u64 = inventory
            .objects
            .iter()
            .filter(|(o, _)| inventory.rooted.contains(*o) || users.contains_key(*o))
            .map(|(_, bytes)| bytes)
            .sum();
        kept += others;
        let mut evicted = Vec::new();
        for entry in policy.candidates(inventory, now) {
            if policy.keep_bytes.is_some_and(|limit| kept <= limit) {
                break;
            }
            for object in &entry.needs {
                let Some(count) = users.get_mut(object) else { continue };
                *count -= 1;
                if *count == 0 && !inventory.rooted.contains(object) {
                    kept -= inventory.objects.get(object).copied().unwrap_or(0);
                }
            }
            evicted.push(entry.id.clone());
        }
        let garbage = inventory
            .objects
            .iter()
            .filter(|(o, _)| !inventory.rooted.contains(*o) && users.get(*o).copied().unwrap_or(0) == 0)
            .map(|(o, bytes)| (o.clone(), *bytes))
            .collect();
        Plan { evicted, garbage, kept }
    }

    /// Add what goes to `report`, also the entries that were `broken`.
    pub fn describe(&self, broken: &[EntryId], report: &mut GcReport) {
        for id in broken.iter().chain(&self.evicted) {
            let (kind, id) = match id {
                EntryId::Record(key) => (Kind::CacheRecord, key.to_string()),
                EntryId::Layer(diff) => (Kind::LayerRecord, diff.to_string()),
                // Named with its folder, below.
                EntryId::Mount(_) => continue,
            };
            report.removed.push(Removed { kind, id, bytes: 0 });
        }
        for (object, bytes) in &self.garbage {
            let id = match object {
                Object::Blob(digest) => digest.to_string(),
                Object::Snapshot(id) => id.to_string(),
                Object::Mount(_, name) => name.clone(),
            };
            report.removed.push(Removed { kind: object.kind(), id, bytes: *bytes });
        }
        report.kept = self.kept;
    }
}

impl GcPolicy {
    /// Entries that may be evicted, the longest unused first.
    fn candidates<'a>(&self, inventory: &'a Inventory, now: Duration) -> Vec<&'a Entry> {
        if !self.evicts() {
            return Vec::new();
        }
        let used = |e: &Entry| e.used.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut matching: Vec<&Entry> = inventory
            .entries
            .iter()
            .filter(|e| !e.rooted && self.kinds.has(e.kind()))
            .filter(|e| self.unused_for.is_none_or(|age| used(e) + age <= now || age.is_zero()))
            .filter(|e| self.older_than.is_none_or(|age| Duration::from_secs(e.created) + age <= now))
            .collect();
        matching.sort_by_key(|e| used(e));
        matching
    }
}
