//! `format`: which layout a store has, and what else a program must know to use it.

use crate::Result;
use crate::disk::{self, Durability};
use crate::error::Error;
use crate::snapshot::paths::{escape, unescape};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The layout this program writes. A store with another number is refused.
const FORMAT: u32 = 1;
/// Under which name a format file is written.
const FRESH: &str = "format.new";
/// There is no store here any more: it is at `place`.
const MOVED: &str = "moved";
/// There is no store here yet: that at `place` is being copied.
const UNFINISHED: &str = "unfinished-copy";

/// Features a store uses beyond the base format, by what a program that lacks one may still do
/// (the classes of ext4). This program knows `moved` and `unfinished-copy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FormatV1 {
    version: u32,
    /// May be ignored.
    #[serde(default)]
    compatible: Vec<String>,
    /// Unknown ones forbid writing.
    #[serde(default)]
    read_only_compatible: Vec<String>,
    /// Unknown ones forbid opening.
    #[serde(default)]
    incompatible: Vec<String>,
    /// Of `moved` and `unfinished-copy`: where the store is. `%` and bytes that are no UTF-8 are written `%XX`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<String>,
}

/// What a folder with a format file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    Store,
    MovedTo(PathBuf),
    CopyOf(PathBuf),
}

impl FormatV1 {
    pub fn current() -> FormatV1 {
        FormatV1 {
            version: FORMAT,
            compatible: vec![],
            read_only_compatible: vec![],
            incompatible: vec![],
            place: None,
        }
    }

    pub fn moved_to(place: &Path) -> FormatV1 {
        FormatV1 { incompatible: vec![MOVED.into()], place: Some(escape(place)), ..FormatV1::current() }
    }

    pub fn copy_of(place: &Path) -> FormatV1 {
        FormatV1 { incompatible: vec![UNFINISHED.into()], place: Some(escape(place)), ..FormatV1::current() }
    }

    /// The format file of `root`, where there is one.
    pub fn read(root: &Path) -> Result<Option<FormatV1>> {
        let path = root.join("format");
        let Some(bytes) = disk::read_optional(&path)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Malformed { path, source })
    }

    pub fn role(&self) -> Role {
        let place = || self.place.as_deref().and_then(unescape);
        match self.incompatible.as_slice() {
            [one] if self.version == FORMAT && one == MOVED => place().map_or(Role::Store, Role::MovedTo),
            [one] if self.version == FORMAT && one == UNFINISHED => place().map_or(Role::Store, Role::CopyOf),
            _ => Role::Store,
        }
    }

    /// Whether the store may be written.
    pub fn check(&self, root: &Path) -> Result<bool> {
        let refuse = |found: String| Err(Error::Format { path: root.to_path_buf(), found });
        if self.version != FORMAT {
            return refuse(self.version.to_string());
        }
        if let Some(feature) = self.incompatible.first() {
            return refuse(format!("{} with `{feature}`", self.version));
        }
        Ok(self.read_only_compatible.is_empty())
    }

    /// Write it whole and durably, in place of any that is there and of what is left of an attempt that was killed. One
    /// process at a time, which the collection lock of `root` sees to.
    pub fn write(&self, root: &Path) -> Result<()> {
        disk::remove_file(&root.join(FRESH))?;
        let path = root.join("format");
        let mut bytes =
            serde_json::to_vec(self).map_err(|source| Error::Malformed { path: path.clone(), source })?;
        bytes.push(b'\n');
        disk::write_atomic(&root.join(FRESH), &path, &bytes, Durability::Synced)
    }
}
