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

/// How many parts of an earlier record are others now.
pub fn distance(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> usize {
    let gone = before.keys().filter(|name| !now.contains_key(*name)).count();
    gone + now.iter().filter(|(name, hash)| before.get(*name) != Some(hash)).count()
}

/// Between the index of an input and the path of one of its files.
const FILE: &str = " file ";
/// So many files are named.
const MOST_NAMED: usize = 3;

/// The name of a part that is one file of an input. It is no part of the key: it only tells which file changed.
pub fn file_part(input: usize, path: &str) -> String {
    format!("{input}{FILE}{path}")
}

/// What differs between the parts of an earlier record and those of now, in words.
pub fn difference(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let mut out = Vec::new();
    for (name, hash) in now {
        if before.get(name) == Some(hash) || is_file(name) {
            continue;
        }
        let files = changed_files(name.split(' ').next().unwrap_or_default(), before, now);
        match files.is_empty() {
            true => out.push(in_words(name)),
            false => out.extend(files),
        }
    }
    out
}

fn is_file(name: &str) -> bool {
    name.split_once(' ').is_some_and(|(_, rest)| rest.starts_with(FILE.trim_start()))
}

/// The files of an input that are others now; none where one of the two does not say them.
fn changed_files(
    input: &str,
    before: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
) -> Vec<String> {
    let prefix = format!("{input}{FILE}");
    let files = |parts: &'_ BTreeMap<String, String>| -> BTreeMap<String, String> {
        let of_input =
            parts.iter().filter_map(|(n, h)| Some((n.strip_prefix(&prefix)?.to_string(), h.clone())));
        of_input.collect()
    };
    let (before, now) = (files(before), files(now));
    if before.is_empty() || now.is_empty() {
        return Vec::new();
    }
    let mut out: Vec<String> = now
        .iter()
        .filter_map(|(path, hash)| match before.get(path) {
            None => Some(format!("{path} (new)")),
            Some(old) => (old != hash).then(|| path.clone()),
        })
        .collect();
    out.extend(before.keys().filter(|path| !now.contains_key(*path)).map(|path| format!("{path} (gone)")));
    if out.len() > MOST_NAMED + 1 {
        let more = out.len() - MOST_NAMED;
        out.truncate(MOST_NAMED);
        out.push(format!("{more} more files"));
    }
    out
}

/// `0 files /src of NAME`, `1 base NAME`: without what is for programs.
fn in_words(part: &str) -> String {
    let rest = part.split_once(' ').map_or(part, |(_, rest)| rest);
    let rest = rest.strip_prefix("files ").or_else(|| rest.strip_prefix("base ")).unwrap_or(part);
    rest.trim_start_matches("LINK ").replace("[internal] load build context", "the build context")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(n, h)| (n.to_string(), h.to_string())).collect()
    }

    #[test]
    fn differences_in_words() {
        let context = "0 files / of [internal] load build context";
        let told = |before: &[(&str, &str)], now: &[(&str, &str)]| {
            difference(&parts(before), &parts(now)).join(", ")
        };
        assert_eq!(told(&[(context, "1")], &[(context, "2")]), "/ of the build context");
        assert_eq!(told(&[("1 base [a 1/2] RUN x", "1")], &[("1 base [a 1/2] RUN x", "2")]), "[a 1/2] RUN x");
        assert_eq!(told(&[("content", "1")], &[("content", "2")]), "content");
        let with = |hash: &'static str, files: &[(&'static str, &'static str)]| {
            let mut all = vec![(context, hash)];
            all.extend(files);
            all
        };
        let before =
            with("1", &[("0 file a", "1"), ("0 file b c", "1"), ("0 file d", "1"), ("1 file a", "1")]);
        let now = with("2", &[("0 file a", "2"), ("0 file b c", "1"), ("0 file e", "1"), ("1 file a", "9")]);
        assert_eq!(told(&before, &now), "a, e (new), d (gone)");
        // One of them had too many files to tell.
        assert_eq!(told(&before, &[(context, "2")]), "/ of the build context");
        let many: Vec<(String, String)> =
            (0..9).map(|n| (file_part(0, &format!("f{n}")), "1".into())).collect();
        let many = with("2", &[]).iter().map(|(n, h)| (n.to_string(), h.to_string())).chain(many).collect();
        assert_eq!(
            difference(&parts(&before), &many).join(", "),
            "f0 (new), f1 (new), f2 (new), 9 more files"
        );
    }
}
