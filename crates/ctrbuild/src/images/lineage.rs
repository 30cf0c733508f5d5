//! Which image was made from which: told by layers and history, since an image names no parent.
//!
//! An image is the parent of another one that has all its layers below its own, and all its history before its own. Of
//! several such the one with the most is it.

use super::{Listed, UNTAGGED, describe, images_of};
use crate::{Error, lookup};
use digest::{DiffId, Digest};
use oci::{History, Image, ImageConfig};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use store::LocalStore;

/// What decides about a parent.
struct Candidate {
    id: Digest,
    config: ImageConfig,
}

fn same(a: &History, b: &History) -> bool {
    a.created_by == b.created_by && a.empty_layer == b.empty_layer
}

fn begins_with(history: &[History], start: &[History]) -> bool {
    history.len() >= start.len() && history.iter().zip(start).all(|(a, b)| same(a, b))
}

/// Whether `child` was made from `parent`.
fn is_child(child: &ImageConfig, parent: &ImageConfig) -> bool {
    let (own, base) = (&child.rootfs.diff_ids, &parent.rootfs.diff_ids);
    let told = begins_with(&child.history, &parent.history);
    // A history may be lost on the way; layers are not made twice by chance. Without one more layer only the history tells.
    !base.is_empty()
        && own.starts_with(base)
        && child.platform() == parent.platform()
        && (own.len() > base.len() || (told && child.history.len() > parent.history.len()))
}

/// The parent of each image that has one in the store: ids of configurations.
pub fn parents(store: &LocalStore) -> Result<BTreeMap<Digest, Digest>, Error> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for found in store.list_refs()? {
        let Some(document) = lookup::document(store, &found.target.digest)? else { continue };
        for image in images_of(store, &document)? {
            let id = image.id();
            if seen.insert(id) {
                all.push(Candidate { id, config: image.config.value });
            }
        }
    }
    let mut by_layers: HashMap<&[DiffId], Vec<&Candidate>> = HashMap::new();
    for candidate in &all {
        by_layers.entry(&candidate.config.rootfs.diff_ids).or_default().push(candidate);
    }
    let mut out = BTreeMap::new();
    for child in &all {
        let layers = &child.config.rootfs.diff_ids;
        let below = (1..=layers.len()).rev().filter_map(|n| by_layers.get(&layers[..n])).flatten();
        let best = below.filter(|p| p.id != child.id && is_child(&child.config, &p.config)).max_by_key(|p| {
            let told = begins_with(&child.config.history, &p.config.history);
            (told, p.config.rootfs.diff_ids.len(), p.config.history.len())
        });
        out.extend(best.map(|parent| (child.id, parent.id)));
    }
    Ok(out)
}

/// Names of images that were made from one of `images`, other than those behind `except`.
pub(super) fn children(store: &LocalStore, images: &[Image], except: &Digest) -> Result<Vec<String>, Error> {
    // By which most manifests can be told not to matter without reading their configurations.
    let marks: Vec<String> = images
        .iter()
        .filter_map(|i| Some((i.manifest.value.layers.last()?, i.config.value.rootfs.diff_ids.last()?)))
        .flat_map(|(blob, diff)| [blob.digest.hex(), diff.0.hex()])
        .collect();
    let ids: Vec<Digest> = images.iter().map(Image::id).collect();
    let mut out = Vec::new();
    for found in store.list_refs()? {
        if found.target.digest == *except {
            continue;
        }
        let Some(document) = lookup::document(store, &found.target.digest)? else { continue };
        let of_manifest = matches!(document, oci::Document::Manifest(_));
        let text = String::from_utf8_lossy(document.bytes());
        if of_manifest && !marks.iter().any(|mark| text.contains(mark.as_str())) {
            continue;
        }
        let of = |child: &Image| {
            let config = &child.config.value;
            !ids.contains(&child.id()) && images.iter().any(|i| is_child(config, &i.config.value))
        };
        if images_of(store, &document)?.iter().any(of) {
            out.push(found.name.strip_prefix(UNTAGGED).map_or(found.name.clone(), str::to_string));
        }
    }
    Ok(out)
}

/// An image with all its names, and those that were made from it.
#[derive(Debug, Clone)]
pub struct Node {
    /// One line of `images` a name.
    pub names: Vec<Listed>,
    pub children: Vec<Node>,
}

/// All images, each below its parent.
pub fn forest(store: &LocalStore) -> Result<Vec<Node>, Error> {
    let mut rows: BTreeMap<Digest, Vec<Listed>> = BTreeMap::new();
    for found in store.list_refs()? {
        if let Some(listed) = describe(store, &found)? {
            rows.entry(listed.id).or_default().push(listed);
        }
    }
    let parents = parents(store)?;
    let mut below: BTreeMap<Option<Digest>, Vec<Digest>> = BTreeMap::new();
    for id in rows.keys() {
        // An image of several platforms is no row of its parent's.
        let parent = parents.get(id).filter(|p| rows.contains_key(*p)).copied();
        below.entry(parent).or_default().push(*id);
    }
    Ok(grow(None, &mut below, &mut rows))
}

/// The trees below one image. Parents have fewer layers or less history, so that there is no circle.
fn grow(
    at: Option<Digest>,
    below: &mut BTreeMap<Option<Digest>, Vec<Digest>>,
    rows: &mut BTreeMap<Digest, Vec<Listed>>,
) -> Vec<Node> {
    let ids = below.remove(&at).unwrap_or_default();
    let mut out: Vec<Node> = ids
        .into_iter()
        .map(|id| Node { names: rows.remove(&id).unwrap_or_default(), children: grow(Some(id), below, rows) })
        .collect();
    let name = |n: &Node| n.names.first().and_then(|l| l.reference.as_ref().map(|r| r.familiar()));
    out.sort_by_key(name);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(layers: &[u8], steps: &[(&str, bool)]) -> ImageConfig {
        let mut config = ImageConfig::scratch(&oci::Platform::new("linux", "amd64"));
        config.rootfs.diff_ids = layers.iter().map(|b| DiffId(Digest::of(&[*b]))).collect();
        for (step, empty_layer) in steps {
            config.history.push(History {
                created_by: step.to_string(),
                empty_layer: *empty_layer,
                ..History::default()
            });
        }
        config
    }

    #[test]
    fn who_was_made_from_whom() {
        let base = config(&[1], &[("FROM", false)]);
        let env = config(&[1], &[("FROM", false), ("ENV", true)]);
        let run = config(&[1, 2], &[("FROM", false), ("RUN", false)]);
        let both = config(&[1, 2], &[("FROM", false), ("ENV", true), ("RUN", false)]);
        let lost = config(&[1, 3], &[]);
        assert!(is_child(&env, &base) && is_child(&run, &base) && is_child(&both, &env));
        assert!(is_child(&lost, &base), "layers tell enough");
        assert!(!is_child(&base, &env) && !is_child(&base, &base) && !is_child(&both, &run));
        assert!(!is_child(&run, &config(&[], &[])), "an empty image is nobody's parent");
    }
}
