//! The part of OpenPGP that archives need: keyrings, and clear-signed texts.
//!
//! Sources: RFC 9580 (packets, armor, cleartext framework) and RFC 4880 for version 4 keys, which are the
//! ones in use. The arithmetic is `ring`'s, which is in every build anyway for TLS.
//!
//! Policy: RSA from 2048 bits, Ed25519, ECDSA on P-256 and P-384; SHA-256, SHA-384 and SHA-512. Anything
//! else, MD5 and SHA-1 above all, is refused. A key counts only if its self-signature or binding is good,
//! it may sign, it is not revoked, and it is not expired at the time given by the caller. One good
//! signature by a key of the keyring is enough; a wrong one by a known key is fatal.
//!
//! Deliberately not here: encryption, secret keys, web of trust, version 6 keys, `.kbx` files.

mod armor;
mod clearsign;
mod key;
mod packet;
mod signature;

pub use clearsign::{Verified, verify_cleartext};
pub use key::Keyring;

/// Why a keyring or signature was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PgpError {
    #[error("it is not in the form of a clear-signed text: {0}")]
    Cleartext(&'static str),
    #[error("its armor is damaged: {0}")]
    Armor(&'static str),
    #[error("its packets are damaged: {0}")]
    Packet(&'static str),
    #[error("it holds no usable key")]
    NoKeys,
    #[error("it is a GnuPG keybox, not a keyring")]
    Keybox,
    #[error("it could not be read: {0}")]
    Read(String),
    #[error("the text does not match the signature by key {key}: it was changed, or the signature is forged")]
    Bad { key: String },
    #[error("no good signature: {}", .0.join("; "))]
    NoGood(Vec<String>),
}

impl PgpError {
    /// What may help.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            PgpError::Keybox => {
                "export it first: gpg --no-default-keyring --keyring FILE --export > keyring.gpg".into()
            }
            PgpError::Bad { .. } => {
                "do not use this mirror until its release file is right; a proxy may also have damaged it"
                    .into()
            }
            PgpError::NoGood(_) => {
                "the keyring may be too old for this suite: update debian-archive-keyring, or \
                                    name the right keyring with --keyring FILE"
                    .into()
            }
            PgpError::Cleartext(_) => {
                "something other than a release file was sent: a proxy or a captive portal may be in the way"
                    .into()
            }
            _ => return None,
        })
    }
}
