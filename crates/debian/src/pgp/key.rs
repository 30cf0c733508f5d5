//! Keyrings: version 4 public keys with their bindings (RFC 9580, sections 5.5.2 and 10.1).

use super::packet::{self, Cursor, Packet};
use super::signature::{Reason, Signature, kind};
use super::{PgpError, armor};
use ring::signature as algorithms;

/// Ed25519 as RFC 4880bis names its curve, and the two NIST curves.
const OID_ED25519: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0xDA, 0x47, 0x0F, 0x01];
const OID_P256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
const OID_P384: &[u8] = &[0x2B, 0x81, 0x04, 0x00, 0x22];

#[derive(Debug, Clone)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ed25519(Vec<u8>),
    P256(Vec<u8>),
    P384(Vec<u8>),
}

/// A public key or subkey: its numbers, and nothing about whether to trust it.
#[derive(Debug, Clone)]
pub(super) struct PublicKey {
    pub fingerprint: [u8; 20],
    /// Seconds since 1970.
    pub created: u32,
    algorithm: u8,
    material: Material,
    /// `0x99`, length and packet body: how signatures over keys hash it.
    framed: Vec<u8>,
}

/// Upper-case hexadecimal, as key ids are written.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect()
}

/// Puts zeros before `value` until it has `len` bytes; `None` if it is longer.
fn padded(value: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut all = vec![0; len.checked_sub(value.len())?];
    all.extend_from_slice(value);
    Some(all)
}

impl PublicKey {
    /// `Ok(None)` for versions and algorithms that are not supported: such keys are as good as absent.
    fn parse(body: &[u8]) -> Result<Option<PublicKey>, PgpError> {
        let mut c = Cursor(body);
        if c.u8()? != 4 {
            return Ok(None);
        }
        let created = c.u32()?;
        let algorithm = c.u8()?;
        let material = match algorithm {
            1 | 3 => Material::Rsa { n: c.mpi()?.to_vec(), e: c.mpi()?.to_vec() },
            19 | 22 => {
                let len = usize::from(c.u8()?);
                let oid = c.take(len)?;
                let point = c.mpi()?;
                match (algorithm, oid, point) {
                    (22, OID_ED25519, [0x40, rest @ ..]) if rest.len() == 32 => {
                        Material::Ed25519(rest.to_vec())
                    }
                    (19, OID_P256, [4, ..]) if point.len() == 65 => Material::P256(point.to_vec()),
                    (19, OID_P384, [4, ..]) if point.len() == 97 => Material::P384(point.to_vec()),
                    _ => return Ok(None),
                }
            }
            27 => Material::Ed25519(c.take(32)?.to_vec()),
            _ => return Ok(None),
        };
        let Ok(len) = u16::try_from(body.len()) else {
            return Err(PgpError::Packet("a key that is too long"));
        };
        let mut framed = vec![0x99];
        framed.extend_from_slice(&len.to_be_bytes());
        framed.extend_from_slice(body);
        // Version 4 fingerprints are SHA-1 by definition; they name keys and prove nothing.
        let sha1 = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &framed);
        let Ok(fingerprint) = sha1.as_ref().try_into() else {
            return Err(PgpError::Packet("a key without fingerprint"));
        };
        Ok(Some(PublicKey { fingerprint, created, algorithm, material, framed }))
    }

    /// The last eight bytes of the fingerprint.
    pub fn id(&self) -> [u8; 8] {
        let mut id = [0; 8];
        id.copy_from_slice(&self.fingerprint[12..]);
        id
    }

    /// Checks one signature's numbers: `message` is what was hashed to `hashed` with OpenPGP's hash
    /// algorithm number `hash`; `values` are the packet's algorithm-specific fields.
    pub fn verify(
        &self,
        algorithm: u8,
        hash: u8,
        message: &[u8],
        hashed: &[u8],
        values: &[u8],
    ) -> Result<(), ()> {
        let rsa = |a: u8| if a == 3 { 1 } else { a };
        if rsa(algorithm) != rsa(self.algorithm) {
            return Err(());
        }
        let mut c = Cursor(values);
        let mut number = || c.mpi().map_err(drop);
        match &self.material {
            Material::Rsa { n, e } => {
                let parameters = match hash {
                    8 => &algorithms::RSA_PKCS1_2048_8192_SHA256,
                    9 => &algorithms::RSA_PKCS1_2048_8192_SHA384,
                    10 => &algorithms::RSA_PKCS1_2048_8192_SHA512,
                    _ => return Err(()),
                };
                let value = padded(number()?, n.len()).ok_or(())?;
                algorithms::RsaPublicKeyComponents { n, e }.verify(parameters, message, &value).map_err(drop)
            }
            Material::Ed25519(point) => {
                let value = if algorithm == 27 {
                    values.get(..64).ok_or(())?.to_vec()
                } else {
                    let mut value = padded(number()?, 32).ok_or(())?;
                    value.extend(padded(number()?, 32).ok_or(())?);
                    value
                };
                algorithms::UnparsedPublicKey::new(&algorithms::ED25519, point)
                    .verify(hashed, &value)
                    .map_err(drop)
            }
            Material::P256(point) | Material::P384(point) => {
                let (parameters, len): (&dyn algorithms::VerificationAlgorithm, usize) =
                    match (&self.material, hash) {
                        (Material::P256(_), 8) => (&algorithms::ECDSA_P256_SHA256_FIXED, 32),
                        (Material::P384(_), 9) => (&algorithms::ECDSA_P384_SHA384_FIXED, 48),
                        _ => return Err(()),
                    };
                let mut value = padded(number()?, len).ok_or(())?;
                value.extend(padded(number()?, len).ok_or(())?);
                algorithms::UnparsedPublicKey::new(parameters, point).verify(message, &value).map_err(drop)
            }
        }
    }
}

