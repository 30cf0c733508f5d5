//! Clear-signed texts (RFC 9580, section 7).
//!
//! Strict on purpose: the whole input is one signed text, nothing stands before or after it, and only the
//! text that the signature covers is given out.

use super::key::Keyring;
use super::signature::{Signature, kind};
use super::{PgpError, armor, key, packet};

/// A text whose signature is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The signed text: dash escapes undone, blanks at line ends cut, lines parted by `\n`.
    pub text: String,
    /// Fingerprints of the primary keys of every good signature, upper-case hexadecimal.
    pub signers: Vec<String>,
}

const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const BEGIN_SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END_SIGNATURE: &str = "-----END PGP SIGNATURE-----";

/// Splits into the signed lines and the signature's bytes.
fn split(data: &[u8]) -> Result<(Vec<&str>, Vec<u8>), PgpError> {
    let text = std::str::from_utf8(data).map_err(|_| PgpError::Cleartext("it is not UTF-8"))?;
    let mut lines = text.split('\n').map(|l| l.trim_end_matches([' ', '\t', '\r']));
    if lines.next() != Some(BEGIN) {
        return Err(PgpError::Cleartext("it does not begin with a signed message"));
    }
    loop {
        match lines.next() {
            Some("") => break,
            Some(header) if header.starts_with("Hash: ") => {}
            _ => return Err(PgpError::Cleartext("it has a header that is not allowed")),
        }
    }
    let mut signed = Vec::new();
    loop {
        match lines.next() {
            None => return Err(PgpError::Cleartext("it has no signature")),
            Some(BEGIN_SIGNATURE) => break,
            Some(line) => match line.strip_prefix("- ") {
                Some(rest) => signed.push(rest),
                None if line.starts_with('-') => {
                    return Err(PgpError::Cleartext("a line begins with a dash that is not escaped"));
                }
                None => signed.push(line),
            },
        }
    }
    let mut body = Vec::new();
    loop {
        match lines.next() {
            None => return Err(PgpError::Cleartext("its signature has no end")),
            Some(END_SIGNATURE) => break,
            Some(line) => body.push(line),
        }
    }
    if lines.any(|l| !l.is_empty()) {
        return Err(PgpError::Cleartext("something follows its signature"));
    }
    Ok((signed, armor::decode_body(body.into_iter())?))
}

/// Verifies a clear-signed text against a keyring at `now` (seconds since 1970).
pub fn verify_cleartext(data: &[u8], keyring: &Keyring, now: u64) -> Result<Verified, PgpError> {
    let (lines, packets) = split(data)?;
    // What is hashed has CR LF between lines and none after the last.
    let canonical = lines.join("\r\n");
    let mut signers = Vec::new();
    let mut reasons = Vec::new();
    for p in packet::packets(&packets)? {
        if p.tag != packet::SIGNATURE {
            return Err(PgpError::Packet("one that is no signature"));
        }
        let Some(signature) = Signature::parse(p.body)? else {
            reasons.push("a signature of an unknown version".to_string());
            continue;
        };
        let claimed = signature.claimed();
        if !matches!(signature.kind, kind::TEXT | kind::BINARY) {
            reasons.push(format!("signature by key {claimed}: it is not for a text"));
            continue;
        }
        let Some(signer) = keyring.keys.iter().find(|k| signature.points_to(&k.key)) else {
            reasons.push(format!("signature by key {claimed}: the key is not in the keyring"));
            continue;
        };
        let created = signature.created.unwrap_or(0);
        let verdict = signature.acceptable(now).and_then(|()| signer.usable(now)).and_then(|()| {
            if created < signer.key.created { Err("it is older than its key".into()) } else { Ok(()) }
        });
        if let Err(reason) = verdict {
            reasons.push(format!("signature by key {claimed}: {reason}"));
            continue;
        }
        if signature.check(&signer.key, canonical.as_bytes()).is_err() {
            return Err(PgpError::Bad { key: claimed });
        }
        signers.push(key::hex(&signer.primary));
    }
    if signers.is_empty() {
        if reasons.is_empty() {
            reasons.push("it has none at all".into());
        }
        return Err(PgpError::NoGood(reasons));
    }
    signers.sort();
    signers.dedup();
    Ok(Verified { text: lines.join("\n"), signers })
}
