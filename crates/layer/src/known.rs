//! Layers of Windows images, entry by entry, of what somebody else knows of each file: attributes, times, security
//! descriptors, alternate streams, mount points. No folder on Linux could keep these.
//!
//! The form is that of hcsshim's layers: a stream follows its file as an entry `name:stream`, and folders have no slash
//! at their end, since the streams of a folder are told by its name. As in [`crate::pack`] the bytes depend on the entries
//! alone, and owners are 0.
//!
//! Deliberately not here: order and names, which are the caller's, and whiteouts, since a layer that is known so well is
//! the lowest one.

use crate::read::{Entry, Kind};
use crate::stream::{ChunkWriter, hashed_write};
use crate::{Error, Result, pack::PackStats, windows, write};
use digest::DiffId;
use std::io::Write;

/// One entry of a layer.
#[derive(Debug, Clone, Copy)]
pub struct KnownEntry<'a> {
    /// From the root of the layer: `Files/Windows`.
    pub path: &'a str,
    pub kind: KnownKind<'a>,
    /// `FILE_ATTRIBUTE_…`.
    pub attributes: u32,
    /// Self-relative (MS-DTYP 2.4.6).
    pub descriptor: Option<&'a [u8]>,
    /// Seconds and nanoseconds since 1970.
    pub created: (i64, u32),
    pub modified: (i64, u32),
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownKind<'a> {
    Folder,
    /// Its bytes come next, by [`KnownLayer::data`].
    File {
        size: u64,
    },
    /// A stream `name:stream` of the entry before it; its bytes come next.
    Stream {
        size: u64,
    },
    /// A symbolic link, as people on Windows write its target.
    Symlink {
        target: &'a str,
    },
    MountPoint {
        target: &'a str,
    },
    /// Another name of the file `to`, a path from the root of the layer.
    HardLink {
        to: &'a str,
    },
}

/// Takes the entries of a layer.
pub struct KnownLayer<'a> {
    out: &'a mut ChunkWriter,
    size: u64,
    left: u64,
    entries: u64,
}

impl KnownLayer<'_> {
    /// Begin an entry. All bytes of the one before must have come.
    pub fn entry(&mut self, known: &KnownEntry<'_>) -> Result<()> {
        self.complete()?;
        let (kind, link, size) = match known.kind {
            KnownKind::Folder => (Kind::Dir, "", 0),
            KnownKind::File { size } | KnownKind::Stream { size } => (Kind::File, "", size),
            KnownKind::Symlink { target } | KnownKind::MountPoint { target } => (Kind::Symlink, target, 0),
            KnownKind::HardLink { to } => (Kind::HardLink, to, 0),
        };
        let mode = match kind {
            Kind::Dir => 0o755,
            Kind::Symlink => 0o777,
            _ => 0o644,
        };
        let entry = Entry {
            path: known.path.into(),
            link: link.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: known.modified,
            size,
            xattrs: Vec::new(),
            sparse: None,
        };
        let mut records = Vec::new();
        windows::known_records(&mut records, known);
        write::header_with(self.out, &entry.path, &entry, &records)?;
        (self.size, self.left) = (size, size);
        self.entries += 1;
        Ok(())
    }

    /// Some bytes of the entry that was begun.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or(Error::Internal("a file has more bytes than its entry says"))?;
        self.out.put(bytes)
    }

    fn complete(&mut self) -> Result<()> {
        if self.left != 0 {
            return Err(Error::Internal("a file has fewer bytes than its entry says"));
        }
        write::pad(self.out, std::mem::take(&mut self.size))
    }
}

/// Write the layer of the entries that `produce` gives, to `out`.
///
/// # Errors
/// Those of `produce`, and [`Error::Sink`] where `out` fails; what was written until then is no layer.
pub fn write_known<E: From<Error> + Send>(
    out: &mut dyn Write,
    produce: impl FnOnce(&mut KnownLayer<'_>) -> Result<(), E> + Send,
) -> Result<PackStats, E> {
    let (done, digest, size) = hashed_write(Some(out), |out| {
        let mut layer = KnownLayer { out, size: 0, left: 0, entries: 0 };
        if let Err(e) = produce(&mut layer) {
            return Ok(Err(e));
        }
        layer.complete()?;
        write::end(layer.out)?;
        Ok(Ok(layer.entries))
    })?;
    Ok(PackStats { diff_id: DiffId(digest), size, entries: done?, reserved_names: Vec::new() })
}
