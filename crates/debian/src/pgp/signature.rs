//! Version 4 signature packets (RFC 9580, section 5.2) and their check.

use super::PgpError;
use super::key::PublicKey;
use super::packet::Cursor;
use ring::digest as hash;

/// The kinds of signatures that are read.
pub(super) mod kind {
    pub const BINARY: u8 = 0x00;
    pub const TEXT: u8 = 0x01;
    pub const CERTIFICATION: std::ops::RangeInclusive<u8> = 0x10..=0x13;
    pub const SUBKEY_BINDING: u8 = 0x18;
    pub const PRIMARY_BINDING: u8 = 0x19;
    pub const DIRECT: u8 = 0x1F;
    pub const KEY_REVOCATION: u8 = 0x20;
    pub const SUBKEY_REVOCATION: u8 = 0x28;
}

/// Why a signature does not count. Text for people.
pub(super) type Reason = String;

/// A signature packet of version 4.
#[derive(Debug, Clone)]
pub(super) struct Signature<'a> {
    pub kind: u8,
    algorithm: u8,
    hash: u8,
    /// From the version to the end of the hashed subpackets: what the signature covers besides its text.
    hashed: &'a [u8],
    left16: [u8; 2],
    values: &'a [u8],
    /// Seconds since 1970.
    pub created: Option<u32>,
    /// Seconds after `created`; 0 is never.
    pub lifetime: u32,
    /// Of the key, seconds after its creation.
    pub key_lifetime: Option<u32>,
    pub key_flags: Option<u8>,
    pub issuer: Option<[u8; 8]>,
    pub issuer_fingerprint: Option<&'a [u8]>,
    pub embedded: Option<&'a [u8]>,
    /// A subpacket that is critical and not understood.
    unknown_critical: Option<u8>,
}

impl<'a> Signature<'a> {
    /// `Ok(None)` for versions other than 4.
    pub fn parse(body: &'a [u8]) -> Result<Option<Signature<'a>>, PgpError> {
        let mut c = Cursor(body);
        if c.u8()? != 4 {
            return Ok(None);
        }
        let (kind, algorithm, hash) = (c.u8()?, c.u8()?, c.u8()?);
        let hashed_len = usize::from(c.u16()?);
        let hashed_area = c.take(hashed_len)?;
        let unhashed_len = usize::from(c.u16()?);
        let unhashed_area = c.take(unhashed_len)?;
        let left = c.take(2)?;
        let mut signature = Signature {
            kind,
            algorithm,
            hash,
            hashed: &body[..6 + hashed_len],
            left16: [left[0], left[1]],
            values: c.0,
            created: None,
            lifetime: 0,
            key_lifetime: None,
            key_flags: None,
            issuer: None,
            issuer_fingerprint: None,
            embedded: None,
            unknown_critical: None,
        };
        signature.subpackets(hashed_area, true)?;
        signature.subpackets(unhashed_area, false)?;
        Ok(Some(signature))
    }

    fn subpackets(&mut self, area: &'a [u8], trusted: bool) -> Result<(), PgpError> {
        let mut c = Cursor(area);
        while !c.is_empty() {
            let len = match c.u8()? {
                n @ 0..=191 => usize::from(n),
                n @ 192..=254 => ((usize::from(n) - 192) << 8) + usize::from(c.u8()?) + 192,
                255 => c.u32()? as usize,
            };
            let mut body = Cursor(c.take(len)?);
            let head = body.u8()?;
            match (head & 0x7F, trusted) {
                (2, true) => self.created = Some(body.u32()?),
                (3, true) => self.lifetime = body.u32()?,
                (9, true) => self.key_lifetime = Some(body.u32()?),
                (27, true) => self.key_flags = Some(body.0.first().copied().unwrap_or(0)),
                // Who signed is only a pointer to the key to try, and the back-signature proves itself:
                // both may stand in the area that is not hashed.
                (16, _) => {
                    if let Ok(id) = body.take(8) {
                        self.issuer = id.try_into().ok();
                    }
                }
                (33, _) => {
                    body.u8()?;
                    self.issuer_fingerprint = Some(body.0);
                }
                (32, _) => self.embedded = Some(body.0),
                // Preferences, features, exportable, primary, policy and the like do not change whether a
                // signature holds.
                (4..=7 | 11 | 21..=26 | 28..=31 | 34, _) => {}
                (other, true) if head & 0x80 != 0 => self.unknown_critical = Some(other),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether `key` may be the one that made this.
    pub fn points_to(&self, key: &PublicKey) -> bool {
        match (self.issuer_fingerprint, self.issuer) {
            (Some(fingerprint), _) => fingerprint == key.fingerprint,
            (None, Some(id)) => id == key.id(),
            (None, None) => true,
        }
    }

    /// Name of the key that it claims, in hexadecimal.
    pub fn claimed(&self) -> String {
        match (self.issuer_fingerprint, self.issuer) {
            (Some(fingerprint), _) => super::key::hex(fingerprint),
            (None, Some(id)) => super::key::hex(&id),
            (None, None) => "(unnamed)".into(),
        }
    }

    /// Whether the policy lets this signature count at all, at `now` (seconds since 1970).
    pub fn acceptable(&self, now: u64) -> Result<(), Reason> {
        if let Some(number) = self.unknown_critical {
            return Err(format!("it has the critical subpacket {number}, which is not understood"));
        }
        match self.hash {
            8..=10 => {}
            1 => return Err("it uses MD5, which is broken".into()),
            2 => return Err("it uses SHA-1, which is broken".into()),
            other => return Err(format!("its hash algorithm {other} is not supported")),
        }
        let created = u64::from(self.created.ok_or("it has no creation time")?);
        // A clock that is a day late is no reason to refuse.
        if created > now.saturating_add(86_400) {
            return Err("it was made in the future".into());
        }
        if self.lifetime != 0 && created + u64::from(self.lifetime) <= now {
            return Err("it is expired".into());
        }
        Ok(())
    }

    /// Checks the arithmetic over `text` (already in the form that this kind of signature covers).
    pub fn check(&self, key: &PublicKey, text: &[u8]) -> Result<(), Reason> {
        let mut message = Vec::with_capacity(text.len() + self.hashed.len() + 6);
        message.extend_from_slice(text);
        message.extend_from_slice(self.hashed);
        message.extend_from_slice(&[4, 0xFF]);
        let covered = u32::try_from(self.hashed.len()).map_err(|_| "it is too long")?;
        message.extend_from_slice(&covered.to_be_bytes());
        let algorithm = match self.hash {
            8 => &hash::SHA256,
            9 => &hash::SHA384,
            10 => &hash::SHA512,
            other => return Err(format!("its hash algorithm {other} is not supported")),
        };
        let digest = hash::digest(algorithm, &message);
        if digest.as_ref()[..2] != self.left16 {
            return Err("its hash does not match".into());
        }
        let bad = |_| "its hash does not match".to_string();
        key.verify(self.algorithm, self.hash, &message, digest.as_ref(), self.values).map_err(bad)
    }
}
