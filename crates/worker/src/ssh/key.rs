//! Private keys from files, for agents without an agent: `openssh-key-v1` (OpenSSH's PROTOCOL.key) with
//! Ed25519, RSA and ECDSA keys, and PKCS#1 in PEM for RSA. Encrypted keys belong into a real agent.

use super::agent::{Fields, put};
use base64::Engine;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as RsaKeyPair, KeyPairComponents, PublicKeyComponents};
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

/// Flags of a sign request.
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

/// Why a file is no usable key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("it holds no private key that is known")]
    Unknown,
    #[error("it is encrypted")]
    Encrypted,
    #[error("keys of this type are not supported")]
    Type,
    #[error("it is damaged")]
    Damaged,
}

impl KeyError {
    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            KeyError::Unknown => {
                "convert it to OpenSSH's format with `ssh-keygen -p -f FILE`, or add it to an ssh-agent"
            }
            KeyError::Encrypted => {
                "add it to an ssh-agent with `ssh-add FILE` and pass that one: --ssh default"
            }
            KeyError::Type => "add it to an ssh-agent with `ssh-add FILE`, or use an Ed25519 key",
            KeyError::Damaged => "check it with `ssh-keygen -y -f FILE`",
        }
    }
}

enum Secret {
    Ed25519(Ed25519KeyPair),
    Ecdsa { pair: EcdsaKeyPair, curve: Curve },
    Rsa(Box<RsaKeyPair>),
}

#[derive(Clone, Copy)]
enum Curve {
    P256,
    P384,
}

impl Curve {
    fn name(self) -> &'static str {
        match self {
            Curve::P256 => "nistp256",
            Curve::P384 => "nistp384",
        }
    }
    /// Bytes of a coordinate.
    fn size(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
        }
    }
    fn algorithm(self) -> &'static signature::EcdsaSigningAlgorithm {
        match self {
            Curve::P256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            Curve::P384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        }
    }
}

/// A private key and its comment.
pub struct Key {
    secret: Secret,
    comment: String,
}

