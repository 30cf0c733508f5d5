//! OpenPGP packet framing (RFC 9580, section 4.2) and the number formats inside packets.

use super::PgpError;

pub(super) const SIGNATURE: u8 = 2;
pub(super) const PUBLIC_KEY: u8 = 6;
pub(super) const USER_ID: u8 = 13;
pub(super) const PUBLIC_SUBKEY: u8 = 14;
pub(super) const USER_ATTRIBUTE: u8 = 17;

/// Reads numbers and byte strings from the front of a slice; every step fails at the end of it.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], PgpError> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(PgpError::Packet("one ends too early"))?;
        self.0 = tail;
        Ok(head)
    }
    pub fn u8(&mut self) -> Result<u8, PgpError> {
        Ok(self.take(1)?[0])
    }
    pub fn u16(&mut self) -> Result<u16, PgpError> {
        let b = self.take(2)?;
        Ok(u16::from_be_bytes([b[0], b[1]]))
    }
    pub fn u32(&mut self) -> Result<u32, PgpError> {
        let b = self.take(4)?;
        Ok(u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }
    /// A multiprecision integer: its length in bits, then big-endian bytes. Leading zeros are cut.
    pub fn mpi(&mut self) -> Result<&'a [u8], PgpError> {
        let bits = usize::from(self.u16()?);
        let bytes = self.take(bits.div_ceil(8))?;
        let zeros = bytes.iter().take_while(|b| **b == 0).count();
        Ok(&bytes[zeros..])
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A packet: its type and body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet<'a> {
    pub tag: u8,
    pub body: &'a [u8],
}

/// Splits `data` into packets. Partial lengths, which only data packets may use, are refused.
pub(super) fn packets(data: &[u8]) -> Result<Vec<Packet<'_>>, PgpError> {
    let mut cursor = Cursor(data);
    let mut all = Vec::new();
    while !cursor.is_empty() {
        let head = cursor.u8()?;
        if head & 0x80 == 0 {
            return Err(PgpError::Packet("a byte that starts no packet"));
        }
        let (tag, len) = if head & 0x40 != 0 {
            let len = match cursor.u8()? {
                n @ 0..=191 => usize::from(n),
                n @ 192..=223 => ((usize::from(n) - 192) << 8) + usize::from(cursor.u8()?) + 192,
                255 => cursor.u32()? as usize,
                _ => return Err(PgpError::Packet("one of partial length")),
            };
            (head & 0x3F, len)
        } else {
            let len = match head & 3 {
                0 => usize::from(cursor.u8()?),
                1 => usize::from(cursor.u16()?),
                2 => cursor.u32()? as usize,
                _ => return Err(PgpError::Packet("one of unknown length")),
            };
            ((head >> 2) & 0x0F, len)
        };
        all.push(Packet { tag, body: cursor.take(len)? });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_header_formats() {
        let data = [0xC2, 2, b'a', b'b', 0x88, 1, b'c', 0x99, 0, 1, b'd', 0xCD, 0xFF, 0, 0, 0, 1, b'e'];
        let got: Vec<(u8, &[u8])> = packets(&data).unwrap().iter().map(|p| (p.tag, p.body)).collect();
        assert_eq!(got, [(2, &b"ab"[..]), (2, b"c"), (6, b"d"), (13, b"e")]);
        let mut long = vec![0xC2, 192, 0];
        long.extend([7; 192]);
        assert_eq!(packets(&long).unwrap()[0].body.len(), 192);
    }

    #[test]
    fn damage_is_an_error_at_every_length() {
        let data = [0xC2, 192, 0];
        for bad in [
            &data[..1],
            &data[..2],
            &data[..3],
            &[0x41],
            &[0xC2, 224, 0],
            &[0x8B, 1],
            &[0xC2, 255, 255, 255, 255, 255],
        ] {
            assert!(packets(bad).is_err(), "{bad:?}");
        }
        assert!(Cursor(&[0, 9, 1]).mpi().is_err());
        assert_eq!(Cursor(&[0, 9, 0, 1]).mpi().unwrap(), [1]);
    }
}
