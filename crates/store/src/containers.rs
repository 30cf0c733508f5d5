//! Working containers: one folder each, `containers-v1/<id>`, with a record of what it is made of.
//!
//! The folder itself is the container's lock. A record is replaced in one step and only by whoever has the lock, after
//! everything that it names is durable: a command that is killed leaves the container as it was before. What a record
//! names is as safe from collections as what references name.

use crate::disk::{self, Durability};
use crate::error::{Context, Error};
use crate::lease::Held;
use crate::lock::{lock_dir, retry, still_named, try_lock};
use crate::reach::Unreadable;
use crate::{LocalStore, Result, SnapshotId, sealed};
use digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

const FOLDER: &str = "containers-v1";
const RECORD: &str = "container.json";
const TREE: &str = "tree";

/// One working container, as stored in `containers-v1/<id>/container.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerV1 {
    version: u32,
    /// 64 random hexadecimal digits.
    pub id: String,
    pub name: String,
    /// The manifest that it started from; nothing for an empty one.
    pub image: Option<Digest>,
    /// What was changed, lowest first.
    pub layers: Vec<SnapshotId>,
    /// Free for the caller.
    pub payload: serde_json::Value,
    /// Seconds since 1970.
    pub created: u64,
    pub updated: u64,
}

/// How a new container is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerName {
    /// So, or not at all.
    Exactly(String),
    /// So, or with the first free number behind it.
    Like(String),
}

/// The right to use and change a container. Freed when dropped.
#[derive(Debug)]
pub struct ContainerGuard {
    dir: PathBuf,
    _lock: File,
}

impl ContainerGuard {
    /// Where a copy of its files is while it is mounted: everything in here belongs to the holder of the lock.
    pub fn tree(&self) -> PathBuf {
        self.dir.join(TREE)
    }
}

impl LocalStore {
    /// Make a container of an image that is in the store.
    ///
    /// # Errors
    /// [`Error::ContainerName`] where the name is taken or is none, [`Error::MissingBlob`] without the image.
    pub fn create_container(
        &self,
        name: &ContainerName,
        image: Option<Digest>,
        payload: serde_json::Value,
    ) -> Result<ContainerV1> {
        self.check_writable()?;
        disk::ensure_dir(&self.path(FOLDER))?;
        self.seal_batch()?;
        // One maker at a time, so that no name is given twice.
        let _turn = lock_dir(&self.path(FOLDER))?;
        let taken: HashSet<String> = self.containers()?.into_iter().map(|c| c.name).collect();
        let name = match name {
            ContainerName::Exactly(name) if !is_name(name) => {
                return Err(Error::ContainerName { name: name.clone(), reason: "it is no name" });
            }
            ContainerName::Exactly(name) if taken.contains(name) => {
                return Err(Error::ContainerName { name: name.clone(), reason: "the name is in use" });
            }
            ContainerName::Exactly(name) => name.clone(),
            ContainerName::Like(name) => {
                let numbered = (1..).map(|n| format!("{name}-{n}"));
                let mut free = [name.clone()].into_iter().chain(numbered).filter(|n| !taken.contains(n));
                free.next().unwrap_or_default()
            }
        };
        let now = self.now_secs();
        let record = ContainerV1 {
            version: 1,
            id: format!("{}{}", disk::random_hex()?, disk::random_hex()?),
            name,
            image,
            layers: Vec::new(),
            payload,
            created: now,
            updated: now,
        };
        let to = self.container_dir(&record.id);
        // Made aside, so that there is no container without a record.
        let dir = self.tmp_path()?;
        disk::ensure_dir(&dir)?;
        let made = (|| {
            if self.has_found() {
                self.sync_found()?;
            }
            self.write_container(&dir, &record)?;
            // From the look at the image until the container keeps it nothing may be collected.
            let shared = self.shared()?;
            if let Some(image) = image {
                if self.peek_blob(&image)?.is_none() {
                    return Err(Error::MissingBlob(image));
                }
                // A collection that has looked at the containers already learns of this one by the line.
                self.hold_guarded(&[Held::Blob(image), Held::Named(image)], &shared)?;
            }
            fs::rename(&dir, &to).at("commit", &to)
        })();
        if made.is_err() {
            // The first error is the one to report.
            let _ = disk::remove_tree(&dir);
        }
        made?;
        disk::sync_dir(&self.path(FOLDER))?;
        Ok(record)
    }