impl Key {
    /// The key in the text of a file.
    pub fn parse(text: &[u8]) -> Result<Key, KeyError> {
        let text = std::str::from_utf8(text).map_err(|_| KeyError::Unknown)?;
        if text.contains("Proc-Type: 4,ENCRYPTED") || text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            return Err(KeyError::Encrypted);
        }
        if let Some(bytes) = pem(text, "OPENSSH PRIVATE KEY")? {
            return Key::from_openssh(&bytes);
        }
        if let Some(bytes) = pem(text, "RSA PRIVATE KEY")? {
            let pair = RsaKeyPair::from_der(&bytes).map_err(|_| KeyError::Damaged)?;
            return Ok(Key { secret: Secret::Rsa(Box::new(pair)), comment: String::new() });
        }
        Err(KeyError::Unknown)
    }

    fn from_openssh(bytes: &[u8]) -> Result<Key, KeyError> {
        let rest = bytes.strip_prefix(b"openssh-key-v1\0").ok_or(KeyError::Damaged)?;
        let mut outer = Fields(rest);
        let cipher = outer.string().ok_or(KeyError::Damaged)?;
        let (_kdf, _options) = (outer.string(), outer.string());
        if cipher != b"none" {
            return Err(KeyError::Encrypted);
        }
        if outer.number() != Some(1) {
            return Err(KeyError::Damaged);
        }
        let _public = outer.string();
        let mut f = Fields(outer.string().ok_or(KeyError::Damaged)?);
        let (a, b) = (f.number(), f.number());
        if a.is_none() || a != b {
            return Err(KeyError::Damaged);
        }
        let mut next = || f.string().ok_or(KeyError::Damaged);
        let secret = match next()? {
            b"ssh-ed25519" => {
                let (public, secret) = (next()?, next()?);
                let seed = secret.get(..32).ok_or(KeyError::Damaged)?;
                Ed25519KeyPair::from_seed_and_public_key(seed, public).map(Secret::Ed25519)
            }
            b"ssh-rsa" => {
                let (n, e, d, q_inv, p, q) = (next()?, next()?, next()?, next()?, next()?, next()?);
                let (d_p, d_q) = (modulo_less_one(d, p)?, modulo_less_one(d, q)?);
                let [n, e, d, q_inv, p, q] = [n, e, d, q_inv, p, q].map(unsigned);
                let parts = KeyPairComponents {
                    public_key: PublicKeyComponents { n, e },
                    d,
                    p,
                    q,
                    dP: unsigned(&d_p),
                    dQ: unsigned(&d_q),
                    qInv: q_inv,
                };
                RsaKeyPair::from_components(&parts).map(|pair| Secret::Rsa(Box::new(pair)))
            }
            b"ecdsa-sha2-nistp256" => ecdsa(Curve::P256, next)?,
            b"ecdsa-sha2-nistp384" => ecdsa(Curve::P384, next)?,
            _ => return Err(KeyError::Type),
        };
        let secret = secret.map_err(|_| KeyError::Damaged)?;
        let comment = f.string().map(|c| String::from_utf8_lossy(c).into_owned()).unwrap_or_default();
        Ok(Key { secret, comment })
    }

    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// The public key as the protocol writes it (RFC 4253, 5656, 8709).
    pub fn public_blob(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match &self.secret {
            Secret::Ed25519(pair) => {
                put(&mut out, b"ssh-ed25519");
                put(&mut out, pair.public_key().as_ref());
            }
            Secret::Ecdsa { pair, curve } => {
                put(&mut out, format!("ecdsa-sha2-{}", curve.name()).as_bytes());
                put(&mut out, curve.name().as_bytes());
                put(&mut out, pair.public_key().as_ref());
            }
            Secret::Rsa(pair) => {
                let public: PublicKeyComponents<Vec<u8>> = pair.public().into();
                put(&mut out, b"ssh-rsa");
                put(&mut out, &mpint(&public.e));
                put(&mut out, &mpint(&public.n));
            }
        }
        out
    }

    /// A signature with its algorithm's name; `None` where the wanted algorithm is not on offer (RSA with SHA-1).
    pub fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        let (name, signature) = match &self.secret {
            Secret::Ed25519(pair) => ("ssh-ed25519".to_string(), pair.sign(data).as_ref().to_vec()),
            Secret::Ecdsa { pair, curve } => {
                let fixed = pair.sign(&random, data).ok()?;
                let (r, s) = fixed.as_ref().split_at_checked(curve.size())?;
                let mut both = Vec::new();
                put(&mut both, &mpint(r));
                put(&mut both, &mpint(s));
                (format!("ecdsa-sha2-{}", curve.name()), both)
            }
            Secret::Rsa(pair) => {
                let (name, padding): (_, &dyn signature::RsaEncoding) = if flags & RSA_SHA2_512 != 0 {
                    ("rsa-sha2-512", &signature::RSA_PKCS1_SHA512)
                } else if flags & RSA_SHA2_256 != 0 {
                    ("rsa-sha2-256", &signature::RSA_PKCS1_SHA256)
                } else {
                    return None;
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, data, &mut signature).ok()?;
                (name.to_string(), signature)
            }
        };
        let mut out = Vec::new();
        put(&mut out, name.as_bytes());
        put(&mut out, &signature);
        Some(out)
    }
}

type Made = Result<Secret, ring::error::KeyRejected>;

fn ecdsa<'a>(curve: Curve, mut next: impl FnMut() -> Result<&'a [u8], KeyError>) -> Result<Made, KeyError> {
    let (_curve_name, public, secret) = (next()?, next()?, unsigned(next()?));
    let mut padded = vec![0; curve.size().checked_sub(secret.len()).ok_or(KeyError::Damaged)?];
    padded.extend_from_slice(secret);
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_private_key_and_public_key(curve.algorithm(), &padded, public, &random);
    Ok(pair.map(|pair| Secret::Ecdsa { pair, curve }))
}

