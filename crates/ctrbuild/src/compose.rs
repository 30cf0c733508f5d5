//! From layers to an image: history times, diff ids, descriptors, compression.

use crate::blobs::{LayerFolders, layer_folders};
use crate::{Error, lookup};
use digest::{CacheKey, DiffId, Digest, StableHasher};
use layer::pack::{PackOptions, PackStats};
use oci::media::Format;
use oci::{Descriptor, History, Image, ImageConfig, Raw, mutate};
use plan::Plan;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use store::{LayerBlobV1, LayerRecordV1, LocalStore};

/// How layers are packed for the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Whatever form there is; new layers stay uncompressed.
    #[default]
    AsIs,
    Uncompressed,
    Gzip {
        level: Option<u8>,
    },
    Zstd {
        level: Option<u8>,
    },
}

impl Compression {
    /// From the words of outputs, caches and command lines; the kind is gzip where only a level is given. `None` where
    /// nothing is said. The error is for people.
    pub fn parse(kind: Option<&str>, level: Option<&str>) -> Result<Option<Compression>, String> {
        if kind.is_none() && level.is_none() {
            return Ok(None);
        }
        let within = |least: u8, most: u8| {
            let parse = |text: &str| {
                let level = text.parse::<u8>().ok().filter(|l| (least..=most).contains(l));
                level.ok_or_else(|| format!("compression-level {text:?} is no number from {least} to {most}"))
            };
            level.map(parse).transpose()
        };
        match kind.unwrap_or("gzip") {
            "gzip" => Ok(Some(Compression::Gzip { level: within(0, 12)? })),
            "zstd" => Ok(Some(Compression::Zstd { level: within(1, 22)? })),
            "uncompressed" => Ok(Some(Compression::Uncompressed)),
            other => Err(format!("there is no compression {other:?} (gzip, zstd, uncompressed)")),
        }
    }
}

/// Which layers that exist in another compression are packed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recompress {
    #[default]
    None,
    /// Those from this one on, counted from the bottom: not those of the base image.
    From(usize),
    All,
}

impl Recompress {
    fn has(self, layer: usize) -> bool {
        match self {
            Recompress::None => false,
            Recompress::From(first) => layer >= first,
            Recompress::All => true,
        }
    }
}

/// Fill in what was not known while planning: diff ids and the times of the history. `created` tells when the
/// layers were made, in seconds since 1970.
pub fn configure(plan: &Plan, created: &[u64], diff_ids: &[DiffId]) -> ImageConfig {
    let mut config = plan.config.clone();
    config.rootfs.diff_ids = diff_ids.to_vec();
    let created: Vec<String> =
        created.iter().map(|t| oci::rfc3339(plan.epoch.unwrap_or(*t as i64), 0)).collect();
    fill_history(&mut config.history, &created, plan.epoch);
    if plan.epoch.is_some() || config.created.is_none() {
        config.created = match plan.epoch {
            Some(epoch) => Some(oci::rfc3339(epoch, 0)),
            None => config.history.iter().rev().find_map(|h| h.created.clone()),
        };
    }
    config
}

/// The rules of BuildKit's exporter: every layer has an entry, and every entry a time; those that made
/// no layer get the time of the first new layer, or of the one before.
fn fill_history(history: &mut Vec<History>, layer_created: &[String], epoch: Option<i64>) {
    let mut seen = 0;
    for entry in history.iter_mut().filter(|h| !h.empty_layer) {
        match layer_created.get(seen) {
            None => entry.empty_layer = true,
            Some(time) => {
                entry.created.get_or_insert_with(|| time.clone());
                seen += 1;
            }
        }
    }
    for time in layer_created.iter().skip(seen) {
        history.push(History {
            created: Some(time.clone()),
            comment: "buildkit.exporter.image.v0".into(),
            ..History::default()
        });
    }
    if let Some(epoch) = epoch {
        for entry in history.iter_mut().filter(|h| h.created.is_none()) {
            entry.created = Some(oci::rfc3339(epoch, 0));
        }
        return;
    }
    let mut time: Option<String> = None;
    let mut gap = false;
    for entry in history.iter() {
        match &entry.created {
            Some(created) => {
                time = Some(created.clone());
                if gap {
                    break;
                }
            }
            None => gap = true,
        }
    }
    let mut gap = false;
    for entry in history.iter_mut() {
        match &entry.created {
            Some(created) if gap => time = Some(created.clone()),
            Some(_) => {}
            None => {
                gap = true;
                entry.created = time.clone();
            }
        }
    }
}

