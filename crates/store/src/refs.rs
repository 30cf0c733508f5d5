//! References: names that keep images, one file each.

use crate::disk::{self, Durability};
use crate::error::{Context, Error};
use crate::lease::Held;
use crate::lock::RefsGuard;
use crate::reach::Unreadable;
use crate::{LocalStore, Result, sealed};
use digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;

/// Longest escaped name that is used as a file name as it is.
const LONGEST: usize = 200;
/// Notes about who points at a blob begin anew where they are longer than this.
const NOTES: u64 = 64 * 1024;
/// How the file of a longer one begins.
const HASHED: &str = "%sha256-";

/// Where a reference points: a descriptor (OCI image spec, descriptor.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefTarget {
    pub media_type: String,
    pub digest: Digest,
    /// Bytes of the blob.
    pub size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// One reference, as stored in `refs/<escaped name>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefV1 {
    version: u32,
    pub name: String,
    pub target: RefTarget,
    /// What the reference is for, such as `image` or `base`; free for the caller.
    pub kind: String,
    /// Seconds since 1970.
    pub updated: u64,
}

/// What a reference must be for a change to happen (compare and swap).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Whatever it is.
    Any,
    /// It must not exist.
    Absent,
    /// It must point at this blob.
    Digest(Digest),
}

impl LocalStore {
    /// One reference by name.
    pub fn get_ref(&self, name: &str) -> Result<Option<RefV1>> {
        let path = self.path("refs").join(file_name(name)?);
        let Some(bytes) = disk::read_optional(&path)? else { return Ok(None) };
        let found: RefV1 =
            sealed::decode(&bytes).map_err(|source| Error::Malformed { path: path.clone(), source })?;
        // Also guards against two long names with one hash.
        Ok((found.name == name).then_some(found))
    }

    /// All references, by name. Malformed files are left out here and named by
    /// [`LocalStore::verify`].
    pub fn list_refs(&self) -> Result<Vec<RefV1>> {
        self.list_refs_named(|_| true)
    }

    /// The references whose names begin with `prefix`, which must not be empty, by name. The others are not read: a
    /// store may have many.
    pub fn list_refs_below(&self, prefix: &str) -> Result<Vec<RefV1>> {
        // What is escaped depends on no byte but the first. Long names are told by their hash, the start of one by
        // nothing: those few are read.
        let start = escape(prefix);
        self.list_refs_filed(
            |file| file.starts_with(HASHED) || file.starts_with(&start),
            |name| name.starts_with(prefix),
        )
    }