/// A big number without leading zeros.
fn unsigned(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|b| **b == 0).count();
    &number[zeros..]
}

/// A big number as the protocol writes positive ones: the first bit is 0.
fn mpint(number: &[u8]) -> Vec<u8> {
    let number = unsigned(number);
    let mut out = Vec::with_capacity(number.len() + 1);
    if number.first().is_some_and(|b| b & 0x80 != 0) {
        out.push(0);
    }
    out.extend_from_slice(number);
    out
}

/// `number mod (prime - 1)` of big numbers, by long division, bit after bit. `prime` is odd.
fn modulo_less_one(number: &[u8], prime: &[u8]) -> Result<Vec<u8>, KeyError> {
    let mut divisor = unsigned(prime).to_vec();
    match divisor.last_mut() {
        Some(last) if *last & 1 == 1 && number.len() <= 2048 && prime.len() <= 2048 => *last -= 1,
        _ => return Err(KeyError::Damaged),
    }
    // One byte more than the divisor, for the bit that is shifted out.
    let mut rest = vec![0u8; divisor.len() + 1];
    divisor.insert(0, 0);
    if divisor.iter().all(|b| *b == 0) {
        return Err(KeyError::Damaged);
    }
    for bit in number.iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1)) {
        let mut carry = bit;
        for byte in rest.iter_mut().rev() {
            (*byte, carry) = (*byte << 1 | carry, *byte >> 7);
        }
        if rest >= divisor {
            let mut borrow = 0;
            for (a, b) in rest.iter_mut().zip(&divisor).rev() {
                let difference = i16::from(*a) - i16::from(*b) - borrow;
                borrow = i16::from(difference < 0);
                *a = difference.rem_euclid(256) as u8;
            }
        }
    }
    Ok(rest)
}

/// The bytes between `-----BEGIN label-----` and its end; `None` if there is no such block.
fn pem(text: &str, label: &str) -> Result<Option<Vec<u8>>, KeyError> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let Some((_, rest)) = text.split_once(&begin) else { return Ok(None) };
    let (body, _) = rest.split_once(&end).ok_or(KeyError::Damaged)?;
    base64(body).map(Some).ok_or(KeyError::Damaged)
}