/// The image as the local store keeps it: layers in whatever form there is.
pub fn local(store: &LocalStore, config: &ImageConfig, format: Format) -> Result<Image, Error> {
    annotated(store, config, format, BTreeMap::new())
}

/// As [`local`], with annotations of the manifest.
pub fn annotated(
    store: &LocalStore,
    config: &ImageConfig,
    format: Format,
    annotations: BTreeMap<String, String>,
) -> Result<Image, Error> {
    let layers = config.rootfs.diff_ids.iter().map(|diff| stored_layer(store, diff));
    let layers = layers.collect::<Result<Vec<_>, Error>>()?;
    assemble(store, config, &layers, format, annotations)
}

/// A layer of the store in whatever form there is.
pub fn stored_layer(store: &LocalStore, diff: &DiffId) -> Result<Descriptor, Error> {
    let record = store
        .layer(diff)?
        .ok_or_else(|| Error::world(format!("internal error: layer {diff} is not in the store")))?;
    Ok(match record.blobs.first() {
        Some(blob) => descriptor(blob),
        None => uncompressed(diff, record.size.unwrap_or(0)),
    })
}

/// Write config and manifest into the store.
pub fn assemble(
    store: &LocalStore,
    config: &ImageConfig,
    layers: &[Descriptor],
    format: Format,
    annotations: BTreeMap<String, String>,
) -> Result<Image, Error> {
    let image =
        mutate::image(config, layers, format, annotations).map_err(|e| Error::world(e.to_string()))?;
    lookup::put_image(store, &image)?;
    Ok(image)
}

fn descriptor(blob: &LayerBlobV1) -> Descriptor {
    let mut d = Descriptor::new(blob.media_type.clone(), blob.digest, blob.size);
    d.annotations = blob.annotations.clone();
    d
}

fn uncompressed(diff: &DiffId, size: u64) -> Descriptor {
    Descriptor::new(oci::media::OCI_LAYER, diff.0, size)
}

/// The same image with its layers in the asked form. Packed forms are kept in the store, so that the next
/// export of the same layer costs nothing. Blocks for as long as it compresses.
pub fn pack(
    store: &LocalStore,
    image: &Image,
    compression: Compression,
    recompress: Recompress,
    format: Format,
    annotations: BTreeMap<String, String>,
) -> Result<Image, Error> {
    let layers = pack_layers(image, |chain, layer| pack_layer(store, chain, layer, compression, recompress))?;
    let config = Raw { ..image.config.clone() };
    let packed =
        mutate::manifest(config, &layers, format, annotations).map_err(|e| Error::world(e.to_string()))?;
    lookup::put_image(store, &packed)?;
    Ok(packed)
}

