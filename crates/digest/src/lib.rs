//! The hashes of ctrbuild, one newtype each, so that they cannot be mixed up.
//!
//! - [`Digest`]: sha256 of stored bytes, `sha256:<64 hex>` (OCI image spec, descriptor.md).
//! - [`DiffId`]: sha256 of an uncompressed layer tar (OCI image spec, config.md).
//! - [`ChainId`]: the OCI fold of diff ids from the base up.
//! - [`TreeHash`]: blake3 Merkle hash of files.
//! - [`VertexId`]: blake3 of a build-graph definition.
//! - [`CacheKey`]: blake3 of a pinned op and its inputs, versioned by schema.
//!
//! Invariants: every hash of structured data goes through [`StableHasher`], which prefixes lengths
//! and takes a domain tag, so two different values never feed the hasher the same bytes.
//!
//! Deliberately not here: any I/O beyond `Read`, and any knowledge of images.
#![forbid(unsafe_code)]

mod hex;
mod stable;
mod verify;

pub use hex::{from_hex, to_hex};
pub use stable::{StableHash, StableHasher};
pub use verify::{HashingWriter, Sha256, VerifyError, VerifyingReader};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a digest string was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    #[error("digest `{0}` has no `algorithm:hex` form")]
    NoColon(String),
    #[error("digest algorithm `{0}` is not supported (only sha256)")]
    Algorithm(String),
    #[error("digest `{0}` is not 64 lower-case hexadecimal digits")]
    Hex(String),
}

/// sha256 of stored bytes. Its text form is `sha256:` and 64 lower-case hexadecimal digits; nothing
/// else parses, so a parsed digest is always safe as a file name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Digest(bytes)
    }
    /// Hash `data` at once.
    pub fn of(data: &[u8]) -> Self {
        let mut h = Sha256::new();
        h.update(data);
        h.finish()
    }
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
    /// The 64 hexadecimal digits alone.
    pub fn hex(&self) -> String {
        to_hex(&self.0)
    }
    /// The first 12 digits, as people write image ids.
    pub fn short(&self) -> String {
        self.hex()[..12].to_string()
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (algorithm, rest) = s.split_once(':').ok_or_else(|| ParseDigestError::NoColon(s.to_string()))?;
        if algorithm != "sha256" {
            return Err(ParseDigestError::Algorithm(algorithm.to_string()));
        }
        from_hex(rest).map(Digest).ok_or_else(|| ParseDigestError::Hex(rest.to_string()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! serde_as_text {
    ($t:ty) => {
        impl Serialize for $t {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $t {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let s = std::borrow::Cow::<'de, str>::deserialize(d)?;
                s.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
serde_as_text!(Digest);

macro_rules! sha_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Digest);
        impl $name {
            /// The 64 hexadecimal digits alone.
            pub fn hex(&self) -> String { self.0.hex() }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(&self.0, f) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, concat!(stringify!($name), "({})"), self.0) }
        }
        impl FromStr for $name {
            type Err = ParseDigestError;
            fn from_str(s: &str) -> Result<Self, Self::Err> { s.parse().map($name) }
        }
        serde_as_text!($name);
    };
}

sha_newtype! {
    /// sha256 of an uncompressed layer tar.
    DiffId
}
sha_newtype! {
    /// The OCI chain id: identifies a stack of layers, base first.
    ChainId
}

impl ChainId {
    /// The chain of one layer is its diff id (OCI image spec, config.md, "Layer ChainID").
    pub fn base(diff: DiffId) -> ChainId {
        ChainId(diff.0)
    }
    /// The chain with `diff` put on top.
    pub fn push(self, diff: DiffId) -> ChainId {
        ChainId(Digest::of(format!("{} {}", self.0, diff.0).as_bytes()))
    }
    /// The chain of a whole stack, or `None` for the empty one (scratch).
    pub fn of(diffs: &[DiffId]) -> Option<ChainId> {
        let (first, rest) = diffs.split_first()?;
        Some(rest.iter().fold(ChainId::base(*first), |chain, d| chain.push(*d)))
    }
}

macro_rules! blake_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);
        impl $name {
            pub const fn from_bytes(bytes: [u8; 32]) -> Self { $name(bytes) }
            pub const fn bytes(&self) -> &[u8; 32] { &self.0 }
            pub fn hex(&self) -> String { to_hex(&self.0) }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.hex()) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, concat!(stringify!($name), "({})"), self.hex()) }
        }
        impl FromStr for $name {
            type Err = ParseDigestError;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                from_hex(s).map($name).ok_or_else(|| ParseDigestError::Hex(s.to_string()))
            }
        }
        impl StableHash for $name {
            fn stable_hash(&self, h: &mut StableHasher) { h.fixed(&self.0); }
        }
        serde_as_text!($name);
    };
}

blake_newtype! {
    /// blake3 Merkle hash of a file tree (names, kinds, modes, owners, contents; never times).
    TreeHash
}
blake_newtype! {
    /// blake3 of a vertex definition in the build graph.
    VertexId
}
blake_newtype! {
    /// blake3 of a pinned op and its inputs.
    CacheKey
}

impl StableHash for Digest {
    fn stable_hash(&self, h: &mut StableHasher) {
        h.fixed(&self.0);
    }
}
impl StableHash for DiffId {
    fn stable_hash(&self, h: &mut StableHasher) {
        self.0.stable_hash(h);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_text_is_strict() {
        let d = Digest::of(b"");
        assert_eq!(d.to_string(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(d.to_string().parse::<Digest>().as_ref(), Ok(&d));
        for bad in
            ["", "sha256", "sha256:", "sha512:00", "sha256:../../etc/passwd", &d.to_string().to_uppercase()]
        {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn chain_id_follows_the_spec() {
        let a = DiffId(Digest::of(b"a"));
        let b = DiffId(Digest::of(b"b"));
        let want = Digest::of(format!("{a} {b}").as_bytes());
        assert_eq!(ChainId::of(&[a, b]), Some(ChainId(want)));
        assert_eq!(ChainId::of(&[a]), Some(ChainId(a.0)));
        assert_eq!(ChainId::of(&[]), None);
    }
}