/// Base64 with line breaks.
fn base64(text: &str) -> Option<Vec<u8>> {
    let joined: String = text.split_ascii_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(joined).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn long_division() {
        let number = |n: u128| n.to_be_bytes().to_vec();
        for (n, p) in
            [(0u128, 3u128), (100, 7), (u128::MAX, 65_537), (1 << 100, (1 << 61) - 1), (5, u128::MAX)]
        {
            let rest = modulo_less_one(&number(n), &number(p)).unwrap();
            let value = rest.iter().fold(0u128, |v, b| v << 8 | u128::from(*b));
            assert_eq!(value, n % (p - 1), "{n} mod ({p} - 1)");
        }
        assert!(modulo_less_one(&[1], &[4]).is_err());
        assert!(modulo_less_one(&[1], &[1]).is_err());
        assert!(modulo_less_one(&[1], &[]).is_err());
    }

    #[test]
    fn what_is_no_key() {
        let error = |text: &str| Key::parse(text.as_bytes()).err().unwrap();
        assert_eq!(error(""), KeyError::Unknown);
        assert_eq!(error("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA"), KeyError::Damaged);
        assert_eq!(
            error("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----"),
            KeyError::Damaged
        );
        assert_eq!(error("-----BEGIN ENCRYPTED PRIVATE KEY-----"), KeyError::Encrypted);
        assert_eq!(KeyError::Encrypted.to_string(), "it is encrypted");
    }

    /// Keys of ssh-keygen, and signatures that ssh-keygen's public half verifies.
    #[test]
    fn keys_of_openssh() {
        let dir = tempfile::tempdir().unwrap();
        if Command::new("ssh-keygen").arg("-?").output().is_err() {
            return eprintln!("skipped: needs ssh-keygen");
        }
        let make = |name: &str, args: &[&str]| {
            let path = dir.path().join(name);
            let done = Command::new("ssh-keygen")
                .args(args)
                .arg("-q")
                .arg("-C")
                .arg("me")
                .arg("-f")
                .arg(&path)
                .output();
            assert!(done.unwrap().status.success());
            let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
            let blob = base64(public.split(' ').nth(1).unwrap()).unwrap();
            (std::fs::read(&path).unwrap(), blob)
        };
        let cases: [(&str, &[&str], bool); 6] = [
            ("ed", &["-t", "ed25519", "-N", ""], true),
            ("p256", &["-t", "ecdsa", "-b", "256", "-N", ""], true),
            ("p384", &["-t", "ecdsa", "-b", "384", "-N", ""], true),
            ("rsa", &["-t", "rsa", "-b", "2048", "-N", ""], true),
            ("pem", &["-t", "rsa", "-b", "2048", "-N", "", "-m", "PEM"], true),
            ("locked", &["-t", "ed25519", "-N", "secret"], false),
        ];
        for (name, args, usable) in cases {
            let (text, blob) = make(name, args);
            let key = match Key::parse(&text) {
                Ok(key) if usable => key,
                Err(e) if !usable => {
                    assert_eq!(e, KeyError::Encrypted);
                    continue;
                }
                other => panic!("{name}: {:?}", other.err()),
            };
            assert_eq!(key.public_blob(), blob, "{name}");
            assert_eq!(key.comment(), if name == "pem" { "" } else { "me" });
            assert!(verifies(&blob, &key.sign(b"data", RSA_SHA2_512).unwrap()), "{name}");
            if let Secret::Rsa(_) = key.secret {
                assert!(verifies(&blob, &key.sign(b"data", RSA_SHA2_256).unwrap()), "{name}");
                assert!(key.sign(b"data", 0).is_none(), "SHA-1");
            }
        }
        let (text, _) = make("p521", &["-t", "ecdsa", "-b", "521", "-N", ""]);
        assert_eq!(Key::parse(&text).err(), Some(KeyError::Type));
    }

    /// Checks a signature of b"data" by ring's verifiers, from the blobs alone.
    fn verifies(blob: &[u8], signed: &[u8]) -> bool {
        let (mut key, mut signature) = (Fields(blob), Fields(signed));
        key.string().unwrap();
        let name = signature.string().unwrap();
        let bytes = signature.string().unwrap();
        let check =
            |algorithm: &'static dyn signature::VerificationAlgorithm, public: &[u8], bytes: &[u8]| {
                signature::UnparsedPublicKey::new(algorithm, public).verify(b"data", bytes).is_ok()
            };
        match name {
            b"ssh-ed25519" => check(&signature::ED25519, key.string().unwrap(), bytes),
            b"ecdsa-sha2-nistp256" | b"ecdsa-sha2-nistp384" => {
                key.string().unwrap();
                let size = if name.ends_with(b"256") { 32 } else { 48 };
                let mut rs = Fields(bytes);
                let mut fixed = Vec::new();
                for _ in 0..2 {
                    let n = unsigned(rs.string().unwrap());
                    fixed.extend(vec![0; size - n.len()]);
                    fixed.extend_from_slice(n);
                }
                let public = key.string().unwrap();
                match size {
                    32 => check(&signature::ECDSA_P256_SHA256_FIXED, public, &fixed),
                    _ => check(&signature::ECDSA_P384_SHA384_FIXED, public, &fixed),
                }
            }
            _ => {
                let (e, n) = (unsigned(key.string().unwrap()), unsigned(key.string().unwrap()));
                let public = signature::RsaPublicKeyComponents { n, e };
                let algorithm = match name {
                    b"rsa-sha2-512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    _ => &signature::RSA_PKCS1_2048_8192_SHA256,
                };
                public.verify(algorithm, b"data", bytes).is_ok()
            }
        }
    }
}
