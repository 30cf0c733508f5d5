//! Manifests, indexes, configurations, references, digests, platforms.

use digest::Digest;
use oci::{Descriptor, Document, ImageConfig, Platform, Reference};

/// Any bytes as a manifest or index: the bytes are kept, the digest is theirs, and a descriptor of them
/// verifies.
pub fn document(bytes: &[u8]) {
    let Ok(document) = Document::parse(bytes, None) else { return };
    assert_eq!(document.bytes().as_ref(), bytes);
    assert_eq!(document.digest(), Digest::of(bytes));
    let again = Document::verify(bytes, &document.descriptor()).expect("its own descriptor");
    assert_eq!(again.digest(), document.digest());
    let lie = Descriptor { size: bytes.len() as u64 + 1, ..document.descriptor() };
    assert!(Document::verify(bytes, &lie).is_err());
    if let Document::Index(index) = &document {
        let host = Platform::new("linux", "amd64");
        if let Ok(chosen) = index.value.select(&host) {
            assert!(index.value.manifests.contains(chosen));
        }
        let _ = index.value.images().count();
    }
}

/// Any bytes as a configuration: what was understood is written and understood once more.
pub fn config(bytes: &[u8]) {
    let Ok(raw) = ImageConfig::parse(bytes, oci::media::OCI_CONFIG) else { return };
    assert_eq!(raw.bytes.as_ref(), bytes);
    let written = raw.value.to_json();
    let again = ImageConfig::parse(&written, oci::media::OCI_CONFIG).expect("what we write");
    assert_eq!(again.value.to_json(), written);
    let _ = raw.value.chain_id();
    let _ = raw.value.platform();
}

/// Any text as a reference or digest: what was understood prints as something that means the same.
pub fn reference(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(reference) = Reference::parse(&text) {
        let shown = reference.to_string();
        assert_eq!(Reference::parse(&shown).expect("its own text"), reference, "{text:?}");
        let familiar = reference.familiar();
        assert_eq!(Reference::parse(&familiar).expect("its familiar text"), reference, "{familiar:?}");
        assert!(!reference.path().split('/').any(|part| part == ".."), "{text:?}");
        assert!(!shown.contains(|c: char| c.is_control() || c.is_whitespace()));
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
        assert!(digest.hex().bytes().all(|b| b.is_ascii_hexdigit()));
    }
}

pub fn platform(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let host = Platform::new("linux", "amd64");
    if let Ok(platform) = Platform::parse(&text, &host) {
        let shown = platform.to_string();
        let again = Platform::parse(&shown, &host).unwrap_or_else(|e| panic!("{text:?} is {shown:?}: {e}"));
        assert!(again.normalize().is_same(&platform.normalize()), "{text:?} is {shown:?}");
        assert!(platform.matcher().matches(&platform.normalize()), "{text:?}");
    }
}
