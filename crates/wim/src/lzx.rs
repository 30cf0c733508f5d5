//! LZX as Windows image files have it: as in cabinets (MS-PATCH, "LZX DELTA" without deltas), but each chunk stands
//! alone, a block's size has a short form, and calls in x86 code are always translated, for a file of 12,000,000 bytes.

use crate::bits::{Bits, repeat};
use crate::huffman::Code;

/// Literals come before matches in the main code.
const LITERALS: usize = 256;
/// Symbols of the code for lengths.
const LENGTHS: usize = 249;
/// Lengths that the main code tells by itself.
const SHORT_LENGTHS: usize = 7;
const LEAST_LENGTH: usize = 2;
/// Offsets of matches are this much more than the number they are written as; smaller ones mean one of the last offsets.
const OFFSET_BIAS: usize = 2;
/// Symbols of the code for codeword lengths.
const PRE: usize = 20;
const ALIGNED: usize = 8;
const DEFAULT_BLOCK: usize = 32768;
/// The file size that call targets wrap around at.
const CALLS_SIZE: i32 = 12_000_000;

/// Smallest and largest chunk, as powers of two.
pub const ORDERS: std::ops::RangeInclusive<u32> = 15..=21;

/// How many ranges of offsets there are for windows of 2^15 to 2^21 bytes.
const SLOTS: [usize; 7] = [30, 32, 34, 36, 38, 42, 50];
const MOST_SLOTS: usize = 50;

/// The extra bits of each range of offsets.
const EXTRA: [u8; MOST_SLOTS] = {
    let mut extra = [0; MOST_SLOTS];
    let mut i = 4;
    while i < MOST_SLOTS {
        extra[i] = if i < 36 { (i as u8 - 2) / 2 } else { 17 };
        i += 1;
    }
    extra
};

/// Where each range begins.
const BASE: [u32; MOST_SLOTS] = {
    let mut base = [0; MOST_SLOTS];
    let mut i = 1;
    while i < MOST_SLOTS {
        base[i] = base[i - 1] + (1 << EXTRA[i - 1]);
        i += 1;
    }
    base
};

/// Tables that chunks use again.
pub struct Lzx {
    order: u32,
    main: Code,
    length: Code,
    pre: Code,
    aligned: Code,
    main_lengths: [u8; LITERALS + MOST_SLOTS * 8],
    length_lengths: [u8; LENGTHS],
}

impl Lzx {
    /// For chunks of at most `chunk` bytes; `None` if LZX has no window for them.
    pub fn new(chunk: u32) -> Option<Self> {
        let order = chunk.checked_next_power_of_two()?.trailing_zeros();
        ORDERS.contains(&order).then(|| Lzx {
            order,
            main: Code::new(11),
            length: Code::new(9),
            pre: Code::new(6),
            aligned: Code::new(7),
            main_lengths: [0; LITERALS + MOST_SLOTS * 8],
            length_lengths: [0; LENGTHS],
        })
    }

    /// Fill `out` with what `data` is.
    pub fn decode(&mut self, data: &[u8], out: &mut [u8]) -> Result<(), &'static str> {
        self.main_lengths.fill(0);
        self.length_lengths.fill(0);
        let mut bits = Bits::new(data);
        let mut recent = [1; 3];
        let mut at = 0;
        while at < out.len() {
            let kind = bits.take(3);
            let size = self.block_size(&mut bits);
            if size == 0 || size > out.len() - at {
                return Err("a block is longer than its chunk");
            }
            let end = at + size;
            match kind {
                1 | 2 => {
                    self.codes(&mut bits, kind == 2)?;
                    self.block(&mut bits, &mut out[..end], at, &mut recent, kind == 2)?;
                }
                3 => {
                    const ENDS: &str = "an uncompressed block ends early";
                    bits.align();
                    for offset in &mut recent {
                        let four = bits.bytes(4).and_then(|b| b.try_into().ok()).ok_or(ENDS)?;
                        *offset = u32::from_le_bytes(four);
                    }
                    out[at..end].copy_from_slice(bits.bytes(size).ok_or(ENDS)?);
                    // Units begin at even places; the last block of a chunk may lack the byte.
                    if size % 2 == 1 {
                        bits.bytes(1);
                    }
                }
                _ => return Err("a block is of an unknown kind"),
            }
            at = end;
        }
        translate_calls(out);
        Ok(())
    }

    fn block_size(&self, bits: &mut Bits<'_>) -> usize {
        if bits.take(1) == 1 {
            return DEFAULT_BLOCK;
        }
        let size = bits.take(16) as usize;
        if self.order >= 16 { size << 8 | bits.take(8) as usize } else { size }
    }

    /// The codes in front of a compressed block.
    fn codes(&mut self, bits: &mut Bits<'_>, aligned: bool) -> Result<(), &'static str> {
        if aligned {
            let mut lengths = [0; ALIGNED];
            lengths.fill_with(|| bits.take(3) as u8);
            self.aligned.build(&lengths)?;
        }
        let slots = SLOTS.get((self.order - ORDERS.start()) as usize).copied().unwrap_or(MOST_SLOTS);
        let (literals, rest) = self.main_lengths.split_at_mut(LITERALS);
        read_lengths(&mut self.pre, bits, literals)?;
        read_lengths(&mut self.pre, bits, &mut rest[..slots * 8])?;
        self.main.build(&self.main_lengths[..LITERALS + slots * 8])?;
        read_lengths(&mut self.pre, bits, &mut self.length_lengths)?;
        self.length.build(&self.length_lengths)
    }

    /// The symbols of a compressed block, which fills `out` from `at` on.
    fn block(
        &self,
        bits: &mut Bits<'_>,
        out: &mut [u8],
        mut at: usize,
        recent: &mut [u32; 3],
        aligned: bool,
    ) -> Result<(), &'static str> {
        while at < out.len() {
            let symbol = self.main.read(bits)?;
            if symbol < LITERALS {
                out[at] = symbol as u8;
                at += 1;
                continue;
            }
            let (slot, mut length) = ((symbol - LITERALS) / 8, (symbol - LITERALS) % 8);
            if length == SHORT_LENGTHS {
                length += self.length.read(bits)?;
            }
            length += LEAST_LENGTH;
            let offset = if slot < recent.len() {
                recent.swap(0, slot);
                recent[0]
            } else {
                let extra = u32::from(*EXTRA.get(slot).ok_or("an offset is too far")?);
                let more = if aligned && extra >= 3 {
                    let high = bits.take(extra - 3) << 3;
                    high | self.aligned.read(bits)? as u32
                } else {
                    bits.take(extra)
                };
                let offset = BASE[slot] + more - OFFSET_BIAS as u32;
                *recent = [offset, recent[0], recent[1]];
                offset
            };
            repeat(out, at, offset as usize, length).ok_or("a match is outside of its block")?;
            at += length;
        }
        Ok(())
    }
}

