//! XPRESS with Huffman codes (MS-XCA 2.1, "LZ77+Huffman"), one chunk at a time.

use crate::bits::{Bits, repeat};
use crate::huffman::Code;

/// Bytes in front of a chunk: four bits for each of 512 symbols.
const TABLE: usize = 256;

/// Tables that chunks use again.
pub struct Xpress {
    code: Code,
}

impl Xpress {
    pub fn new() -> Self {
        Xpress { code: Code::new(11) }
    }

    /// Fill `out` with what `data` is.
    pub fn decode(&mut self, data: &[u8], out: &mut [u8]) -> Result<(), &'static str> {
        let (table, rest) = data.split_at_checked(TABLE).ok_or("a chunk has no code")?;
        let mut lengths = [0; 2 * TABLE];
        for (two, byte) in lengths.chunks_exact_mut(2).zip(table) {
            two[0] = byte & 15;
            two[1] = byte >> 4;
        }
        self.code.build(&lengths)?;
        let mut bits = Bits::new(rest);
        let mut at = 0;
        while at < out.len() {
            let symbol = self.code.read(&mut bits)?;
            if symbol < 256 {
                out[at] = symbol as u8;
                at += 1;
                continue;
            }
            // Bytes of long lengths are behind the units that have the offset's bits.
            bits.ensure(16);
            let log2 = (symbol >> 4 & 15) as u32;
            let offset = (1usize << log2) | bits.pop(log2) as usize;
            let mut length = symbol & 15;
            if length == 15 {
                const ENDS: &str = "a chunk ends in a length";
                let more = bits.bytes(1).ok_or(ENDS)?[0];
                length += usize::from(more);
                if more == 255 {
                    let long = bits.bytes(2).ok_or(ENDS)?;
                    length = usize::from(u16::from_le_bytes([long[0], long[1]]));
                }
            }
            length += 3;
            repeat(out, at, offset, length).ok_or("a match is outside of its chunk")?;
            at += length;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever bits there are, decoding ends and stays in its chunk.
    #[test]
    fn noise_ends() {
        let mut state = 0x9e37_79b9u32;
        let mut xpress = Xpress::new();
        let mut out = vec![0; 32768];
        let mut filled = 0;
        for round in 0..2000 {
            let mut data = vec![0; 256 + round % 700];
            data.fill_with(|| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            });
            // All codewords have nine bits: a code that is complete.
            data[..256].fill(0x99);
            filled += usize::from(xpress.decode(&data, &mut out).is_ok());
            data[round % 256] = 0x8a;
            let _ = xpress.decode(&data, &mut out);
            assert!(xpress.decode(&data[..200], &mut out).is_err());
        }
        assert!(filled < 2000);
    }
}