    /// All containers, by name. Malformed ones are left out here and named by [`LocalStore::verify`].
    pub fn containers(&self) -> Result<Vec<ContainerV1>> {
        let mut out = Vec::new();
        for id in disk::names(&self.path(FOLDER))? {
            if let Ok(Some(found)) = self.peek_container(&id) {
                out.push(found);
            }
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    /// Take a container's lock and read its record, all of which is held until this handle is dropped. `waiting` is
    /// called before the first wait for another process; where it says `false`, there is none. `None` where the
    /// container is not there, or where nobody waits.
    pub fn lock_container(
        &self,
        id: &str,
        waiting: impl FnOnce() -> bool,
    ) -> Result<Option<(ContainerGuard, ContainerV1)>> {
        if !is_id(id) {
            return Ok(None);
        }
        self.check_writable()?;
        let dir = self.container_dir(id);
        let mut waiting = Some(waiting);
        loop {
            let file = match File::open(&dir) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                other => other.at("open", &dir)?,
            };
            if !try_lock(&file).at("lock", &dir)? {
                if waiting.take().is_some_and(|waiting| !waiting()) {
                    return Ok(None);
                }
                retry(|| file.lock()).at("lock", &dir)?;
            }
            // Whoever had it before may have removed it.
            if !still_named(&file, &dir) {
                continue;
            }
            let shared = self.shared()?;
            let Some(record) = self.peek_container(id)? else { return Ok(None) };
            let mut held: Vec<Held> = record.layers.iter().cloned().map(Held::Snapshot).collect();
            held.extend(record.image.map(Held::Blob));
            self.hold_guarded(&held, &shared)?;
            return Ok(Some((ContainerGuard { dir, _lock: file }, record)));
        }
    }

    /// Where a copy of a container's files is while it is mounted.
    pub fn container_tree(&self, id: &str) -> PathBuf {
        self.container_dir(id).join(TREE)
    }

    /// Whether some process has the container's lock.
    pub fn is_container_busy(&self, id: &str) -> Result<bool> {
        let dir = self.container_dir(id);
        match File::open(&dir) {
            // Shared, so that those who only look don't take each other for somebody who works.
            Ok(file) => match file.try_lock_shared() {
                Ok(()) => Ok(false),
                Err(TryLockError::WouldBlock) => Ok(true),
                Err(TryLockError::Error(e)) => Err(Error::io("lock", &dir, e)),
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io("open", &dir, e)),
        }
    }

    /// Replace a container's record. Everything that it names is sealed before: `Ok` means that it survives power loss.
    pub fn update_container(&self, guard: &ContainerGuard, record: &ContainerV1) -> Result<()> {
        self.seal_batch()?;
        if self.has_found() {
            self.sync_found()?;
        }
        let record = ContainerV1 { updated: self.now_secs(), ..record.clone() };
        self.write_container(&guard.dir, &record)
    }

    /// Remove a container. What it kept stays until a collection.
    pub fn remove_container(&self, guard: ContainerGuard) -> Result<()> {
        // To where it is found by our lease: `trash` waits for a collection if we are killed.
        let doomed = self.tmp_path()?;
        fs::rename(&guard.dir, &doomed).at("remove", &guard.dir)?;
        disk::sync_dir(&self.path(FOLDER))?;
        drop(guard);
        disk::remove_tree(&doomed)
    }

    fn write_container(&self, dir: &Path, record: &ContainerV1) -> Result<()> {
        let to = dir.join(RECORD);
        let bytes = sealed::encode(record).map_err(|source| Error::Malformed { path: to.clone(), source })?;
        disk::write_atomic(&self.tmp_path()?, &to, &bytes, Durability::Synced)
    }

    fn container_dir(&self, id: &str) -> PathBuf {
        self.path(FOLDER).join(id)
    }

    /// A container's record, without holding anything of it.
    fn peek_container(&self, id: &str) -> Result<Option<ContainerV1>> {
        if !is_id(id) {
            return Ok(None);
        }
        let path = self.container_dir(id).join(RECORD);
        let Some(bytes) = disk::read_optional(&path)? else { return Ok(None) };
        let found: ContainerV1 =
            sealed::decode(&bytes).map_err(|source| Error::Malformed { path, source })?;
        Ok((found.version == 1 && found.id == id).then_some(found))
    }

    /// All containers, as roots of a collection.
    ///
    /// # Errors
    /// Where the record of one can't be read, unless such are skipped: what it keeps is unknown then.
    pub(crate) fn containers_for_roots(&self, unreadable: Unreadable) -> Result<Vec<ContainerV1>> {
        let mut out = Vec::new();
        for id in disk::names(&self.path(FOLDER))? {
            match self.peek_container(&id) {
                Err(_) if unreadable == Unreadable::Skip => {}
                other => out.extend(other?),
            }
        }
        Ok(out)
    }

    /// Containers whose records are damaged, or that have lost layers of their own, each with the reason.
    pub(crate) fn damaged_containers(&self) -> Result<Vec<(String, String)>> {
        let mut out = Vec::new();
        for id in disk::names(&self.path(FOLDER))?.into_iter().filter(|id| is_id(id)) {
            match self.peek_container(&id) {
                Err(e) => out.push((id, e.with_cause())),
                Ok(None) if self.container_dir(&id).exists() => out.push((id, "it has no record".into())),
                Ok(None) => {}
                Ok(Some(record)) => {
                    for layer in &record.layers {
                        if !self.has_snapshot(layer)? {
                            out.push((id.clone(), format!("{} has lost its layer {layer}", record.name)));
                        }
                    }
                }
            }
        }
        Ok(out)
    }

    /// Take a damaged container out of the way.
    pub(crate) fn set_aside_container(&self, id: &str) -> Result<()> {
        let from = self.container_dir(id);
        let aside = self.path("quarantine").join(format!("{id}.{}", disk::random_hex()?));
        fs::rename(&from, &aside).at("set aside", &from)
    }
}

fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// As docker has them: a letter or digit, then also `_`, `.` and `-`. Nothing that could be an id.
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.len() <= 200
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && !is_id(name)
}
