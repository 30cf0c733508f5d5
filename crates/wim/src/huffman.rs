//! Canonical Huffman codes: symbols by the lengths of their codewords.
//!
//! Codewords of a few bits are looked up at once; longer ones, which are rare, are found by comparing with the first
//! codeword of each length.

use crate::bits::Bits;

/// Longest codeword.
const LONGEST: usize = 16;

/// A code that can be built anew again and again.
pub struct Code {
    /// For the next `width` bits: symbol and length, or zero where the codeword is longer.
    short: Vec<u16>,
    width: u32,
    /// Symbols by length, then by number.
    sorted: Vec<u16>,
    /// For each length: where codewords of it end, as the upper of 16 bits; where they begin; their first symbol.
    end: [u32; LONGEST + 1],
    begin: [u32; LONGEST + 1],
    first: [u32; LONGEST + 1],
}

impl Code {
    /// `width` is how many bits are looked up at once.
    pub fn new(width: u32) -> Self {
        let zero = [0; LONGEST + 1];
        Code { short: vec![0; 1 << width], width, sorted: Vec::new(), end: zero, begin: zero, first: zero }
    }

    /// Take the lengths (0 for symbols that don't occur, 16 at most) of less than 4096 symbols. A code without symbols
    /// is fine until one is read.
    pub fn build(&mut self, lengths: &[u8]) -> Result<(), &'static str> {
        let mut count = [0u32; LONGEST + 1];
        for length in lengths {
            *count.get_mut(usize::from(*length)).ok_or("a codeword is too long")? += 1;
        }
        count[0] = 0;
        let (mut code, mut symbols) = (0u32, 0u32);
        for (length, count) in count.iter().enumerate().skip(1) {
            self.begin[length] = code;
            self.first[length] = symbols;
            code += count << (LONGEST - length);
            symbols += count;
            self.end[length] = code;
            if code > 1 << LONGEST {
                return Err("a Huffman code has too many codewords");
            }
        }
        if symbols != 0 && code != 1 << LONGEST {
            return Err("a Huffman code is incomplete");
        }
        self.sorted.clear();
        self.sorted.resize(symbols as usize, 0);
        self.short.fill(0);
        let mut next = self.first;
        for (symbol, length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
            let n = usize::from(*length);
            let index = next[n];
            next[n] += 1;
            self.sorted[index as usize] = symbol as u16;
            if u32::from(*length) <= self.width {
                let code = self.begin[n] + ((index - self.first[n]) << (LONGEST - n));
                let at = (code >> (LONGEST as u32 - self.width)) as usize;
                let end = at + (1 << (self.width - u32::from(*length)));
                self.short[at..end].fill((symbol as u16) << 4 | u16::from(*length));
            }
        }
        Ok(())
    }

    /// The next symbol.
    #[inline]
    pub fn read(&self, bits: &mut Bits<'_>) -> Result<usize, &'static str> {
        bits.ensure(16);
        let next = bits.peek16();
        let found = self.short[next >> (16 - self.width)];
        if found != 0 {
            bits.skip(u32::from(found & 15));
            return Ok(usize::from(found >> 4));
        }
        self.read_long(bits, next as u32)
    }

    fn read_long(&self, bits: &mut Bits<'_>, next: u32) -> Result<usize, &'static str> {
        for length in self.width as usize + 1..=LONGEST {
            if next < self.end[length] {
                bits.skip(length as u32);
                let index = self.first[length] + ((next - self.begin[length]) >> (LONGEST - length));
                return self
                    .sorted
                    .get(index as usize)
                    .map(|s| usize::from(*s))
                    .ok_or("a codeword is unknown");
            }
        }
        Err("a codeword is unknown")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_codewords() {
        // Lengths 1 to 16 and another 16: 0, 10, 110 and so on.
        let mut lengths: Vec<u8> = (1..=16).collect();
        lengths.push(16);
        let mut code = Code::new(5);
        code.build(&lengths).unwrap();
        for (symbol, length) in lengths.iter().enumerate() {
            let ones = !(0xffffu32 >> (symbol as u32).min(16)) & 0xffff;
            let data = (ones as u16).to_le_bytes();
            let mut bits = Bits::new(&data);
            assert_eq!(code.read(&mut bits), Ok(symbol));
            bits.ensure(16);
            assert_eq!(bits.peek16(), (ones as usize) << length & 0xffff);
        }
    }

    #[test]
    fn what_is_no_code_is_refused() {
        let mut code = Code::new(4);
        assert!(code.build(&[1, 1, 1]).is_err());
        assert!(code.build(&[1, 2]).is_err());
        assert!(code.build(&[17]).is_err());
        code.build(&[0, 0]).unwrap();
        assert!(code.read(&mut Bits::new(&[0, 0])).is_err());
    }
}
