//! Verification: read everything, compare it with its name, and repair what can be.

use crate::batch::Stamp;
use crate::error::{Context, Error};
use crate::gc::Kind;
use crate::mark::EntryId;
use crate::reach::{Reached, Unreadable};
use crate::refs::RefV1;
use crate::{LocalStore, Result, SnapshotId, SnapshotV1, disk, sealed};
use digest::{CacheKey, DiffId, Digest};
use rayon::prelude::*;
use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Tells whether the files of a snapshot still make the layer of its diff id. The store knows no
/// tar, so the caller brings this.
pub type SnapshotCheck<'a> = &'a (dyn Fn(&Path, &SnapshotV1) -> io::Result<bool> + Sync);

/// What to verify, and what to do about damage.
#[derive(Clone, Copy, Default)]
pub enum VerifyOptions {
    /// Only report.
    #[default]
    Report,
    /// Set damaged blobs and references aside, put references together again where that can be done, and
    /// drop records and snapshots that cannot be used. What must be fetched is not the store's business.
    Repair,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The bytes are not those of the name.
    DamagedBlob { digest: Digest },
    /// The blob could not be read at all.
    UnreadableBlob { digest: Digest, reason: String },
    /// The files are not those of the diff id, or could not be read.
    DamagedSnapshot { id: SnapshotId, reason: String },
    /// The record is damaged, so nobody can use the files.
    OrphanSnapshot { id: SnapshotId },
    /// Left by a command that power loss ended before this was durable. Nothing that was reported as done needs it;
    /// a collection removes it.
    Unfinished { kind: Kind, id: String },
    /// Damaged, or without what it needs: a miss.
    UselessRecord { key: CacheKey },
    /// As for records: neither files nor blobs are left.
    UselessLayer { diff_id: DiffId },
    /// The record of a reference is damaged. Nothing is collected while there is one.
    MalformedRef { file: String },
    /// A working container can't be used: its record is damaged, or layers of its own are lost. Nothing is collected
    /// while there is a damaged record.
    DamagedContainer { id: String, reason: String },
    /// An image whose manifest is here lacks its configuration.
    LostConfig { name: String, digest: Digest },
    /// Others may have changed what is in the store, and not all of it has a digest that would tell.
    Exposed { path: PathBuf, reason: String },
    /// A reference points at a blob that is absent or damaged.
    DanglingRef { name: String, digest: Digest },
    /// Something of a referenced image is absent. Normal for platforms that were never pulled.
    IncompleteImage { name: String, digest: Digest },
}

/// What a verification saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    pub blobs: u64,
    pub blob_bytes: u64,
    pub snapshots: u64,
    pub records: u64,
    pub refs: u64,
    pub findings: Vec<Finding>,
    /// How many findings were repaired.
    pub repaired: u64,
}

impl VerifyReport {
    /// Whether nothing is damaged or lost. Incomplete images are fine, and so is what was not finished.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|f| {
            matches!(
                f,
                Finding::IncompleteImage { .. } | Finding::Exposed { .. } | Finding::Unfinished { .. }
            )
        })
    }

    /// Whether nobody else could have written to the store.
    pub fn is_trusted(&self) -> bool {
        !self.findings.iter().any(|f| matches!(f, Finding::Exposed { .. }))
    }
}

impl LocalStore {
    /// Rehash all blobs (in parallel), check all records and references, and all snapshots by
    /// `check`, where one is given.
    pub fn verify(&self, options: VerifyOptions, check: Option<SnapshotCheck<'_>>) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        self.verify_access(options, &mut report)?;
        self.verify_blobs(options, &mut report)?;
        self.verify_snapshots(options, check, &mut report)?;
        self.verify_records(options, &mut report)?;
        self.verify_refs(options, &mut report)?;
        self.verify_containers(options, &mut report)?;
        Ok(report)
    }

    fn verify_containers(&self, options: VerifyOptions, report: &mut VerifyReport) -> Result<()> {
        for (id, reason) in self.damaged_containers()? {
            if matches!(options, VerifyOptions::Repair) {
                self.check_writable()?;
                // Its changes can't be told any more, or are gone.
                self.set_aside_container(&id)?;
                report.repaired += 1;
            }
            report.findings.push(Finding::DamagedContainer { id, reason });
        }
        Ok(())
    }

