//! Small files that a caller may want back, and that nobody relies on: they may be gone at any time.
//!
//! On disk: `hints-v1/<64 hex>`, the boot id of the kernel that wrote it, a line end, the sha256 of the rest in
//! hexadecimal, a line end, the rest. Never synced, so that one of another boot, or with another sum, is none.

use crate::{LocalStore, Result, disk};
use digest::Digest;
use std::path::PathBuf;
use std::time::Duration;

const FOLDER: &str = "hints-v1";
/// So many are kept: each belongs to something that is used again and again, such as a build context.
const MOST: usize = 64;

impl LocalStore {
    /// What was kept under `key` since this machine was started, if that is still there.
    pub fn hint(&self, key: &[u8; 32]) -> Option<Vec<u8>> {
        let bytes = disk::read_optional(&self.hint_path(key)).ok().flatten()?;
        let rest = bytes.strip_prefix(self.boot_id().as_bytes())?.strip_prefix(b"\n")?;
        let (sum, rest) = rest.split_at_checked(64)?;
        let content = rest.strip_prefix(b"\n")?;
        (Digest::of(content).hex().as_bytes() == sum).then(|| content.to_vec())
    }

    /// Keep something under `key`, in place of what was there.
    pub fn keep_hint(&self, key: &[u8; 32], content: &[u8]) -> Result<()> {
        self.check_writable()?;
        let mut bytes = format!("{}\n{}\n", self.boot_id(), Digest::of(content).hex()).into_bytes();
        bytes.extend_from_slice(content);
        let path = self.hint_path(key);
        let is_new = !path.exists();
        disk::write_atomic(&self.tmp_path()?, &path, &bytes, disk::Durability::Cached)?;
        if is_new { self.drop_hints(Duration::MAX) } else { Ok(()) }
    }

    /// Drop those that are older than `age`, and the oldest of too many.
    pub(crate) fn drop_hints(&self, age: Duration) -> Result<()> {
        let mut found = Vec::new();
        for name in disk::names(&self.path(FOLDER))? {
            let path = self.path(FOLDER).join(name);
            if let Ok(written) = std::fs::symlink_metadata(&path).and_then(|m| m.modified()) {
                found.push((written, path));
            }
        }
        found.sort();
        let too_many = found.len().saturating_sub(MOST);
        for (n, (written, path)) in found.iter().enumerate() {
            let old = self.now().duration_since(*written).is_ok_and(|a| a >= age);
            if n < too_many || old {
                disk::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn hint_path(&self, key: &[u8; 32]) -> PathBuf {
        self.path(FOLDER).join(digest::to_hex(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreOptions;

    #[test]
    fn hints_last_for_a_boot_and_are_few() {
        let dir = tempfile::tempdir().unwrap();
        let of_boot = |boot: &str| {
            let options = StoreOptions { boot_id: Some(boot.into()), ..StoreOptions::default() };
            LocalStore::open(&dir.path().join("s"), options).unwrap()
        };
        let store = of_boot("one");
        assert_eq!(store.hint(&[1; 32]), None);
        store.keep_hint(&[1; 32], b"text\nof two lines").unwrap();
        store.keep_hint(&[2; 32], b"").unwrap();
        assert_eq!(store.hint(&[1; 32]).unwrap(), b"text\nof two lines");
        assert_eq!(store.hint(&[2; 32]).unwrap(), b"");
        assert_eq!(of_boot("two").hint(&[1; 32]), None);
        // Damage is a miss.
        let path = store.hint_path(&[1; 32]);
        let mut bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(store.hint(&[1; 32]), None, "{at}");
            std::fs::write(&path, &bytes[..at]).unwrap();
            assert_eq!(store.hint(&[1; 32]), None, "{at}");
            bytes[at] ^= 1;
        }
        for n in 0..100 {
            store.keep_hint(&[n; 32], &[n]).unwrap();
        }
        assert_eq!(disk::count(&store.path(FOLDER)).unwrap(), MOST);
        store.gc(&crate::GcPolicy::default()).unwrap();
        assert_eq!(disk::count(&store.path(FOLDER)).unwrap(), MOST);
        store.gc(&crate::GcPolicy { unused_for: Some(Duration::ZERO), ..Default::default() }).unwrap();
        assert_eq!(disk::count(&store.path(FOLDER)).unwrap(), 0);
    }
}
