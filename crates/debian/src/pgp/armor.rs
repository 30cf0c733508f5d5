//! ASCII armor (RFC 9580, section 6): base64 between `-----BEGIN …-----` and `-----END …-----`.

use super::PgpError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The CRC-24 of RFC 9580, 6.1.1.
fn crc24(data: &[u8]) -> u32 {
    let mut crc: u32 = 0x00B7_04CE;
    for byte in data {
        crc ^= u32::from(*byte) << 16;
        for _ in 0..8 {
            crc <<= 1;
            if crc & 0x0100_0000 != 0 {
                crc ^= 0x0186_4CFB;
            }
        }
    }
    crc & 0x00FF_FFFF
}

/// Decodes the lines between the header line and the end line of one block: armor headers, an empty line,
/// base64, an optional checksum.
pub(super) fn decode_body<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<u8>, PgpError> {
    let mut lines = lines.map(|l| l.trim_end_matches([' ', '\t', '\r'])).peekable();
    while let Some(line) = lines.peek() {
        if line.is_empty() {
            lines.next();
            break;
        }
        // Old files leave the empty line out; base64 has no ": ".
        if !line.contains(": ") {
            break;
        }
        lines.next();
    }
    let mut text = String::new();
    let mut checksum = None;
    for line in lines {
        if checksum.is_some() && !line.is_empty() {
            return Err(PgpError::Armor("something follows its checksum"));
        }
        match line.strip_prefix('=') {
            Some(sum) if sum.len() == 4 => checksum = Some(sum),
            _ => text.push_str(line),
        }
    }
    let data = STANDARD.decode(&text).map_err(|_| PgpError::Armor("it is not base64"))?;
    if let Some(sum) = checksum {
        let sum = STANDARD.decode(sum).map_err(|_| PgpError::Armor("its checksum is not base64"))?;
        if sum != crc24(&data).to_be_bytes()[1..] {
            return Err(PgpError::Armor("its checksum is wrong"));
        }
    }
    Ok(data)
}

/// Decodes and joins every block of `kind` (such as `PUBLIC KEY BLOCK`). Text between blocks is skipped.
pub(super) fn decode_all(text: &str, kind: &str) -> Result<Vec<u8>, PgpError> {
    let begin = format!("-----BEGIN PGP {kind}-----");
    let end = format!("-----END PGP {kind}-----");
    let mut all = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim_end() != begin {
            continue;
        }
        let mut body = Vec::new();
        loop {
            match lines.next() {
                None => return Err(PgpError::Armor("it has no end line")),
                Some(line) if line.trim_end() == end => break,
                Some(line) => body.push(line),
            }
        }
        all.extend(decode_body(body.into_iter())?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_join_and_checksums_count() {
        let block = "-----BEGIN PGP X-----\nComment: a\n\naGVs\nbG8=\n=R/Wq\n-----END PGP X-----\n";
        let sum = STANDARD.encode(&crc24(b"hello").to_be_bytes()[1..]);
        let good = block.replace("R/Wq", &sum);
        assert_eq!(decode_all(&format!("note\n{good}\n{good}"), "X").unwrap(), b"hellohello");
        assert_eq!(decode_all(&good.replace("Comment: a\n\n", ""), "X").unwrap(), b"hello");
        assert_eq!(
            decode_all(&block.replace("R/Wq", "AAAA"), "X"),
            Err(PgpError::Armor("its checksum is wrong"))
        );
        assert!(decode_all("-----BEGIN PGP X-----\n\naGVs\n", "X").is_err());
        assert!(decode_all(&good.replace("aGVs", "a*Vs"), "X").is_err());
    }
}
