//! Bits of XPRESS and LZX streams: little-endian units of 16 bits, each from its highest bit down.
//!
//! Units are taken one at a time and only when they are needed, since both formats put whole bytes between them. Past
//! the end there are zeros: what is made of them does not have the SHA-1 of the resource.

/// Reads bits, and bytes between them.
pub struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits, from the highest one down; the rest is zero.
    buffer: u64,
    /// How many of `buffer` count.
    left: u32,
}

impl<'a> Bits<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Bits { data, at: 0, buffer: 0, left: 0 }
    }

    /// Have `count` (32 at most) bits in the buffer.
    #[inline]
    pub fn ensure(&mut self, count: u32) {
        while self.left < count {
            let unit = match self.data.get(self.at..self.at + 2) {
                Some(two) => u64::from(u16::from_le_bytes([two[0], two[1]])),
                None => 0,
            };
            self.at = self.at.saturating_add(2);
            self.buffer |= unit << (48 - self.left);
            self.left += 16;
        }
    }

    /// The next 16 bits, of which [`Bits::ensure`] was asked before.
    #[inline]
    pub fn peek16(&self) -> usize {
        (self.buffer >> 48) as usize
    }

    /// Drop bits that are in the buffer.
    #[inline]
    pub fn skip(&mut self, count: u32) {
        self.buffer <<= count;
        self.left = self.left.saturating_sub(count);
    }

    /// Take bits that are in the buffer; 31 at most.
    #[inline]
    pub fn pop(&mut self, count: u32) -> u32 {
        let value = (self.buffer >> 32 >> (32 - count)) as u32;
        self.skip(count);
        value
    }

    /// Take up to 31 bits.
    #[inline]
    pub fn take(&mut self, count: u32) -> u32 {
        self.ensure(count);
        self.pop(count)
    }

    /// Drop the rest of the unit that is being read, or the next one if none is.
    pub fn align(&mut self) {
        self.ensure(1);
        self.buffer = 0;
        self.left = 0;
    }

    /// The next `count` bytes after the units that were taken; bits that are left stay.
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let bytes = self.data.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }
}

/// Repeat `length` bytes from `offset` before `at`; they may overlap what is written. `None` where that is outside of
/// `out`.
#[inline]
pub fn repeat(out: &mut [u8], at: usize, offset: usize, length: usize) -> Option<()> {
    let from = at.checked_sub(offset)?;
    if offset == 0 || length > out.len() - at {
        return None;
    }
    if offset >= length {
        out.copy_within(from..from + length, at);
    } else if offset == 1 {
        let byte = out[from];
        out[at..at + length].fill(byte);
    } else {
        let mut done = 0;
        while done < length {
            // What was written is a period longer each time.
            let piece = (offset + done).min(length - done);
            out.copy_within(from..from + piece, at + done);
            done += piece;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_little_endian_and_bits_come_from_the_top() {
        let mut bits = Bits::new(&[0x34, 0x12, 0xaa, 0x78, 0x56]);
        assert_eq!(bits.take(4), 1);
        assert_eq!(bits.take(8), 0x23);
        assert_eq!(bits.bytes(1), Some(&[0xaa][..]));
        assert_eq!(bits.take(8), 0x45);
        assert_eq!((bits.take(12), bits.take(31)), (0x678, 0));
        assert_eq!((bits.take(0), bits.bytes(1)), (0, None));
    }

    #[test]
    fn repeated_bytes_may_overlap() {
        for (offset, want) in [(1, "abcdddddd"), (2, "abcdcdcdc"), (3, "abcdbcdbc"), (4, "abcdabcda")] {
            let mut out = *b"abcd.....";
            repeat(&mut out, 4, offset, 5).unwrap();
            assert_eq!(out.as_slice(), want.as_bytes());
        }
        let mut out = [0; 9];
        assert_eq!(repeat(&mut out, 4, 5, 1), None);
        assert_eq!(repeat(&mut out, 4, 0, 1), None);
        assert_eq!(repeat(&mut out, 4, 1, 6), None);
    }
}