/// Codeword lengths, as differences to those of the block before, in a code of their own.
fn read_lengths(pre: &mut Code, bits: &mut Bits<'_>, lengths: &mut [u8]) -> Result<(), &'static str> {
    let mut of_pre = [0; PRE];
    of_pre.fill_with(|| bits.take(4) as u8);
    pre.build(&of_pre)?;
    let changed = |before: u8, by: usize| ((17 + usize::from(before) - by) % 17) as u8;
    let mut at = 0;
    while at < lengths.len() {
        let symbol = pre.read(bits)?;
        let (run, value) = match symbol {
            0..=16 => (1, changed(lengths[at], symbol)),
            17 => (4 + bits.take(4), 0),
            18 => (20 + bits.take(5), 0),
            _ => {
                let run = 4 + bits.take(1);
                let by = pre.read(bits)?;
                if by > 16 {
                    return Err("a run of codeword lengths has no length");
                }
                (run, changed(lengths[at], by))
            }
        };
        // A run may go beyond the end.
        let end = (at + run as usize).min(lengths.len());
        lengths[at..end].fill(value);
        at = end;
    }
    Ok(())
}

/// Targets of what may be calls in x86 code were made absolute; make them relative again.
fn translate_calls(out: &mut [u8]) {
    let Some(end) = out.len().checked_sub(10) else { return };
    let mut at = 0;
    while let Some(found) = out.get(at..end).and_then(|rest| rest.iter().position(|b| *b == 0xe8)) {
        at += found;
        let Some(target) = out.get_mut(at + 1..at + 5) else { return };
        let absolute = i32::from_le_bytes([target[0], target[1], target[2], target[3]]);
        // A chunk has 2 MiB at most.
        let here = at as i32;
        if (-here..CALLS_SIZE).contains(&absolute) {
            let relative = if absolute >= 0 { absolute - here } else { absolute + CALLS_SIZE };
            target.copy_from_slice(&relative.to_le_bytes());
        }
        at += 5;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_offsets() {
        assert_eq!(BASE[..8], [0, 1, 2, 3, 4, 6, 8, 12]);
        assert_eq!((EXTRA[35], BASE[36], EXTRA[36]), (16, 262_144, 17));
        for (i, slots) in SLOTS.iter().enumerate() {
            let window = 1usize << (15 + i);
            let last = BASE[slots - 1] as usize + (1 << EXTRA[slots - 1]);
            assert_eq!(last, window, "all offsets of a window have a range, and no more");
        }
    }

    #[test]
    fn an_uncompressed_block() {
        // Kind 3, 16 bits of size 5: 011 0 0000_0000_0000_0101; then aligned.
        let mut data = vec![0x00, 0x60, 0x00, 0x50];
        data.extend([1u32, 2, 3].iter().flat_map(|n| n.to_le_bytes()));
        data.extend(b"hello");
        let mut out = [0; 5];
        Lzx::new(32768).unwrap().decode(&data, &mut out).unwrap();
        assert_eq!(&out, b"hello");
        data.pop();
        assert!(Lzx::new(32768).unwrap().decode(&data, &mut out).is_err());
    }

    /// Whatever bits there are, decoding ends and stays in its chunk.
    #[test]
    fn noise_ends() {
        let mut state = 0x9e37_79b9u32;
        let mut lzx = Lzx::new(32768).unwrap();
        let mut out = vec![0; 32768];
        for round in 0..3000 {
            let mut data = [0; 300];
            data.fill_with(|| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            });
            // A block of the usual size, and codes that are likely to be complete.
            data[1] = [0x30, 0x50, 0x70, data[1]][round % 4];
            for byte in &mut data[2..12] {
                *byte = if round % 3 == 0 { 0x44 } else { *byte };
            }
            let _ = lzx.decode(&data, &mut out);
        }
    }

    #[test]
    fn calls_are_relative_again() {
        let mut out = [0u8; 32];
        out[3] = 0xe8;
        out[4..8].copy_from_slice(&1000i32.to_le_bytes());
        out[10] = 0xe8;
        out[11..15].copy_from_slice(&(-4i32).to_le_bytes());
        out[20] = 0xe8;
        out[21..25].copy_from_slice(&12_000_000i32.to_le_bytes());
        out[27] = 0xe8;
        translate_calls(&mut out);
        assert_eq!(out[4..8], 997i32.to_le_bytes());
        assert_eq!(out[11..15], 11_999_996i32.to_le_bytes());
        assert_eq!(out[21..25], 12_000_000i32.to_le_bytes());
    }
}