    /// The references whose names are `wanted`, by name. The others are not read: a store may have many.
    pub fn list_refs_named(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<RefV1>> {
        // Of the longest names, only the files know them.
        self.list_refs_filed(|file| ref_name(file).is_none_or(|name| wanted(&name)), &wanted)
    }

    fn list_refs_filed(
        &self,
        file_wanted: impl Fn(&str) -> bool,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<RefV1>> {
        let mut out = Vec::new();
        for file in disk::names(&self.path("refs"))? {
            if file_wanted(&file) {
                let bytes = disk::read_optional(&self.path("refs").join(file))?;
                let found = bytes.and_then(|b| sealed::decode::<RefV1>(&b).ok());
                out.extend(found.filter(|r| wanted(&r.name)));
            }
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    /// The references that point at a blob, by name.
    pub fn refs_to(&self, digest: &Digest) -> Result<Vec<RefV1>> {
        let hex = digest.hex();
        let mut out: Vec<RefV1> = disk::each_file(&self.path("refs"), |_, bytes| {
            // Looked for as text first: nearly all point elsewhere, and reading a record takes longer.
            let record = find(bytes, hex.as_bytes()).then(|| sealed::decode::<RefV1>(bytes).ok())?;
            record.filter(|r| r.target.digest == *digest)
        })?;
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    /// Whether a reference points at a blob. Where it has one, others are read only if nobody has noted that.
    pub fn is_named(&self, digest: &Digest) -> Result<bool> {
        self.is_named_besides(digest, &[])
    }

    /// As [`LocalStore::is_named`], by a reference of another name than `names`.
    pub fn is_named_besides(&self, digest: &Digest, names: &[&str]) -> Result<bool> {
        let is_other = |r: &RefV1| r.target.digest == *digest && !names.contains(&r.name.as_str());
        let notes = disk::read_optional(&self.named_path(digest))?.unwrap_or_default();
        let notes = String::from_utf8_lossy(&notes);
        for file in notes.lines().rev().filter(|file| ref_name(file).is_some() || is_hashed(file)) {
            // What can't be read is for those who look at all of them.
            let bytes = std::fs::read(self.path("refs").join(file));
            let record = bytes.ok().and_then(|bytes| sealed::decode::<RefV1>(&bytes).ok());
            if record.is_some_and(|r| is_other(&r)) {
                return Ok(true);
            }
        }
        Ok(self.refs_to(digest)?.iter().any(is_other))
    }

    /// Note that a reference points at a blob. Nobody relies on it, so failing does not matter.
    fn note_named(&self, digest: &Digest, file: &str) {
        let path = self.named_path(digest);
        let _ = disk::ensure_dir(&self.path("named-v1"));
        let Ok(mut notes) = disk::with_parent(&path, || disk::open_or_create(&path)) else { return };
        if notes.metadata().is_ok_and(|meta| meta.len() > NOTES) {
            let _ = notes.set_len(0);
        }
        // Apart from a line that a full disk cut short.
        let _ = notes.write_all(format!("\n{file}\n").as_bytes());
    }

    /// How many references there are.
    pub fn count_refs(&self) -> Result<usize> {
        disk::count(&self.path("refs"))
    }

    /// What all references point at.
    ///
    /// # Errors
    /// Where one can't be read, unless such are skipped: what it keeps is unknown then.
    pub(crate) fn ref_targets(&self, unreadable: Unreadable) -> Result<Vec<Digest>> {
        let targets = disk::each_file(&self.path("refs"), |file, bytes| {
            match (sealed::decode::<RefV1>(bytes), unreadable) {
                (Ok(record), _) => Some(Ok(record.target.digest)),
                (Err(_), Unreadable::Skip) => None,
                (Err(source), Unreadable::Stop) => {
                    let path = self.path("refs").join(&*file.to_string_lossy());
                    // Names that are not UTF-8 are never ours.
                    file.to_str().ok().map(|_| Err(Error::Malformed { path, source }))
                }
            }
        })?;
        targets.into_iter().collect()
    }

    /// Put a reference whose record was damaged together again, from the name of its file and from the
    /// first digest in it that is the name of a sound blob. Where that fails, the file is set aside.
    /// `Ok(true)` where the reference is back.
    pub(crate) fn mend_ref(&self, file: &str, guard: &RefsGuard) -> Result<bool> {
        let path = self.path("refs").join(file);
        let Some(bytes) = disk::read_optional(&path)? else { return Ok(true) };
        if sealed::decode::<RefV1>(&bytes).is_ok() {
            return Ok(true);
        }
        let aside = self.path("quarantine").join(format!("{}.{}", digest_of_name(file), disk::random_hex()?));
        std::fs::rename(&path, &aside).at("set aside", &path)?;
        let Some((name, target)) = ref_name(file).zip(self.target_in(&bytes)?) else {
            return Ok(false);
        };
        let kind = if find(&bytes, br#""kind":"base""#) { "base" } else { "image" };
        self.set_ref_locked(&name, target, kind, &Expected::Absent, guard)?;
        Ok(true)
    }

    /// The target that the remains of a record still tell.
    fn target_in(&self, bytes: &[u8]) -> Result<Option<RefTarget>> {
        for at in 0..bytes.len().saturating_sub(63) {
            let Some(digest) = std::str::from_utf8(&bytes[at..at + 64]).ok().and_then(digest::from_hex)
            else {
                continue;
            };
            let digest = Digest::from_bytes(digest);
            if self.blob_size(&digest)?.is_none() {
                continue;
            }
            let Ok(document) = self.read_blob(&digest, crate::reach::LARGEST) else { continue };
            let Ok(value) = serde_json::from_slice::<serde_json::Value>(&document) else { continue };
            let stated = value.get("mediaType").and_then(serde_json::Value::as_str);
            let media_type = stated.unwrap_or(match value.get("manifests") {
                Some(_) => "application/vnd.oci.image.index.v1+json",
                None => "application/vnd.oci.image.manifest.v1+json",
            });
            return Ok(Some(RefTarget {
                media_type: media_type.to_string(),
                digest,
                size: document.len() as u64,
                annotations: BTreeMap::new(),
            }));
        }
        Ok(None)
    }

    /// Point `name` at a blob that is in the store, and seal the batch before that: `Ok` means that
    /// the reference and everything this handle stored before survive power loss.
    ///
    /// # Errors
    /// [`Error::RefConflict`] where `expected` does not hold, [`Error::MissingBlob`] without target.
    pub fn set_ref(&self, name: &str, target: RefTarget, kind: &str, expected: &Expected) -> Result<RefV1> {
        // Sealed before the lock, since that may take long; under it there is little left to sync.
        self.seal_batch()?;
        let guard = self.refs_lock()?;
        self.set_ref_locked(name, target, kind, expected, &guard)
    }

    /// [`LocalStore::set_ref`] under a lock that spans several changes.
    pub fn set_ref_locked(
        &self,
        name: &str,
        target: RefTarget,
        kind: &str,
        expected: &Expected,
        _guard: &RefsGuard,
    ) -> Result<RefV1> {
        let path = self.path("refs").join(file_name(name)?);
        self.expect_ref(name, expected)?;
        self.seal_batch()?;
        // A cached build sets the same reference again and again: nothing to write, nothing to sync.
        if let Some(old) = self.get_ref(name)?
            && old.target == target
            && old.kind == kind
            && self.blob_size(&target.digest)?.is_some()
        {
            return Ok(old);
        }
        let record = RefV1 {
            version: 1,
            name: name.to_string(),
            target,
            kind: kind.to_string(),
            updated: self.now_secs(),
        };
        let bytes =
            sealed::encode(&record).map_err(|source| Error::Malformed { path: path.clone(), source })?;
        let tmp = self.tmp_path()?;
        // The target, too, may have been named by somebody who has not made its name durable yet.
        self.blob_size(&record.target.digest)?;
        if self.has_found() {
            self.sync_found()?;
        }
        // From the look at the target until the reference keeps it nothing may be collected.
        let shared = self.shared()?;
        if self.peek_blob(&record.target.digest)?.is_none() {
            return Err(Error::MissingBlob(record.target.digest));
        }
        // A collection that has looked at the references already learns of this one by the line.
        self.hold_guarded(&[Held::Blob(record.target.digest), Held::Named(record.target.digest)], &shared)?;
        self.note_named(&record.target.digest, &file_name(name)?);
        disk::write_atomic(&tmp, &path, &bytes, Durability::Synced)?;
        Ok(record)
    }

    /// Remove a reference. `Ok(false)` where there was none. What it kept stays until a collection.
    pub fn delete_ref(&self, name: &str, expected: &Expected) -> Result<bool> {
        let guard = self.refs_lock()?;
        self.delete_ref_locked(name, expected, &guard)
    }

    /// [`LocalStore::delete_ref`] under a lock that spans several changes.
    pub fn delete_ref_locked(&self, name: &str, expected: &Expected, _guard: &RefsGuard) -> Result<bool> {
        let path = self.path("refs").join(file_name(name)?);
        self.expect_ref(name, expected)?;
        let removed = disk::remove_file(&path)?;
        if removed {
            disk::sync_dir(&self.path("refs"))?;
        }
        Ok(removed)
    }

    fn expect_ref(&self, name: &str, expected: &Expected) -> Result<()> {
        if *expected == Expected::Any {
            return Ok(());
        }
        let found = self.get_ref(name)?.map(|r| r.target.digest);
        let holds = match expected {
            Expected::Any => true,
            Expected::Absent => found.is_none(),
            Expected::Digest(digest) => found == Some(*digest),
        };
        let nothing = || "nothing".to_string();
        if holds {
            return Ok(());
        }
        Err(Error::RefConflict {
            name: name.to_string(),
            expected: match expected {
                Expected::Digest(digest) => digest.to_string(),
                _ => nothing(),
            },
            found: found.map_or_else(nothing, |d| d.to_string()),
        })
    }
}

/// The file of a name: letters, digits and `.-_` as they are, other bytes as `%XX`; names that get
/// too long are told by their hash.
fn file_name(name: &str) -> Result<String> {
    if name.is_empty() || name.len() > 4096 || name.contains('\0') {
        return Err(Error::RefName(name.chars().take(100).collect()));
    }
    let mut out = escape(name);
    if out.len() > LONGEST {
        out = format!("{HASHED}{}", Digest::of(name.as_bytes()).hex());
    }
    Ok(out)
}

fn escape(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    for (i, b) in name.bytes().enumerate() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => out.push(char::from(b)),
            b'.' if i > 0 => out.push('.'),
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

/// The name that a file of `refs` stands for, where the file's name tells it.
pub(crate) fn ref_name(file: &str) -> Option<String> {
    if is_hashed(file) {
        return None;
    }
    let mut out = Vec::with_capacity(file.len());
    let mut parts = file.split('%');
    out.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (hex, rest) = part.split_at_checked(2)?;
        out.push(u8::from_str_radix(hex, 16).ok()?);
        out.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(out).ok().filter(|name| file_name(name).is_ok_and(|f| f == file))
}

fn is_hashed(file: &str) -> bool {
    file.strip_prefix(HASHED).is_some_and(|hex| digest::from_hex(hex).is_some())
}

/// Sixty-four digits for a file that is set aside, as blobs have them.
fn digest_of_name(file: &str) -> String {
    Digest::of(file.as_bytes()).hex()
}

fn find(text: &[u8], part: &[u8]) -> bool {
    let Some((first, rest)) = part.split_first() else { return true };
    text.iter().enumerate().any(|(i, b)| b == first && text[i + 1..].starts_with(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_tell_their_names() {
        for name in ["docker.io/library/a:1", "..", "%41", "<none>@sha256:00", "ü"] {
            assert_eq!(ref_name(&file_name(name).unwrap()).as_deref(), Some(name));
        }
        assert_eq!(ref_name(&file_name(&"x".repeat(4000)).unwrap()), None);
        assert_eq!(ref_name("a%2"), None);
    }

    #[test]
    fn names_become_safe_files() {
        assert_eq!(file_name("docker.io/library/a:1").unwrap(), "docker.io%2Flibrary%2Fa%3A1");
        assert_eq!(file_name("..").unwrap(), "%2E.");
        assert_eq!(file_name("%41").unwrap(), "%2541");
        assert!(file_name(&"x".repeat(4000)).unwrap().len() < 255);
        assert!(file_name("").is_err() && file_name("a\0").is_err());
    }
}
