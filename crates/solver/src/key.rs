//! Cache keys. See docs/cache-key.md, which is normative.

use digest::{CacheKey, StableHasher, TreeHash};
use graph::Vertex;
use std::collections::BTreeMap;

/// Bumped when the meaning of a key changes; older records are then never hit.
pub const CACHE_SCHEMA: &str = "ctrbuild.cache-key.v1";

/// One named part of a key: what people are told when it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub hash: [u8; 32],
}

/// The op and platform of a vertex, without inputs.
pub fn op_hash(vertex: &Vertex) -> [u8; 32] {
    StableHasher::new("ctrbuild.op.v1").put(vertex).finish()
}

/// Fold the parts into a key. `flavour` keeps definition keys and content keys apart.
pub fn combine(flavour: &str, op: &[u8; 32], parts: &[Part]) -> CacheKey {
    let mut h = StableHasher::new(CACHE_SCHEMA);
    h.bytes(flavour.as_bytes()).fixed(op).u64(parts.len() as u64);
    for p in parts {
        h.fixed(&p.hash);
    }
    CacheKey::from_bytes(h.finish())
}

/// The hash of an input part that is known by content.
pub fn content_part(hash: &TreeHash) -> [u8; 32] {
    StableHasher::new("ctrbuild.part.content.v1").put(hash).finish()
}

/// Parts as a record keeps them: name to hexadecimal hash.
pub fn named(op: &[u8; 32], parts: &[Part]) -> BTreeMap<String, String> {
    let mut out: BTreeMap<String, String> =
        parts.iter().map(|p| (p.name.clone(), digest::to_hex(&p.hash))).collect();
    out.insert("op".to_string(), digest::to_hex(op));
    out
}

/// Why a vertex was not in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MissReason {
    /// No record of such an op.
    Never,
    /// The same op was run before; these inputs differ now.
    Changed(Vec<String>),
    /// The cache was not asked (`--no-cache`).
    Ignored,
}

impl std::fmt::Display for MissReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MissReason::Never => write!(f, "not built before"),
            MissReason::Changed(parts) => write!(f, "changed: {}", parts.join(", ")),
            MissReason::Ignored => write!(f, "cache not used"),
        }
    }
}

/// What differs between the parts of an earlier record and those of now.
pub fn difference(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    now.iter().filter(|(name, hash)| before.get(*name) != Some(hash)).map(|(name, _)| name.clone()).collect()
}
