//! What a shared cache says of itself: the config of its manifest (docs/shared-cache.md).

use digest::{CacheKey, DiffId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use store::OpHash;

/// Type of the manifest, as an artifact.
pub const ARTIFACT: &str = "application/vnd.ctrbuild.cache.v1";
/// Media type of its config.
pub const CONFIG: &str = "application/vnd.ctrbuild.cache.config.v1+json";
/// Bytes of a config that are read.
pub const MAX_BYTES: usize = 64 << 20;

/// The config, version 1. Layers are known by their index in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheV1 {
    pub version: u32,
    /// The schema of the keys. Records of another one are not used.
    pub keys: String,
    /// By layer of the manifest.
    pub layers: Vec<LayerV1>,
    pub records: Vec<RecordV1>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerV1 {
    pub diff_id: DiffId,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

/// The result of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordV1 {
    /// Its definition key, and its content key where that is known.
    pub keys: Vec<CacheKey>,
    pub op: OpHash,
    /// The named parts of the definition key.
    #[serde(default)]
    pub parts: BTreeMap<String, String>,
    /// Its stack of layers, lowest first.
    pub layers: Vec<usize>,
}

/// A cache in another version or of other keys is no error: it just has nothing to say.
pub fn parse(bytes: &[u8]) -> Result<CacheV1, String> {
    #[derive(Deserialize)]
    struct Probe {
        version: u32,
        keys: String,
    }
    let probe: Probe = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if probe.version != 1 || probe.keys != solver::CACHE_SCHEMA {
        return Err("it was written by another version of ctrbuild".into());
    }
    serde_json::from_slice(bytes).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use digest::Digest;

    #[test]
    fn the_form_is_pinned() {
        let cache = CacheV1 {
            version: 1,
            keys: solver::CACHE_SCHEMA.into(),
            layers: vec![LayerV1 { diff_id: DiffId(Digest::of(b"layer")), created: 1_700_000_000 }],
            records: vec![RecordV1 {
                keys: vec![CacheKey::from_bytes([1; 32])],
                op: OpHash::from_bytes([2; 32]),
                parts: BTreeMap::from([("op".into(), "02".into())]),
                layers: vec![0],
            }],
        };
        let text = serde_json::to_string(&cache).unwrap();
        assert_eq!(parse(text.as_bytes()).unwrap(), cache);
        let diff_id = Digest::of(b"layer");
        let (one, two) = ("01".repeat(32), "02".repeat(32));
        let schema = solver::CACHE_SCHEMA;
        let pinned = format!(
            r#"{{"version":1,"keys":"{schema}","layers":[{{"diff_id":"{diff_id}","created":1700000000}}],"records":[{{"keys":["{one}"],"op":"{two}","parts":{{"op":"02"}},"layers":[0]}}]}}"#
        );
        assert_eq!(text, pinned);
        assert!(parse(text.replace("\"version\":1", "\"version\":2").as_bytes()).is_err());
        assert!(parse(text.replace(solver::CACHE_SCHEMA, "other").as_bytes()).is_err());
        assert!(parse(b"{}").is_err());
    }
}
