//! Snapshots: one layer's files each, in the form of an overlay upper folder.

use crate::batch::Stamp;
use crate::disk::{self, Durability, TreeUsage};
use crate::error::{Context, Error};
use crate::lease::Held;
use crate::{LocalStore, Result, sealed};
use digest::{DiffId, Digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Name of a snapshot: 128 random bits as 32 lower-case hexadecimal digits. It says nothing about
/// the content.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(Box<str>);

impl SnapshotId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotId({})", self.0)
    }
}
/// Text that is no snapshot id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a snapshot id")]
pub struct ParseSnapshotIdError(String);

impl FromStr for SnapshotId {
    type Err = ParseSnapshotIdError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if disk::is_random_hex(s) {
            Ok(SnapshotId(s.into()))
        } else {
            Err(ParseSnapshotIdError(s.to_string()))
        }
    }
}
impl Serialize for SnapshotId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}
impl<'de> Deserialize<'de> for SnapshotId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What the maker of a snapshot knows about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// Digest of the layer's tar, where it is known already.
    pub diff_id: Option<DiffId>,
    /// Bytes of that tar.
    pub tar_size: Option<u64>,
    /// Folders that were needed but that the layer has no entry for, relative to its root.
    pub implicit_dirs: Vec<PathBuf>,
    /// Free for the maker; kept as it is.
    pub extra: BTreeMap<String, String>,
    /// Seconds since 1970, of a layer that was made elsewhere; now, if it is `None`.
    pub created: Option<u64>,
}

/// `snapshots/<id>/meta.json`, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotV1 {
    version: u32,
    pub diff_id: Option<DiffId>,
    /// Bytes of the layer's uncompressed tar.
    pub tar_size: Option<u64>,
    #[serde(with = "paths", default)]
    pub implicit_dirs: Vec<PathBuf>,
    #[serde(default)]
    pub extra: BTreeMap<String, String>,
    /// Seconds since 1970.
    pub created: u64,
    pub(crate) stamp: Stamp,
    /// Whether the files were there first, and the tar was made of them. Told by where the diff id is.
    #[serde(skip)]
    pub made_here: bool,
}

/// A snapshot in the making. Dropping it removes it; [`LocalStore::commit`] keeps it.
#[derive(Debug)]
pub struct Active {
    id: SnapshotId,
    dir: PathBuf,
    committed: bool,
}

impl Active {
    /// The folder that gets the layer's files: an overlay upper folder, empty at first, mode 0755.
    pub fn upper(&self) -> PathBuf {
        self.dir.join("fs")
    }
    /// Overlay's work folder, empty at first, in the same file system.
    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }
    /// Where mount points and other things can be put that vanish with the commit. Not made yet.
    pub fn scratch(&self) -> PathBuf {
        self.dir.join("scratch")
    }
    /// The id that the snapshot will have.
    pub fn id(&self) -> &SnapshotId {
        &self.id
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if !self.committed {
            // What cannot be removed now is removed once the lease is dead.
            let _ = disk::remove_tree(&self.dir);
        }
    }
}

