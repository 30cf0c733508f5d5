//! `--cache-to`: write what a build has in its cache, its own results and imported ones.

use super::elsewhere::fetch;
use super::format::{self, CacheV1, LayerV1, RecordV1};
use super::{CachePlace, CacheScope, CacheTarget};
use crate::blobs::ImageBlobs;
use crate::compose::{self, Compression, Recompress};
use crate::{Error, Session};
use digest::{CacheKey, DiffId};
use exporter::Named;
use oci::{Content, Descriptor, Raw};
use solver::Recorded;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use store::LocalStore;
use worker::{ImportedCache, RemoteLayer};

/// What the cache of one platform's build has.
pub(crate) struct Solution {
    pub records: Vec<Recorded>,
    /// The diff ids of each record's layers, where this store has it.
    pub diff_ids: Vec<Option<Vec<DiffId>>>,
    /// Those of the image.
    pub image: Vec<DiffId>,
}

/// A layer of the cache that is being written.
struct Layer {
    blob: Descriptor,
    created: u64,
    /// Where it is, if not here.
    elsewhere: Option<RemoteLayer>,
}

/// Layers in the order in which they were met, each once.
#[derive(Default)]
struct Layers {
    order: Vec<(DiffId, Layer)>,
    index: HashMap<DiffId, usize>,
    /// For the digest of an unpacked layer, the diff ids from the base up to it.
    chains: BTreeMap<digest::Digest, Vec<DiffId>>,
}

impl Layers {
    fn add(&mut self, diff: DiffId, make: impl FnOnce() -> Result<Layer, Error>) -> Result<usize, Error> {
        if let Some(i) = self.index.get(&diff) {
            return Ok(*i);
        }
        self.order.push((diff, make()?));
        self.index.insert(diff, self.order.len() - 1);
        Ok(self.order.len() - 1)
    }
}

/// Write the cache of `solutions` to one target. The target then has all of it, or what it had before.
pub(crate) async fn export(
    session: &Session,
    target: &CacheTarget,
    solutions: &Arc<Vec<Solution>>,
    imports: &Arc<ImportedCache>,
    progress: Arc<dyn registry::Progress>,
) -> Result<(), Error> {
    let (store, solutions, imports) = (session.store.clone(), solutions.clone(), imports.clone());
    let (scope, compression) = (target.scope, target.compression);
    let (cache, layers) =
        par::blocking(move || collect(&store, &solutions, &imports, scope, compression)).await?;
    let bytes = serde_json::to_vec(&cache).map_err(|e| Error::world(format!("internal error: {e}")))?;
    if bytes.len() > format::MAX_BYTES {
        return Err(Error::world("there are too many records for one cache").hint("leave out mode=max"));
    }
    let config = Descriptor::of(format::CONFIG, &bytes);
    session.store.put_blob(&bytes)?;
    let blobs: Vec<Descriptor> = layers.order.iter().map(|(_, l)| l.blob.clone()).collect();
    let manifest: Raw<oci::Manifest> = oci::mutate::artifact(format::ARTIFACT, config, blobs);
    let content = Content::artifact(manifest);
    let source = Arc::new(ImageBlobs::with_chains(&session.store, layers.chains));
    let elsewhere: Vec<RemoteLayer> = layers.order.into_iter().filter_map(|(_, l)| l.elsewhere).collect();
    match &target.place {
        CachePlace::Registry(reference) => {
            let client = (session.registry)()?;
            super::send(session, reference, &elsewhere).await?;
            client.push(reference, &content, source, &Default::default(), progress).await?;
        }
        CachePlace::Folder { path, tag } => {
            for layer in &elsewhere {
                fetch(session, layer).await?;
            }
            let (path, tag) = (path.clone(), tag.clone());
            par::blocking(move || write_folder(&path, &tag, content, &source)).await?;
        }
    }
    Ok(())
}

fn write_folder(
    path: &std::path::Path,
    tag: &str,
    content: Content,
    source: &ImageBlobs,
) -> Result<(), Error> {
    let name = crate::images::parse_name(&format!("cache:{tag}"))?;
    Ok(exporter::write_layout(path, &[Named { references: vec![name], content }], source)?)
}

fn collect(
    store: &LocalStore,
    solutions: &[Solution],
    imports: &ImportedCache,
    scope: CacheScope,
    compression: Compression,
) -> Result<(CacheV1, Layers), Error> {
    let mut layers = Layers::default();
    let mut records: BTreeMap<CacheKey, RecordV1> = BTreeMap::new();
    for solution in solutions {
        for (record, diff_ids) in solution.records.iter().zip(&solution.diff_ids) {
            let imported = imports.get(&record.definition);
            let stack: Vec<DiffId> = match (diff_ids, &imported) {
                (Some(diff_ids), _) => diff_ids.clone(),
                (None, Some(imported)) => imported.iter().map(|l| l.diff_id).collect(),
                (None, None) => continue,
            };
            if scope == CacheScope::Min && !solution.image.starts_with(&stack) {
                continue;
            }
            let mut indexes = Vec::with_capacity(stack.len());
            for i in 0..stack.len() {
                let add = || match (diff_ids, &imported) {
                    (None, Some(imported)) => Ok(Layer {
                        blob: imported[i].blob.clone(),
                        created: imported[i].created.unwrap_or(0),
                        elsewhere: Some(imported[i].clone()),
                    }),
                    _ => local_layer(store, &stack[..=i], compression, record, i),
                };
                indexes.push(layers.add(stack[i], add)?);
                layers.chains.entry(stack[i].0).or_insert_with(|| stack[..=i].to_vec());
            }
            records.entry(record.definition).or_insert_with(|| RecordV1 {
                keys: [Some(record.definition), record.content].into_iter().flatten().collect(),
                op: record.op,
                parts: record.parts.clone(),
                layers: indexes,
            });
        }
    }
    let cache = CacheV1 {
        version: 1,
        keys: solver::CACHE_SCHEMA.into(),
        layers: layers.order.iter().map(|(d, l)| LayerV1 { diff_id: *d, created: l.created }).collect(),
        records: records.into_values().collect(),
    };
    Ok((cache, layers))
}

fn local_layer(
    store: &LocalStore,
    chain: &[DiffId],
    compression: Compression,
    record: &Recorded,
    index: usize,
) -> Result<Layer, Error> {
    let Some(diff) = chain.last() else {
        return Err(Error::world("internal error: a layer without a chain"));
    };
    let blob = compose::stored_layer(store, diff)?;
    let blob = compose::pack_layer(store, chain, &blob, compression, Recompress::None)?;
    let id = record.layers.as_ref().and_then(|l| l.get(index));
    let created = id.map(|id| store.snapshot(id)).transpose()?.map_or(0, |s| s.created);
    Ok(Layer { blob, created, elsewhere: None })
}
