//! Compression of layers: gzip and zstd, in parallel, with bytes that do not depend on threads.
//!
//! The stream is cut at fixed places and each piece becomes a gzip member or zstd frame of its own;
//! both formats define that concatenation decompresses to the whole (RFC 1952, RFC 8878).

use rayon::Yield;
use std::cell::Cell;
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

    fn pack(self, piece: &mut Piece) -> io::Result<()> {
        let Piece { input, output, packed } = piece;
        match self {
            Compression::None => {
                output.clone_from(input);
                *packed = output.len();
            }
            Compression::Gzip { level } => {
                let mut packer = gzip_packer(level.min(12))?;
                let bound = packer.gzip_compress_bound(input.len());
                if output.len() < bound {
                    output.resize(bound, 0);
                }
                *packed = packer.gzip_compress(input, output).map_err(io::Error::other)?;
                GZIP.set(Some((level.min(12), packer)));
            }
            Compression::Zstd { level } => {
                let level = i32::from(level.clamp(1, 22));
                let mut packer = match ZSTD.take() {
                    Some((kept, packer)) if kept == level => packer,
                    _ => zstd::bulk::Compressor::new(level)?,
                };
                output.clear();
                output.reserve(zstd::zstd_safe::compress_bound(input.len()));
                *packed = packer.compress_to_buffer(input.as_slice(), output)?;
                ZSTD.set(Some((level, packer)));
            }
        }
        Ok(())
    }
}

fn gzip_packer(level: u8) -> io::Result<libdeflater::Compressor> {
    if let Some((kept, packer)) = GZIP.take()
        && kept == level
    {
        return Ok(packer);
    }
    let level = libdeflater::CompressionLvl::new(i32::from(level))
        .map_err(|_| io::Error::other("gzip refused its level"))?;
    Ok(libdeflater::Compressor::new(level))
}

// Each thread keeps its compressor with the level that it is for: their tables are megabytes of fresh pages.
thread_local! {
    static GZIP: Cell<Option<(u8, libdeflater::Compressor)>> = const { Cell::new(None) };
    static ZSTD: Cell<Option<(i32, zstd::bulk::Compressor<'static>)>> = const { Cell::new(None) };
}

/// A piece of the stream, and room for what it becomes. Used again, since fresh memory costs a fault for each page.
#[derive(Default)]
struct Piece {
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes of `output` that count.
    packed: usize,
}

/// Compresses what is written and passes it on. Call [`Compressor::finish`]; dropping it loses data.
pub struct Compressor<W> {
    out: W,
    compression: Compression,
    /// Its input is being filled.
    piece: Piece,
    /// Pieces being compressed, oldest first.
    running: VecDeque<Receiver<io::Result<Piece>>>,
    spare: Vec<Piece>,
    /// Whether any piece was made: an empty stream still is one member.
    begun: bool,
    depth: usize,
    written: u64,
}

impl<W: Write> Compressor<W> {
    pub fn new(out: W, compression: Compression) -> Self {
        // More than enough for a few cores; for many, memory counts more.
        let depth = (rayon::current_num_threads() * 2).min(compression.most_pieces());
        Compressor {
            out,
            compression,
            piece: Piece::default(),
            running: VecDeque::new(),
            spare: Vec::new(),
            begun: false,
            depth,
            written: 0,
        }
    }

    /// Compress the rest; returns the writer and the number of bytes that went to it.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        if !self.piece.input.is_empty() || (!self.begun && self.compression != Compression::None) {
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
        let mut piece = std::mem::replace(&mut self.piece, self.spare.pop().unwrap_or_default());
        self.piece.input.clear();
        let (done, result) = sync_channel(1);
        let compression = self.compression;
        rayon::spawn(move || {
            let packed = compression.pack(&mut piece);
            // The receiver is gone where the layer was given up.
            let _ = done.send(packed.map(|()| piece));
        });
        self.running.push_back(result);
    }

    /// Wait for the oldest piece and write it.
    fn pass_on(&mut self) -> io::Result<()> {
        let Some(result) = self.running.pop_front() else { return Ok(()) };
        let piece = wait(&result)??;
        self.out.write_all(&piece.output[..piece.packed])?;
        self.written += piece.packed as u64;
        self.spare.push(piece);
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
            let size = self.compression.piece();
            let n = (size - self.piece.input.len()).min(rest.len());
            // All at once: growing would copy what is there.
            self.piece.input.reserve_exact(size - self.piece.input.len());
            self.piece.input.extend_from_slice(&rest[..n]);
            rest = &rest[n..];
            if self.piece.input.len() == size {
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
