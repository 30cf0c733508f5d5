//! Compression of layers: gzip and zstd, in parallel, with bytes that do not depend on threads.
//!
//! The stream is cut at fixed places and each piece becomes a gzip member or zstd frame of its own;
//! both formats define that concatenation decompresses to the whole (RFC 1952, RFC 8878).

use rayon::Yield;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

/// How a layer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    /// 0 to 12 (libdeflate's levels); 4 is smaller than zlib's 6 at twice its speed.
    Gzip {
        level: u8,
    },
    /// 1 to 22.
    Zstd {
        level: u8,
    },
}

impl Compression {
    pub const GZIP: Compression = Compression::Gzip { level: 4 };
    pub const ZSTD: Compression = Compression::Zstd { level: 3 };

    /// What follows `…layer.v1.tar` in the OCI media type of such a layer.
    pub fn media_suffix(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip { .. } => "+gzip",
            Compression::Zstd { .. } => "+zstd",
        }
    }

    /// Bytes of input that go into one piece.
    fn piece(self) -> usize {
        match self {
            Compression::None => 0,
            Compression::Gzip { .. } => 1 << 20,
            Compression::Zstd { .. } => 4 << 20,
        }
    }

    /// Pieces that are in memory at the same time, at most.
    fn most_pieces(self) -> usize {
        match self {
            Compression::None | Compression::Gzip { .. } => 24,
            Compression::Zstd { .. } => 8,
        }
    }

    fn pack(self, data: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Compression::None => Ok(data.to_vec()),
            Compression::Gzip { level } => {
                let level = libdeflater::CompressionLvl::new(i32::from(level.min(12)))
                    .map_err(|_| io::Error::other("gzip refused its level"))?;
                let mut packer = libdeflater::Compressor::new(level);
                let mut out = vec![0; packer.gzip_compress_bound(data.len())];
                let n = packer.gzip_compress(data, &mut out).map_err(io::Error::other)?;
                out.truncate(n);
                Ok(out)
            }
            Compression::Zstd { level } => zstd::bulk::compress(data, i32::from(level.clamp(1, 22))),
        }
    }
}

/// Compresses what is written and passes it on. Call [`Compressor::finish`]; dropping it loses data.
pub struct Compressor<W> {
    out: W,
    compression: Compression,
    buffer: Vec<u8>,
    /// Pieces being compressed, oldest first.
    running: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    /// Whether any piece was made: an empty stream still is one member.
    begun: bool,
    depth: usize,
    written: u64,
}

impl<W: Write> Compressor<W> {
    pub fn new(out: W, compression: Compression) -> Self {
        // More than enough for a few cores; for many, memory counts more.
        let depth = (rayon::current_num_threads() * 2).min(compression.most_pieces());
        let buffer = Vec::with_capacity(compression.piece());
        Compressor { out, compression, buffer, running: VecDeque::new(), begun: false, depth, written: 0 }
    }

    /// Compress the rest; returns the writer and the number of bytes that went to it.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        if !self.buffer.is_empty() || (!self.begun && self.compression != Compression::None) {
            self.start();
        }
        while !self.running.is_empty() {
            self.pass_on()?;
        }
        self.out.flush()?;
        Ok((self.out, self.written))
    }

    fn start(&mut self) {
        self.begun = true;
        let data = std::mem::replace(&mut self.buffer, Vec::with_capacity(self.compression.piece()));
        let (done, result) = sync_channel(1);
        let compression = self.compression;
        rayon::spawn(move || {
            // The receiver is gone where the layer was given up.
            let _ = done.send(compression.pack(&data));
        });
        self.running.push_back(result);
    }

    /// Wait for the oldest piece and write it.
    fn pass_on(&mut self) -> io::Result<()> {
        let Some(result) = self.running.pop_front() else { return Ok(()) };
        let packed = wait(&result)??;
        self.out.write_all(&packed)?;
        self.written += packed.len() as u64;
        Ok(())
    }
}

/// Wait without blocking a thread of the pool, which may be the only one: it works on meanwhile.
fn wait<T>(result: &Receiver<T>) -> io::Result<T> {
    let lost = || io::Error::other("a compression thread panicked");
    loop {
        match result.try_recv() {
            Ok(value) => return Ok(value),
            Err(TryRecvError::Disconnected) => return Err(lost()),
            Err(TryRecvError::Empty) => {}
        }
        match rayon::yield_now() {
            Some(Yield::Executed) => {}
            Some(Yield::Idle) => {
                if let Ok(value) = result.recv_timeout(Duration::from_micros(100)) {
                    return Ok(value);
                }
            }
            None => return result.recv().map_err(|_| lost()),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.compression == Compression::None {
            self.out.write_all(buf)?;
            self.written += buf.len() as u64;
            return Ok(buf.len());
        }
        let mut rest = buf;
        while !rest.is_empty() {
            let n = (self.compression.piece() - self.buffer.len()).min(rest.len());
            self.buffer.extend_from_slice(&rest[..n]);
            rest = &rest[n..];
            if self.buffer.len() == self.compression.piece() {
                if self.running.len() >= self.depth {
                    self.pass_on()?;
                }
                self.start();
            }
        }
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decompress::{Format, Limits, decompress};
    use std::io::Read;

    fn sample(len: usize) -> Vec<u8> {
        let mut x: u32 = 1;
        (0..len)
            .map(|i| {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if i % 5 == 0 { (x >> 24) as u8 } else { (i / 100) as u8 }
            })
            .collect()
    }

    fn packed(data: &[u8], how: Compression, write: usize) -> Vec<u8> {
        let mut c = Compressor::new(Vec::new(), how);
        for piece in data.chunks(write.max(1)) {
            c.write_all(piece).unwrap();
        }
        let (out, n) = c.finish().unwrap();
        assert_eq!(out.len() as u64, n);
        out
    }

    #[test]
    fn bytes_come_back_and_do_not_depend_on_threads() {
        for how in [Compression::None, Compression::GZIP, Compression::ZSTD] {
            for len in [0, 1, 1 << 20, (1 << 20) + 1, 9_000_000] {
                let data = sample(len);
                let a = packed(&data, how, 4096);
                let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
                let b = pool.install(|| packed(&data, how, 1 << 22));
                assert!(a == b, "{how:?} {len}");
                let (mut reader, format) = decompress(&a[..], Limits::default()).unwrap();
                let mut back = Vec::new();
                reader.read_to_end(&mut back).unwrap();
                assert!(back == data, "{how:?} {len}");
                match how {
                    Compression::Gzip { .. } => assert_eq!(format, Format::Gzip),
                    Compression::Zstd { .. } => assert_eq!(format, Format::Zstd),
                    Compression::None => assert_eq!(format, Format::Plain),
                }
            }
        }
    }
}