impl LocalStore {
    /// Begin a snapshot with an empty upper folder.
    pub fn prepare(&self) -> Result<Active> {
        let lease = self.lease_id()?;
        let id = SnapshotId(disk::random_hex()?.into());
        let dir = self.path("active").join(format!("{lease}.{id}"));
        disk::ensure_dir(&dir)?;
        let active = Active { id, dir, committed: false };
        for folder in [active.upper(), active.work()] {
            disk::ensure_dir(&folder)?;
        }
        use std::os::unix::fs::PermissionsExt;
        let upper = active.upper();
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).at("protect", &upper)?;
        Ok(active)
    }

    /// Keep the snapshot: a rename, nothing is copied. Nothing may be mounted on it any more. It
    /// survives power loss once the batch is sealed ([`LocalStore::seal_batch`]).
    pub fn commit(&self, mut active: Active, meta: SnapshotMeta) -> Result<SnapshotId> {
        let id = active.id.clone();
        // Overlay leaves one empty folder in its work folder; the long way is for all else.
        let _ = fs::remove_dir(active.work().join("work"));
        if fs::remove_dir(active.work()).is_err() {
            disk::remove_tree(&active.work())?;
        }
        if active.scratch().exists() {
            disk::remove_tree(&active.scratch())?;
        }
        self.stamped(|stamp| {
            let record = SnapshotV1 {
                version: 1,
                diff_id: meta.diff_id,
                tar_size: meta.tar_size,
                implicit_dirs: meta.implicit_dirs,
                extra: meta.extra,
                created: meta.created.unwrap_or_else(|| self.now_secs()),
                stamp,
                made_here: false,
            };
            self.write_snapshot_meta(&active.dir, &record, Durability::Cached)?;
            let guard = self.shared()?;
            self.hold_guarded(&[Held::Snapshot(id.clone())], &guard)?;
            let to = self.snapshot_dir(&id);
            fs::rename(&active.dir, &to).at("commit", &to)
        })?;
        active.committed = true;
        Ok(id)
    }

    /// The upper folder of a committed snapshot. It is held until this handle is dropped.
    ///
    /// # Errors
    /// [`Error::MissingSnapshot`] also where power was lost before the snapshot was durable.
    pub fn snapshot_path(&self, id: &SnapshotId) -> Result<PathBuf> {
        self.snapshot(id).map(|_| self.snapshot_dir(id).join("fs"))
    }

    /// What is known about a committed snapshot. It is held until this handle is dropped.
    pub fn snapshot(&self, id: &SnapshotId) -> Result<SnapshotV1> {
        let guard = self.shared()?;
        let Some(record) = self.peek_snapshot(id)? else { return Err(Error::MissingSnapshot(id.clone())) };
        self.hold_guarded(&[Held::Snapshot(id.clone())], &guard)?;
        Ok(record)
    }

    /// See to it that a snapshot that was found outlives power loss once our batch is sealed.
    pub(crate) fn adopt_snapshot(&self, id: &SnapshotId) -> Result<()> {
        if self.usable_snapshot(id)?.is_some_and(|record| self.is_unsealed(&record.stamp)) {
            self.adopt(Held::Snapshot(id.clone()));
        }
        Ok(())
    }

    /// Note that a snapshot is on disk, where its batch does not say so.
    pub(crate) fn restamp_snapshot(&self, id: &SnapshotId) -> Result<()> {
        match self.usable_snapshot(id)? {
            Some(mut record) if self.is_unsealed(&record.stamp) => {
                record.stamp = Stamp::synced();
                self.write_snapshot_meta(&self.snapshot_dir(id), &record, Durability::Synced)
            }
            _ => Ok(()),
        }
    }

    /// Note the digest and size of the layer's tar, once they were computed. Idempotent.
    pub fn set_diff_id(&self, id: &SnapshotId, diff_id: DiffId, tar_size: u64) -> Result<()> {
        let known = self.snapshot(id)?;
        if known.diff_id == Some(diff_id) && known.tar_size == Some(tar_size) {
            return Ok(());
        }
        // A file of its own: rewriting the record could damage one that is durable already. A torn
        // note does not parse and means only that the digest is computed again.
        let note = self.snapshot_dir(id).join("diff");
        disk::write_atomic(&self.tmp_path()?, &note, &diff_note(diff_id, tar_size), Durability::Cached)
    }

    fn write_snapshot_meta(&self, dir: &Path, record: &SnapshotV1, durability: Durability) -> Result<()> {
        let to = dir.join("meta.json");
        let bytes = sealed::encode(record).map_err(|source| Error::Malformed { path: to.clone(), source })?;
        disk::write_atomic(&self.tmp_path()?, &to, &bytes, durability)
    }

    /// The record of a usable snapshot, without holding it.
    pub(crate) fn peek_snapshot(&self, id: &SnapshotId) -> Result<Option<SnapshotV1>> {
        let Some(mut record) = self.usable_snapshot(id)? else { return Ok(None) };
        record.made_here = record.diff_id.is_none();
        if record.made_here {
            let note = disk::read_optional(&self.snapshot_dir(id).join("diff"))?.unwrap_or_default();
            if let Some((diff_id, size)) = parse_diff(&note) {
                record.diff_id = Some(diff_id);
                record.tar_size = Some(size);
            }
        }
        Ok(Some(record))
    }

    fn usable_snapshot(&self, id: &SnapshotId) -> Result<Option<SnapshotV1>> {
        let Some(bytes) = disk::read_optional(&self.snapshot_dir(id).join("meta.json"))? else {
            return Ok(None);
        };
        // A torn record means that power was lost before the seal: the same as no snapshot.
        let Ok(record) = sealed::decode::<SnapshotV1>(&bytes) else { return Ok(None) };
        Ok((record.version == 1 && self.is_durable(&record.stamp)).then_some(record))
    }

    /// Whether the snapshot can be used, without holding it.
    pub(crate) fn has_snapshot(&self, id: &SnapshotId) -> Result<bool> {
        Ok(self.usable_snapshot(id)?.is_some())
    }

    /// Bytes on disk of a snapshot, measured once.
    pub(crate) fn snapshot_usage(&self, id: &SnapshotId) -> TreeUsage {
        let dir = self.snapshot_dir(id);
        let note = dir.join("usage");
        if let Some(known) = fs::read_to_string(&note).ok().and_then(|text| parse_usage(&text)) {
            return known;
        }
        let usage = disk::tree_usage(&dir);
        // Only an optimisation, so failure does not matter; a torn note does not parse.
        // A lease is not made for it: the caller may hold the collection lock.
        if let Some(tmp) = self.tmp_path_if_leased() {
            let text = format!("{} {}\n", usage.bytes, usage.saved);
            let _ = disk::write_atomic(&tmp, &note, text.as_bytes(), Durability::Cached);
        }
        usage
    }

    /// What was measured does not hold any more.
    pub(crate) fn forget_usage(&self, id: &SnapshotId) -> Result<()> {
        disk::remove_file(&self.snapshot_dir(id).join("usage")).map(drop)
    }
}