/// A key that may sign, with the time when it ends.
#[derive(Debug, Clone)]
pub(super) struct SigningKey {
    pub key: PublicKey,
    /// Of the primary key that it belongs to.
    pub primary: [u8; 20],
    /// Seconds since 1970, the earlier of its own and its primary's.
    pub expires: Option<u64>,
    pub revoked: bool,
}

impl SigningKey {
    pub fn usable(&self, now: u64) -> Result<(), Reason> {
        if self.revoked {
            return Err("the key is revoked".into());
        }
        if self.expires.is_some_and(|end| end <= now) {
            return Err("the key is expired".into());
        }
        Ok(())
    }
}

/// Public keys that are trusted to sign.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    pub(super) keys: Vec<SigningKey>,
}

fn earlier(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

fn end_of(key: &PublicKey, lifetime: Option<u32>) -> Option<u64> {
    lifetime.filter(|l| *l != 0).map(|l| u64::from(key.created) + u64::from(l))
}

/// Seconds since 1970 far enough in the future that no self-signature counts as made after it.
const ANY_TIME: u64 = u32::MAX as u64 + 1;

/// A good self-signature: right policy, right key, right arithmetic. Whether it is old does not matter.
fn is_own(signature: &Signature<'_>, primary: &PublicKey, text: &[u8]) -> bool {
    signature.points_to(primary)
        && signature.lifetime == 0
        && signature.acceptable(ANY_TIME).is_ok()
        && signature.check(primary, text).is_ok()
}

impl Keyring {
    /// Reads a binary or armored keyring. Keys that cannot be used are left out; none left is an error.
    pub fn parse(data: &[u8]) -> Result<Keyring, PgpError> {
        if data.get(8..12) == Some(b"KBXf") {
            return Err(PgpError::Keybox);
        }
        let decoded;
        let binary = match std::str::from_utf8(data) {
            Ok(text) if text.contains("-----BEGIN PGP PUBLIC KEY BLOCK-----") => {
                decoded = armor::decode_all(text, "PUBLIC KEY BLOCK")?;
                &decoded[..]
            }
            _ => data,
        };
        let all = packet::packets(binary)?;
        let mut ring = Keyring::default();
        let mut start = 0;
        while start < all.len() {
            let len = all[start + 1..].iter().take_while(|p| p.tag != packet::PUBLIC_KEY).count() + 1;
            if all[start].tag == packet::PUBLIC_KEY {
                ring.certificate(&all[start..start + len])?;
            }
            start += len;
        }
        if ring.keys.is_empty() { Err(PgpError::NoKeys) } else { Ok(ring) }
    }

    /// Adds the keys of another ring.
    pub fn extend(&mut self, other: Keyring) {
        self.keys.extend(other.keys);
    }

    /// Fingerprints of all keys that may sign, upper-case hexadecimal.
    pub fn fingerprints(&self) -> Vec<String> {
        self.keys.iter().map(|k| hex(&k.key.fingerprint)).collect()
    }

    /// One primary key with what follows it.
    fn certificate(&mut self, packets: &[Packet<'_>]) -> Result<(), PgpError> {
        let Some(primary) = PublicKey::parse(packets[0].body)? else { return Ok(()) };
        let mut revoked = false;
        let mut proven = false;
        // The newest good self-signature says how long the key lives and what it may do.
        let mut newest: (u32, Option<u32>, Option<u8>) = (0, None, None);
        let mut subkeys: Vec<SigningKey> = Vec::new();
        let mut covered = primary.framed.clone();
        let mut subkey: Option<(PublicKey, Option<(u32, SigningKey)>)> = None;
        let mut finish = |subkey: &mut Option<(PublicKey, Option<(u32, SigningKey)>)>| {
            if let Some((_, Some((_, key)))) = subkey.take() {
                subkeys.push(key);
            }
        };
        // Before the first user id stand direct signatures, after a subkey its bindings.
        for p in &packets[1..] {
            match p.tag {
                packet::USER_ID | packet::USER_ATTRIBUTE => {
                    finish(&mut subkey);
                    covered = primary.framed.clone();
                    covered.push(if p.tag == packet::USER_ID { 0xB4 } else { 0xD1 });
                    let len = u32::try_from(p.body.len())
                        .map_err(|_| PgpError::Packet("a name that is too long"))?;
                    covered.extend_from_slice(&len.to_be_bytes());
                    covered.extend_from_slice(p.body);
                }
                packet::PUBLIC_SUBKEY => {
                    finish(&mut subkey);
                    match PublicKey::parse(p.body)? {
                        Some(key) => {
                            covered = primary.framed.clone();
                            covered.extend_from_slice(&key.framed);
                            subkey = Some((key, None));
                        }
                        // Its bindings must not count for anything else.
                        None => covered = Vec::new(),
                    }
                }
                packet::SIGNATURE => {
                    let Some(signature) = Signature::parse(p.body)? else { continue };
                    match signature.kind {
                        kind::KEY_REVOCATION if is_own(&signature, &primary, &primary.framed) => {
                            revoked = true
                        }
                        kind::DIRECT if is_own(&signature, &primary, &primary.framed) => {
                            proven = true;
                            note(&mut newest, &signature);
                        }
                        k if kind::CERTIFICATION.contains(&k)
                            && subkey.is_none()
                            && is_own(&signature, &primary, &covered) =>
                        {
                            proven = true;
                            note(&mut newest, &signature);
                        }
                        kind::SUBKEY_BINDING | kind::SUBKEY_REVOCATION => {
                            let Some((key, state)) = &mut subkey else { continue };
                            if is_own(&signature, &primary, &covered) {
                                bind(key, state, &signature, &primary, &covered);
                            }
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        finish(&mut subkey);
        if !proven {
            return Ok(());
        }
        let (_, lifetime, flags) = newest;
        let expires = end_of(&primary, lifetime);
        // Without flags a primary key may sign.
        if flags.is_none_or(|f| f & 2 != 0) {
            let fingerprint = primary.fingerprint;
            self.keys.push(SigningKey { key: primary.clone(), primary: fingerprint, expires, revoked });
        }
        for mut key in subkeys {
            key.expires = earlier(key.expires, expires);
            key.revoked |= revoked;
            self.keys.push(key);
        }
        Ok(())
    }
}

fn note(newest: &mut (u32, Option<u32>, Option<u8>), signature: &Signature<'_>) {
    let created = signature.created.unwrap_or(0);
    if created >= newest.0 {
        *newest = (created, signature.key_lifetime, signature.key_flags);
    }
}

/// Takes a good binding or revocation of a subkey into account.
fn bind(
    key: &PublicKey,
    state: &mut Option<(u32, SigningKey)>,
    signature: &Signature<'_>,
    primary: &PublicKey,
    covered: &[u8],
) {
    if signature.kind == kind::SUBKEY_REVOCATION {
        let known = state.take().map(|(_, k)| k);
        let key = known.unwrap_or(SigningKey {
            key: key.clone(),
            primary: primary.fingerprint,
            expires: None,
            revoked: true,
        });
        // Nothing is newer than a revocation.
        *state = Some((u32::MAX, SigningKey { revoked: true, ..key }));
        return;
    }
    let created = signature.created.unwrap_or(0);
    if state.as_ref().is_some_and(|(known, _)| *known > created) {
        return;
    }
    if signature.key_flags.is_none_or(|f| f & 2 == 0) {
        *state = None;
        return;
    }
    // A signing subkey must itself sign that it belongs to the primary key; else anybody could claim it.
    let back = signature.embedded.and_then(|body| Signature::parse(body).ok().flatten());
    let bound = back.is_some_and(|b| {
        b.kind == kind::PRIMARY_BINDING && b.acceptable(ANY_TIME).is_ok() && b.check(key, covered).is_ok()
    });
    if bound {
        let expires = end_of(key, signature.key_lifetime);
        *state = Some((
            created,
            SigningKey { key: key.clone(), primary: primary.fingerprint, expires, revoked: false },
        ));
    }
}