    /// The store's folders belong to its user, and nobody else writes to them.
    fn verify_access(&self, options: VerifyOptions, report: &mut VerifyReport) -> Result<()> {
        let owner = rustix::process::geteuid().as_raw();
        let folders = crate::local::FOLDERS.iter().map(|f| self.path(f)).chain([self.root().to_path_buf()]);
        for path in folders {
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            let reason = if !meta.is_dir() {
                "it is not a folder".to_string()
            } else if meta.uid() != owner {
                format!("it belongs to user {}", meta.uid())
            } else if meta.mode() & 0o022 != 0 {
                format!("others may write to it (mode {:04o})", meta.mode() & 0o7777)
            } else {
                continue;
            };
            if matches!(options, VerifyOptions::Repair) && meta.is_dir() && meta.uid() == owner {
                self.check_writable()?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).at("protect", &path)?;
                report.repaired += 1;
            }
            report.findings.push(Finding::Exposed { path, reason });
        }
        Ok(())
    }

    fn verify_blobs(&self, options: VerifyOptions, report: &mut VerifyReport) -> Result<()> {
        let mut digests = Vec::new();
        self.each_sharded("blobs/sha256", "", |hex, _| {
            digests.extend(digest::from_hex(hex).map(Digest::from_bytes));
            Ok(())
        })?;
        let hashed: Vec<_> = digests.par_iter().map(|d| (*d, hash_file(&self.blob_path(d)))).collect();
        for (digest, outcome) in hashed {
            match outcome {
                Ok((actual, size)) => {
                    report.blobs += 1;
                    report.blob_bytes += size;
                    if actual == digest {
                        continue;
                    }
                    report.findings.push(Finding::DamagedBlob { digest });
                }
                // Collected while we read.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => report.findings.push(Finding::UnreadableBlob { digest, reason: e.to_string() }),
            }
            if matches!(options, VerifyOptions::Repair) {
                self.check_writable()?;
                self.quarantine(&digest, None)?;
                report.repaired += 1;
            }
        }
        Ok(())
    }

    fn verify_snapshots(
        &self,
        options: VerifyOptions,
        check: Option<SnapshotCheck<'_>>,
        report: &mut VerifyReport,
    ) -> Result<()> {
        let ids: Vec<SnapshotId> =
            disk::names(&self.path("snapshots"))?.iter().filter_map(|n| n.parse().ok()).collect();
        report.snapshots = ids.len() as u64;
        let checked: Vec<Option<Finding>> = ids
            .into_par_iter()
            .map(|id| -> Result<_> {
                let Some(record) = self.peek_snapshot(&id)? else {
                    // Where something durable needs it, that is told of the one which needs it.
                    let unfinished = self.is_unfinished(&self.snapshot_dir(&id).join("meta.json"))?;
                    return Ok(Some(match unfinished {
                        true => Finding::Unfinished { kind: Kind::Snapshot, id: id.to_string() },
                        false => Finding::OrphanSnapshot { id },
                    }));
                };
                let dir = self.snapshot_dir(&id).join("fs");
                if !dir.is_dir() {
                    let reason = "its files are gone".to_string();
                    return Ok(Some(Finding::DamagedSnapshot { id, reason }));
                }
                Ok(match (check, record.diff_id) {
                    (Some(check), Some(_)) => match check(&dir, &record) {
                        Ok(true) => None,
                        Ok(false) => {
                            let reason = "its files were changed".to_string();
                            Some(Finding::DamagedSnapshot { id, reason })
                        }
                        // What the store can't do now, such as note on a full disk what it reads, is no damage.
                        Err(e) => match e.downcast::<Error>() {
                            Ok(ours) => return Err(ours),
                            Err(e) => Some(Finding::DamagedSnapshot { id, reason: e.to_string() }),
                        },
                    },
                    _ => None,
                })
            })
            .collect::<Result<_>>()?;
        for finding in checked.into_iter().flatten() {
            if let (VerifyOptions::Repair, Finding::DamagedSnapshot { id, .. }) = (options, &finding) {
                self.check_writable()?;
                // Without its record nobody finds it; it is an orphan then.
                disk::remove_file(&self.snapshot_dir(id).join("meta.json"))?;
                report.repaired += 1;
            }
            report.findings.push(finding);
        }
        if matches!(options, VerifyOptions::Repair) {
            self.remove_orphans(report)?;
        }
        Ok(())
    }

    fn remove_orphans(&self, report: &mut VerifyReport) -> Result<()> {
        let found: Vec<SnapshotId> = report
            .findings
            .iter()
            .filter_map(|f| match f {
                Finding::OrphanSnapshot { id } | Finding::DamagedSnapshot { id, .. } => Some(id.clone()),
                Finding::Unfinished { kind: Kind::Snapshot, id } => id.parse().ok(),
                _ => None,
            })
            .collect();
        if found.is_empty() {
            return Ok(());
        }
        self.lease_id()?;
        let guard = self.exclusive()?;
        let mut doomed = Vec::new();
        for id in found {
            // Looked at again under the lock. A snapshot is named with its record, so one without is no
            // snapshot that is just being made.
            if self.peek_snapshot(&id)?.is_none() && self.snapshot_dir(&id).exists() {
                doomed.push(self.to_trash(&self.snapshot_dir(&id))?);
                let unfinished = Finding::Unfinished { kind: Kind::Snapshot, id: id.to_string() };
                let orphan = Finding::OrphanSnapshot { id };
                let repaired = report.findings.contains(&orphan) || report.findings.contains(&unfinished);
                report.repaired += u64::from(repaired);
            }
        }
        drop(guard);
        doomed.iter().try_for_each(|path| disk::remove_tree(path))
    }

    fn verify_records(&self, options: VerifyOptions, report: &mut VerifyReport) -> Result<()> {
        // The lease first: it cannot be made under the exclusive lock.
        if matches!(options, VerifyOptions::Repair) {
            self.lease_id()?;
        }
        let inventory = self.inventory(&self.roots(Unreadable::Skip)?, Vec::new())?;
        report.records = (inventory.entries.len() + inventory.broken.len()) as u64;
        let mut named = Reached { unreadable: Unreadable::Skip, ..Reached::default() };
        if !inventory.broken.is_empty() {
            for reference in self.list_refs()? {
                self.reach(reference.target.digest, &mut named)?;
            }
        }
        for id in inventory.broken {
            let unfinished = self.is_unfinished(&self.entry_path(&id))?;
            let finding = match id.clone() {
                EntryId::Record(key) if unfinished => {
                    Finding::Unfinished { kind: Kind::CacheRecord, id: key.to_string() }
                }
                EntryId::Record(key) => Finding::UselessRecord { key },
                EntryId::Layer(diff_id) if unfinished && !named.layers.contains(&diff_id) => {
                    Finding::Unfinished { kind: Kind::LayerRecord, id: diff_id.to_string() }
                }
                EntryId::Layer(diff_id) => Finding::UselessLayer { diff_id },
                // A folder without a record can't have a useless one.
                EntryId::Mount(_) => continue,
            };
            if matches!(options, VerifyOptions::Repair) {
                // Looked at again under the lock: it may have been replaced by a good one.
                let _guard = self.exclusive()?;
                let useless = self.batch_of(&id)?.is_none();
                report.repaired += u64::from(useless && disk::remove_file(&self.entry_path(&id))?);
            }
            report.findings.push(finding);
        }
        Ok(())
    }

    /// Whether the record at `path` was not durable yet when power was lost.
    fn is_unfinished(&self, path: &Path) -> Result<bool> {
        #[derive(serde::Deserialize)]
        struct Stamped {
            stamp: Stamp,
        }
        let Some(bytes) = disk::read_optional(path)? else { return Ok(true) };
        Ok(match sealed::decode::<Stamped>(&bytes) {
            Ok(record) => !self.is_durable(&record.stamp),
            Err(_) => sealed::is_torn(&bytes),
        })
    }

    fn verify_refs(&self, options: VerifyOptions, report: &mut VerifyReport) -> Result<()> {
        let guard = match options {
            VerifyOptions::Repair => Some(self.refs_lock()?),
            VerifyOptions::Report => None,
        };
        for file in disk::names(&self.path("refs"))? {
            let Some(bytes) = disk::read_optional(&self.path("refs").join(&file))? else { continue };
            report.refs += 1;
            let Ok(reference) = sealed::decode::<RefV1>(&bytes) else {
                if let Some(guard) = &guard {
                    report.repaired += u64::from(self.mend_ref(&file, guard)?);
                }
                report.findings.push(Finding::MalformedRef { file });
                continue;
            };
            let (name, digest) = (reference.name, reference.target.digest);
            let damaged = report
                .findings
                .iter()
                .any(|f| matches!(f, Finding::DamagedBlob { digest: d } | Finding::UnreadableBlob { digest: d, .. } if *d == digest));
            if damaged || self.peek_blob(&digest)?.is_none() {
                report.findings.push(Finding::DanglingRef { name, digest });
                continue;
            }
            let mut reached = Reached { unreadable: Unreadable::Skip, ..Reached::default() };
            self.reach(digest, &mut reached)?;
            let mut absent = Vec::new();
            let unpacked = self.unpacked(&reached)?;
            for blob in &reached.blobs {
                if !unpacked.contains(blob) && self.peek_blob(blob)?.is_none() {
                    absent.push(*blob);
                }
            }
            absent.sort_unstable();
            report.findings.extend(absent.into_iter().map(|digest| {
                let name = name.clone();
                match reached.configs.contains(&digest) {
                    true => Finding::LostConfig { name, digest },
                    false => Finding::IncompleteImage { name, digest },
                }
            }));
        }
        Ok(())
    }
}

impl LocalStore {
    /// Blobs of layers whose files are here, which are made of these when they are wanted.
    fn unpacked(&self, reached: &Reached) -> Result<HashSet<Digest>> {
        let mut out = HashSet::new();
        for diff_id in &reached.layers {
            if let Some(record) = self.peek_layer(diff_id)?
                && record.snapshot.is_some()
            {
                out.insert(diff_id.0);
                out.extend(self.known_blobs(diff_id)?);
            }
        }
        Ok(out)
    }
}

fn hash_file(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = fs::File::open(path)?;
    let mut hasher = digest::Sha256::new();
    let mut buf = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        match file.read(&mut buf) {
            Ok(0) => return Ok((hasher.finish(), size)),
            Ok(n) => {
                hasher.update(&buf[..n]);
                size += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