/// `<bytes> <saved>\n`; notes of older programs have the first number only.
fn parse_usage(text: &str) -> Option<TreeUsage> {
    let mut numbers = text.strip_suffix('\n')?.split(' ').map(str::parse);
    let bytes = numbers.next()?.ok()?;
    let saved = numbers.next().unwrap_or(Ok(0)).ok()?;
    numbers.next().is_none().then_some(TreeUsage { bytes, saved })
}

/// `<64 hex> <decimal> <64 hex>\n`; the last is the sha256 of what is before it and its blank.
fn diff_note(diff_id: DiffId, tar_size: u64) -> Vec<u8> {
    let text = format!("{} {tar_size}", diff_id.hex());
    format!("{text} {}\n", Digest::of(text.as_bytes()).hex()).into_bytes()
}

/// Notes of older programs have no sum.
fn parse_diff(note: &[u8]) -> Option<(DiffId, u64)> {
    let line = std::str::from_utf8(note).ok()?.strip_suffix('\n')?;
    let text = match line.match_indices(' ').nth(1) {
        None => line,
        Some((at, _)) => {
            let sum = digest::from_hex(&line[at + 1..])?;
            (Digest::of(&line.as_bytes()[..at]) == Digest::from_bytes(sum)).then_some(&line[..at])?
        }
    };
    let (hex, size) = text.split_once(' ')?;
    Some((DiffId(Digest::from_bytes(digest::from_hex(hex)?)), size.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_of_a_note_is_no_other_layer() {
        let diff_id = DiffId(Digest::of(b"x"));
        let good = diff_note(diff_id, 1234);
        assert_eq!(parse_diff(&good), Some((diff_id, 1234)));
        assert_eq!(parse_diff(format!("{} 1234\n", diff_id.hex()).as_bytes()), Some((diff_id, 1234)));
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert_eq!(parse_diff(&bad), None, "bit {bit} of byte {at}");
            }
        }
    }
}

/// Paths as JSON text: `%` and bytes that are no UTF-8 are written `%XX`.
pub(crate) mod paths {
    use super::*;

    pub fn serialize<S: serde::Serializer>(paths: &[PathBuf], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(paths.iter().map(|p| escape(p)))
    }
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<PathBuf>, D::Error> {
        Vec::<String>::deserialize(d)?
            .iter()
            .map(|text| unescape(text).ok_or_else(|| serde::de::Error::custom(format!("bad path `{text}`"))))
            .collect()
    }
    pub fn escape(path: &Path) -> String {
        let mut out = String::new();
        for chunk in path.as_os_str().as_bytes().utf8_chunks() {
            out.push_str(&chunk.valid().replace('%', "%25"));
            for b in chunk.invalid() {
                out.push_str(&format!("%{b:02X}"));
            }
        }
        out
    }
    pub fn unescape(text: &str) -> Option<PathBuf> {
        let mut out = Vec::with_capacity(text.len());
        let mut parts = text.split('%');
        out.extend_from_slice(parts.next()?.as_bytes());
        for part in parts {
            let (hex, rest) = part.split_at_checked(2)?;
            out.push(u8::from_str_radix(hex, 16).ok()?);
            out.extend_from_slice(rest.as_bytes());
        }
        Some(PathBuf::from(OsString::from_vec(out)))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn every_name_survives() {
            for raw in [&b"plain/name"[..], b"50%", b"\xff\xfe/%41", "ü/\u{1F600}".as_bytes(), b""] {
                let path = PathBuf::from(OsString::from_vec(raw.to_vec()));
                assert_eq!(unescape(&escape(&path)), Some(path));
            }
            assert_eq!(unescape("%4"), None);
            assert_eq!(unescape("%zz"), None);
        }
    }
}