/// All layers through `pack`, two at the same time: one is written out to the disk while the next one is compressed.
fn pack_layers(
    image: &Image,
    pack: impl Fn(&[DiffId], &Descriptor) -> Result<Descriptor, Error> + Sync,
) -> Result<Vec<Descriptor>, Error> {
    let (layers, diffs) = (&image.manifest.value.layers, &image.config.value.rootfs.diff_ids);
    let one = |i: usize| pack(&diffs[..=i], &layers[i]);
    let mut out = Vec::with_capacity(layers.len());
    for first in (0..layers.len()).step_by(2) {
        if first + 1 == layers.len() {
            out.push(one(first)?);
            continue;
        }
        let (a, b) = std::thread::scope(|scope| {
            let second = scope.spawn(|| one(first + 1));
            (one(first), second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        out.extend([a?, b?]);
    }
    Ok(out)
}

/// One layer in the asked form; `chain` are the diff ids from the base up to it.
pub fn pack_layer(
    store: &LocalStore,
    chain: &[DiffId],
    layer: &Descriptor,
    compression: Compression,
    recompress: Recompress,
) -> Result<Descriptor, Error> {
    let Some(diff) = chain.last() else { return Ok(layer.clone()) };
    let is_plain = layer.digest == diff.0;
    let wanted = match compression {
        Compression::AsIs => return Ok(layer.clone()),
        Compression::Uncompressed if is_plain => return Ok(layer.clone()),
        Compression::Uncompressed => oci::media::OCI_LAYER,
        Compression::Gzip { .. } => oci::media::OCI_LAYER_GZIP,
        Compression::Zstd { .. } => oci::media::OCI_LAYER_ZSTD,
    };
    if !is_plain && (!recompress.has(chain.len() - 1) || same_compression(&layer.media_type, wanted)) {
        return Ok(layer.clone());
    }
    let record = store.layer(diff)?;
    // Two ways of writing the same compression are the same.
    if let Some(blob) = record
        .iter()
        .flat_map(|r| &r.blobs)
        .find(|b| wanted != oci::media::OCI_LAYER && same_compression(&b.media_type, wanted))
    {
        return Ok(descriptor(blob));
    }
    let folders = layer_folders(store, chain).map_err(|e| Error::world(e.to_string()))?;
    let Some(LayerFolders { upper, lowers, form }) = folders else {
        return Err(Error::world(format!("layer {diff} is not unpacked in the store"))
            .hint("pull the image again, or run `ctrbuild store verify --repair`"));
    };
    if wanted == oci::media::OCI_LAYER {
        let size = record.and_then(|r| r.size).unwrap_or(layer.size);
        return Ok(uncompressed(diff, size));
    }
    let compression = match compression {
        Compression::Zstd { level } => layer::compress::Compression::Zstd { level: level.unwrap_or(3) },
        Compression::Gzip { level } => layer::compress::Compression::Gzip { level: level.unwrap_or(4) },
        _ => layer::compress::Compression::None,
    };
    let (stats, digest, size) = compress(store, &upper, &lowers, &worker::pack_options(form), compression)?;
    if stats.diff_id != *diff {
        return Err(Error::world(format!(
            "layer {diff} in the store was changed: it packs to {}",
            stats.diff_id
        ))
        .hint("run `ctrbuild store verify --repair`"));
    }
    let blob = LayerBlobV1 { media_type: wanted.to_string(), digest, size, annotations: BTreeMap::new() };
    let out = descriptor(&blob);
    store.put_layer(LayerRecordV1 {
        diff_id: *diff,
        size: None,
        snapshot: None,
        blobs: vec![blob],
        created: 0,
    })?;
    Ok(out)
}

fn same_compression(a: &str, b: &str) -> bool {
    let kind = |t: &str| {
        let t = t.to_ascii_lowercase();
        if t.ends_with("gzip") {
            1
        } else if t.ends_with("zstd") {
            2
        } else {
            0
        }
    };
    kind(a) == kind(b)
}

/// Pack a layer into a blob of the store.
fn compress(
    store: &LocalStore,
    upper: &Path,
    lowers: &[PathBuf],
    options: &PackOptions,
    compression: layer::compress::Compression,
) -> Result<(PackStats, Digest, u64), Error> {
    let lowers: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
    let blob = store.ingest(None)?;
    let mut out = layer::compress::Compressor::new(blob, compression);
    let stats = layer::pack::write_layer(upper, &lowers, options, &mut out)?;
    let (mut blob, _) = out.finish().map_err(|e| Error::world(format!("can't compress a layer: {e}")))?;
    blob.flush().map_err(|e| Error::world(format!("can't write a layer: {e}")))?;
    let (digest, size) = blob.commit()?;
    Ok((stats, digest, size))
}

/// The same image with no time in its layers later than `epoch` (seconds since 1970), as BuildKit's
/// `rewrite-timestamp`. The first `base_layers` layers are somebody else's and stay as they are. Rewritten
/// layers are packed with `compression` and kept as blobs. Blocks for as long as it compresses.
pub fn rewrite(
    store: &LocalStore,
    image: &Image,
    base_layers: usize,
    epoch: i64,
    compression: Compression,
) -> Result<Image, Error> {
    let mut config = image.config.value.clone();
    let mut layers = image.manifest.value.layers.clone();
    for (i, layer) in layers.iter_mut().enumerate().skip(base_layers) {
        let chain = &image.config.value.rootfs.diff_ids[..=i];
        let (diff, blob) = rewrite_layer(store, chain, epoch, compression)?;
        config.rootfs.diff_ids[i] = diff;
        *layer = descriptor(&blob);
    }
    assemble(store, &config, &layers, Format::Oci, image.manifest.value.annotations.clone())
}

fn rewrite_layer(
    store: &LocalStore,
    chain: &[DiffId],
    epoch: i64,
    compression: Compression,
) -> Result<(DiffId, LayerBlobV1), Error> {
    let Some(diff) = chain.last() else {
        return Err(Error::world("internal error: a layer without a chain"));
    };
    let (media_type, how) = match compression {
        Compression::Gzip { level } => {
            (oci::media::OCI_LAYER_GZIP, layer::compress::Compression::Gzip { level: level.unwrap_or(4) })
        }
        Compression::Zstd { level } => {
            (oci::media::OCI_LAYER_ZSTD, layer::compress::Compression::Zstd { level: level.unwrap_or(3) })
        }
        Compression::AsIs | Compression::Uncompressed => {
            (oci::media::OCI_LAYER, layer::compress::Compression::None)
        }
    };
    let mut h = StableHasher::new("ctrbuild.rewritten-layer.v1");
    h.put(&diff.0).fixed(&epoch.to_le_bytes()).put(media_type);
    let key = CacheKey::from_bytes(h.finish());
    let _lock = store.key_lock(&key)?;
    if let Some(found) = store.cache_get(&key)?
        && let Ok(known) = serde_json::from_value::<(DiffId, LayerBlobV1)>(found.payload)
    {
        return Ok(known);
    }
    let folders = layer_folders(store, chain).map_err(|e| Error::world(e.to_string()))?;
    let Some(LayerFolders { upper, lowers, form }) = folders else {
        return Err(Error::world(format!("layer {diff} is not unpacked in the store"))
            .hint("build again, or run `ctrbuild store verify --repair`"));
    };
    let options = PackOptions { clamp_times: Some(epoch), ..worker::pack_options(form) };
    let (stats, digest, size) = compress(store, &upper, &lowers, &options, how)?;
    let blob = LayerBlobV1 { media_type: media_type.to_string(), digest, size, annotations: BTreeMap::new() };
    store.put_layer(LayerRecordV1 {
        diff_id: stats.diff_id,
        size: Some(stats.size),
        snapshot: None,
        blobs: vec![blob.clone()],
        created: 0,
    })?;
    let payload = serde_json::to_value((&stats.diff_id, &blob)).map_err(|e| Error::world(e.to_string()))?;
    let record = store::RecordV1 {
        payload,
        snapshots: Vec::new(),
        blobs: vec![digest],
        op: None,
        parts: BTreeMap::new(),
        created: 0,
    };
    store.cache_put(&key, record)?;
    Ok((stats.diff_id, blob))
}

/// How many of an image's layers are those of a base that was not built here.
pub fn base_layers(plan: &Plan, diff_ids: &[DiffId]) -> usize {
    let base = |v: &graph::Vertex| match &v.op {
        graph::Op::Source(graph::SourceOp::Image(image)) if diff_ids.starts_with(&image.diff_ids) => {
            image.diff_ids.len()
        }
        _ => 0,
    };
    plan.graph.vertices.iter().map(base).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(created: Option<&str>, empty: bool) -> History {
        History { created: created.map(str::to_string), empty_layer: empty, ..History::default() }
    }

    fn times(history: &[History]) -> Vec<&str> {
        history.iter().map(|h| h.created.as_deref().unwrap_or("-")).collect()
    }

    #[test]
    fn metadata_entries_take_the_first_new_layers_time() {
        let mut h =
            vec![entry(Some("base"), false), entry(None, true), entry(None, false), entry(None, true)];
        fill_history(&mut h, &["base".into(), "new".into()], None);
        assert_eq!(times(&h), ["base", "new", "new", "new"]);
    }

    #[test]
    fn without_new_layers_the_last_time_counts() {
        let mut h = vec![entry(Some("base"), false), entry(None, true)];
        fill_history(&mut h, &["base".into()], None);
        assert_eq!(times(&h), ["base", "base"]);
    }

    #[test]
    fn missing_entries_are_added_and_surplus_ones_emptied() {
        let mut h = vec![];
        fill_history(&mut h, &["a".into(), "b".into()], None);
        assert_eq!(times(&h), ["a", "b"]);
        let mut h = vec![entry(None, false), entry(None, false)];
        fill_history(&mut h, &["a".into()], None);
        assert_eq!(h.iter().map(|h| h.empty_layer).collect::<Vec<_>>(), [false, true]);
    }
}
