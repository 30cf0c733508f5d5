//! Decompression by what the first bytes say: gzip, zstd, bzip2, xz, or nothing at all.

use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, BufReader, Read};

/// Longest magic number looked at.
const MAGIC: usize = 6;

/// How a stream is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Plain,
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 8878, any number of frames.
    Zstd,
    Bzip2,
    Xz,
}

impl Format {
    /// Tell by the first bytes; six are enough.
    pub fn detect(head: &[u8]) -> Format {
        match head {
            [0x1f, 0x8b, ..] => Format::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Format::Zstd,
            // A skippable frame may come first.
            [b, 0x2a, 0x4d, 0x18, ..] if b & 0xf0 == 0x50 => Format::Zstd,
            [b'B', b'Z', b'h', ..] => Format::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
            _ => Format::Plain,
        }
    }
}

/// What a decompressor may use, against archives made to exhaust the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of output; `None` for no limit.
    pub output: Option<u64>,
    /// Power of two of the largest zstd window (27 is what its own tool allows).
    pub zstd_window_log: u32,
    /// Bytes of memory for xz.
    pub xz_memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { output: None, zstd_window_log: 27, xz_memory: 256 << 20 }
    }
}

/// The output limit was passed. Comes inside the `io::Error` of the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream has more than {limit} bytes")]
pub struct TooMuch {
    pub limit: u64,
}

/// The decompressed bytes of `reader`, and how it was packed. The reader fails where the stream is
/// cut short, damaged or beyond a limit.
pub fn decompress<'a>(
    mut reader: impl Read + Send + 'a,
    limits: Limits,
) -> io::Result<(Box<dyn Read + Send + 'a>, Format)> {
    let mut head = [0; MAGIC];
    let mut filled = 0;
    while filled < head.len() {
        match reader.read(&mut head[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let format = Format::detect(&head[..filled]);
    let whole = io::Cursor::new(head).take(filled as u64).chain(reader);
    let buffered = || BufReader::with_capacity(128 * 1024, whole);
    let plain: Box<dyn Read + Send + 'a> = match format {
        Format::Plain => Box::new(buffered()),
        Format::Gzip => Box::new(Members(Some(GzDecoder::new(buffered())))),
        Format::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered())?;
            decoder.window_log_max(limits.zstd_window_log)?;
            Box::new(decoder)
        }
        Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(buffered())),
        Format::Xz => {
            let stream =
                liblzma::stream::Stream::new_stream_decoder(limits.xz_memory, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(buffered(), stream))
        }
    };
    Ok(match limits.output {
        Some(limit) => (Box::new(Limited { inner: plain, limit, left: limit }), format),
        None => (plain, format),
    })
}

/// Gzip members up to the end of the stream, or up to something that is no member, which gzip(1)
/// ignores too. `None` once all is read.
struct Members<R: BufRead>(Option<GzDecoder<R>>);

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.0 {
            let n = member.read(buf)?;
            if n > 0 || buf.is_empty() {
                return Ok(n);
            }
            let Some(done) = self.0.take() else { break };
            let mut rest = done.into_inner();
            if matches!(rest.fill_buf()?, [0x1f] | [0x1f, 0x8b, ..]) {
                self.0 = Some(GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

struct Limited<R> {
    inner: R,
    limit: u64,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => {
                self.left = left;
                Ok(n)
            }
            None => Err(io::Error::other(TooMuch { limit: self.limit })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn all(data: &[u8], limits: Limits) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(data, limits)?.0.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn other_formats() {
        let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bz.write_all(b"hello").unwrap();
        assert_eq!(all(&bz.finish().unwrap(), Limits::default()).unwrap(), b"hello");
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(b"hello").unwrap();
        let mut xz = xz.finish().unwrap();
        assert_eq!(all(&xz, Limits::default()).unwrap(), b"hello");
        assert_eq!(all(&xz.repeat(2), Limits::default()).unwrap(), b"hellohello");
        xz.truncate(xz.len() - 1);
        assert!(all(&xz, Limits::default()).is_err());
        assert_eq!(all(b"", Limits::default()).unwrap(), b"");
        assert_eq!(all(b"abc", Limits::default()).unwrap(), b"abc");
    }

    #[test]
    fn bombs_and_giant_windows_are_stopped() {
        let limits = Limits { output: Some(1 << 20), ..Limits::default() };
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        io::copy(&mut io::repeat(0).take(1 << 24), &mut gz).unwrap();
        let e = all(&gz.finish().unwrap(), limits).unwrap_err();
        assert!(e.get_ref().unwrap().is::<TooMuch>());
        let mut z = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        z.window_log(30).unwrap();
        io::copy(&mut io::repeat(0).take(1 << 24), &mut z).unwrap();
        let z = z.finish().unwrap();
        assert!(all(&z, Limits::default()).is_err());
    }

    #[test]
    fn truncated_streams_fail() {
        let data = vec![7; 100_000];
        for packed in [libdeflater_gzip(&data), zstd::bulk::compress(&data, 1).unwrap()] {
            assert_eq!(all(&packed, Limits::default()).unwrap(), data);
            for cut in [packed.len() - 1, packed.len() - 8, packed.len() / 2, 7] {
                assert!(all(&packed[..cut], Limits::default()).is_err(), "{cut}");
            }
        }
    }

    fn libdeflater_gzip(data: &[u8]) -> Vec<u8> {
        let mut c = crate::compress::Compressor::new(Vec::new(), crate::compress::Compression::GZIP);
        c.write_all(data).unwrap();
        c.finish().unwrap().0
    }
}
