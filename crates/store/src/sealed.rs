//! Records as bytes: JSON that begins with a checksum of the rest, so that no bit of it flips unseen.
//!
//! `{"sum":"<64 hex>",…}`, where the sum is the sha256 of the same text without that member. Records
//! of older programs have none; they begin with `{"version":` and are taken as they are, which a
//! damaged sum can't look like.

use digest::Digest;
use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};

const HEAD: &[u8] = b"{\"sum\":\"";
/// The head, the digits, and `",`.
const LENGTH: usize = HEAD.len() + 64 + 2;
const WITHOUT: &[u8] = b"{\"version\":";

pub(crate) fn encode<T: Serialize>(record: &T) -> serde_json::Result<Vec<u8>> {
    let plain = serde_json::to_vec(record)?;
    if !plain.starts_with(WITHOUT) {
        return Err(serde::ser::Error::custom("a record begins with its version"));
    }
    let mut out = Vec::with_capacity(plain.len() + LENGTH);
    out.extend_from_slice(HEAD);
    out.extend_from_slice(Digest::of(&plain).hex().as_bytes());
    out.extend_from_slice(b"\",");
    out.extend_from_slice(&plain[1..]);
    Ok(out)
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    if !bytes.starts_with(WITHOUT) {
        check(bytes)?;
    }
    serde_json::from_slice(bytes)
}

/// Whether the bytes are those of a file whose writing power loss ended: its name and its length may be on disk before
/// its content is. A flipped bit makes no such file.
pub(crate) fn is_torn(bytes: &[u8]) -> bool {
    bytes.last().is_none_or(|last| *last == 0)
}

fn check(bytes: &[u8]) -> serde_json::Result<()> {
    let sum = bytes.get(HEAD.len()..LENGTH).filter(|_| bytes.starts_with(HEAD));
    let expected = sum
        .and_then(|s| s.strip_suffix(b"\","))
        .and_then(|s| digest::from_hex(std::str::from_utf8(s).ok()?))
        .ok_or_else(|| serde_json::Error::custom("the record has no checksum"))?;
    let mut plain = vec![b'{'];
    plain.extend_from_slice(&bytes[LENGTH..]);
    match Digest::of(&plain) == Digest::from_bytes(expected) {
        true => Ok(()),
        false => Err(serde_json::Error::custom("the record does not have its checksum")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Some {
        version: u32,
        text: String,
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let record = Some { version: 1, text: "abc 123".into() };
        let good = encode(&record).unwrap();
        assert_eq!(decode::<Some>(&good).unwrap(), record);
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(decode::<Some>(&bad).is_err(), "bit {bit} of byte {at}");
            }
            assert!(decode::<Some>(&good[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn older_records_have_no_sum() {
        assert_eq!(decode::<Some>(br#"{"version":1,"text":"a"}"#).unwrap().text, "a");
    }
}
