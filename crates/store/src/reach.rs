//! What an image reaches: manifests of an index, config and layers of a manifest.

use crate::error::{Context, Error};
use crate::{LocalStore, Result};
use digest::{DiffId, Digest};
use rayon::prelude::*;
use serde_json::Value;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};

/// Manifests larger than this are not looked into (registries refuse those above 4 MiB).
pub(crate) const LARGEST: u64 = 16 << 20;
/// Fewer manifests than this are read by one thread, which may hold a lock.
const FEW: usize = 64;

/// What to do about a manifest that the disk can't read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Unreadable {
    /// What it reaches is unknown, so nothing can be said to be garbage.
    #[default]
    Stop,
    /// It reaches nothing.
    Skip,
}

/// Blobs and layers that are reached from some manifest.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    pub blobs: HashSet<Digest>,
    pub layers: HashSet<DiffId>,
    /// Those of the blobs that are configurations.
    pub configs: HashSet<Digest>,
    /// Those of the blobs that may reach more than is known: they were looked into, but were absent or not what their
    /// name says.
    pub unread: HashSet<Digest>,
    pub unreadable: Unreadable,
    /// Those of the blobs that were looked into. Others are reached as layers, and may be documents all the same.
    pub looked_into: HashSet<Digest>,
}

/// What one document links to.
#[derive(Default)]
struct Links {
    manifests: Vec<Digest>,
    blobs: Vec<Digest>,
    config: Option<Digest>,
    layers: Vec<DiffId>,
}

impl LocalStore {
    /// Add what `digest` reaches. Absent blobs and those that are no JSON reach nothing, so a partial image (one
    /// platform of an index) is fine.
    pub(crate) fn reach(&self, digest: Digest, into: &mut Reached) -> Result<()> {
        self.reach_all(vec![digest], into)
    }

    /// Add what `digests` reach; with many of them, by several threads.
    pub(crate) fn reach_all(&self, digests: Vec<Digest>, into: &mut Reached) -> Result<()> {
        let mut todo = digests;
        while !todo.is_empty() {
            todo.retain(|digest| into.looked_into.insert(*digest));
            into.blobs.extend(&todo);
            todo = self.look_into(todo, into)?;
        }
        Ok(())
    }

    /// Add what each document links to; returns those links that are to be looked into.
    fn look_into(&self, documents: Vec<Digest>, into: &mut Reached) -> Result<Vec<Digest>> {
        let unreadable = into.unreadable;
        let read = |digest: &Digest| match self.links(digest) {
            Err(_) if unreadable == Unreadable::Skip => Ok((*digest, Links::default(), false)),
            other => other.map(|(links, whole)| (*digest, links, whole)),
        };
        let found: Vec<_> = match documents.len() {
            0..FEW => documents.iter().map(read).collect::<Result<_>>()?,
            _ => documents.par_iter().map(read).collect::<Result<_>>()?,
        };
        let mut next = Vec::new();
        for (digest, links, whole) in found {
            match whole {
                true => into.unread.remove(&digest),
                false => into.unread.insert(digest),
            };
            into.layers.extend(links.layers);
            into.blobs.extend(links.blobs);
            into.configs.extend(links.config);
            next.extend(links.config.into_iter().chain(links.manifests));
        }
        Ok(next)
    }

    /// What a document links to, and whether it is all there and what its name says.
    fn links(&self, digest: &Digest) -> Result<(Links, bool)> {
        let mut links = Links::default();
        let Some(bytes) = self.document(digest)? else { return Ok((links, false)) };
        let whole = Digest::of(&bytes) == *digest;
        let Ok(value) = serde_json::from_slice::<Value>(&bytes) else { return Ok((links, whole)) };
        if let Some(diffs) = value.pointer("/rootfs/diff_ids").and_then(Value::as_array) {
            links.layers.extend(diffs.iter().filter_map(|d| d.as_str()?.parse::<DiffId>().ok()));
        }
        let link = |v: &Value| v.get("digest")?.as_str()?.parse::<Digest>().ok();
        for list in ["manifests", "layers", "blobs"] {
            let items = value.get(list).and_then(Value::as_array).into_iter().flatten().filter_map(link);
            match list {
                "manifests" => links.manifests.extend(items),
                // Layers are no JSON; looking into them would read gigabytes.
                _ => links.blobs.extend(items),
            }
        }
        links.config = value.get("config").and_then(link);
        Ok((links, whole))
    }

    /// The bytes of a blob that may be JSON.
    fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let path = self.blob_path(digest);
        let mut file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.at("open", &path)?,
        };
        if file.metadata().at("read", &path)?.len() > LARGEST {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(4096);
        let read = |e| Error::io("read", &path, e);
        Read::by_ref(&mut file).take(4096).read_to_end(&mut bytes).map_err(read)?;
        // A first byte tells packed layers and other binary blobs apart without reading all of them.
        if bytes.iter().find(|b| !b.is_ascii_whitespace()).is_some_and(|b| *b != b'{') {
            return Ok(None);
        }
        file.read_to_end(&mut bytes).map_err(read)?;
        Ok(Some(bytes))
    }
}
