//! `StableHash`: hashing of values by structure, the same on every machine and in every release.
//!
//! Variable-length data is prefixed with its length as a little-endian u64; every hasher starts from
//! a domain tag. Never hash `Debug` or joined text.

use std::collections::BTreeMap;

/// Feeds structured values into blake3.
pub struct StableHasher(blake3::Hasher);

impl StableHasher {
    /// `domain` names what is hashed and its schema version, such as `ctrbuild.cache-key.v1`.
    pub fn new(domain: &str) -> Self {
        let mut h = StableHasher(blake3::Hasher::new());
        h.bytes(domain.as_bytes());
        h
    }
    /// Bytes of any length, length first.
    pub fn bytes(&mut self, data: &[u8]) -> &mut Self {
        self.0.update(&(data.len() as u64).to_le_bytes());
        self.0.update(data);
        self
    }
    /// Bytes whose length the type fixes.
    pub fn fixed<const N: usize>(&mut self, data: &[u8; N]) -> &mut Self {
        self.0.update(data);
        self
    }
    pub fn u64(&mut self, n: u64) -> &mut Self {
        self.fixed(&n.to_le_bytes())
    }
    /// A number that tells variants of an enum apart.
    pub fn tag(&mut self, n: u8) -> &mut Self {
        self.fixed(&[n])
    }
    pub fn put<T: StableHash + ?Sized>(&mut self, value: &T) -> &mut Self {
        value.stable_hash(self);
        self
    }
    pub fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// A value that can be hashed by structure.
pub trait StableHash {
    fn stable_hash(&self, h: &mut StableHasher);
}

impl StableHash for str {
    fn stable_hash(&self, h: &mut StableHasher) {
        h.bytes(self.as_bytes());
    }
}
impl StableHash for String {
    fn stable_hash(&self, h: &mut StableHasher) {
        h.bytes(self.as_bytes());
    }
}
impl StableHash for bool {
    fn stable_hash(&self, h: &mut StableHasher) {
        h.tag(u8::from(*self));
    }
}
impl StableHash for u32 {
    fn stable_hash(&self, h: &mut StableHasher) {
        h.u64(u64::from(*self));
    }
}
impl StableHash for u64 {
    fn stable_hash(&self, h: &mut StableHasher) {
        h.u64(*self);
    }
}
impl<T: StableHash + ?Sized> StableHash for &T {
    fn stable_hash(&self, h: &mut StableHasher) {
        (**self).stable_hash(h);
    }
}
impl<T: StableHash> StableHash for Option<T> {
    fn stable_hash(&self, h: &mut StableHasher) {
        match self {
            None => {
                h.tag(0);
            }
            Some(v) => {
                h.tag(1);
                v.stable_hash(h);
            }
        }
    }
}
impl<T: StableHash> StableHash for [T] {
    fn stable_hash(&self, h: &mut StableHasher) {
        h.u64(self.len() as u64);
        for v in self {
            v.stable_hash(h);
        }
    }
}
impl<T: StableHash> StableHash for Vec<T> {
    fn stable_hash(&self, h: &mut StableHasher) {
        self.as_slice().stable_hash(h);
    }
}
impl<K: StableHash, V: StableHash> StableHash for BTreeMap<K, V> {
    fn stable_hash(&self, h: &mut StableHasher) {
        h.u64(self.len() as u64);
        for (k, v) in self {
            k.stable_hash(h);
            v.stable_hash(h);
        }
    }
}
impl<A: StableHash, B: StableHash> StableHash for (A, B) {
    fn stable_hash(&self, h: &mut StableHasher) {
        self.0.stable_hash(h);
        self.1.stable_hash(h);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash<T: StableHash>(v: &T) -> [u8; 32] {
        StableHasher::new("test").put(v).finish()
    }

    #[test]
    fn neighbours_do_not_run_together() {
        assert_ne!(hash(&vec!["ab".to_string(), "c".into()]), hash(&vec!["a".to_string(), "bc".into()]));
        assert_ne!(hash(&Some(String::new())), hash(&None::<String>));
        assert_ne!(StableHasher::new("a").finish(), StableHasher::new("b").finish());
    }
}
