//! Streams cut into chunks that several threads look at without copying.
//!
//! One thread produces (decompressing, or reading files), one hashes, one consumes; bounded channels
//! in between keep memory small. What each of them sees does not depend on timing.

use crate::{Error, Result};
use digest::{Digest, Sha256};
use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Small enough for the second-level cache, large enough that switching threads costs nothing.
const CHUNK: usize = 256 * 1024;
/// Chunks in flight to each consumer.
const DEPTH: usize = 8;

/// Buffers for reuse: fresh ones would cost a page fault per 4 KiB.
#[derive(Default)]
struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    fn take(self: &Arc<Self>) -> Chunk {
        let data = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Chunk { data: data.unwrap_or_else(|| vec![0; CHUNK]), len: 0, pool: Arc::clone(self) }
    }
}

/// A buffer of which the first `len` bytes are filled; goes back to its pool.
pub struct Chunk {
    data: Vec<u8>,
    len: usize,
    pool: Arc<Pool>,
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        &self.data[..self.len]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let mut free = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(std::mem::take(&mut self.data));
    }
}

/// The consumer's end of a stream that is hashed on the way.
pub struct ChunkReader {
    chunks: Receiver<io::Result<Arc<Chunk>>>,
    current: Option<Arc<Chunk>>,
    at: usize,
    failed: bool,
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.as_ref().is_none_or(|c| self.at >= c.len) {
            if self.failed {
                return Err(io::Error::other("the stream failed before"));
            }
            match self.chunks.recv() {
                Ok(Ok(chunk)) => {
                    self.current = Some(chunk);
                    self.at = 0;
                }
                Ok(Err(e)) => {
                    self.failed = true;
                    return Err(e);
                }
                Err(_) => {
                    self.current = None;
                    return Ok(&[]);
                }
            }
        }
        Ok(self.current.as_ref().map_or(&[], |c| &c.bytes()[self.at..]))
    }
    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(buf.len());
        buf[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// Run `consume` over `reader`, which a thread of its own reads while another one hashes. Whatever
/// `consume` leaves is read and hashed too. Returns its result with sha256 and length of the stream;
/// fails at the first byte beyond `limit`.
pub fn hashed_read<T>(
    reader: impl Read + Send,
    limit: Option<u64>,
    consume: impl FnOnce(&mut ChunkReader) -> Result<T>,
) -> Result<(T, Digest, u64)> {
    let (data_out, data_in) = sync_channel(DEPTH);
    let (hash_out, hash_in) = sync_channel::<Arc<Chunk>>(DEPTH);
    thread::scope(|scope| {
        let hash = scope.spawn(move || hash_all(&hash_in));
        scope.spawn(move || produce(reader, limit, &data_out, Some(&hash_out)));
        let mut source = ChunkReader { chunks: data_in, current: None, at: 0, failed: false };
        let value = consume(&mut source)?;
        loop {
            let n = source.fill_buf().map_err(Error::Source)?.len();
            if n == 0 {
                break;
            }
            source.consume(n);
        }
        drop(source);
        let (digest, size) = hash.join().map_err(|_| Error::Internal("the hashing thread panicked"))?;
        Ok((value, digest, size))
    })
}

/// As [`hashed_read`], but nothing is hashed, and what `consume` leaves is left.
pub fn threaded_read<T>(
    reader: impl Read + Send,
    limit: Option<u64>,
    consume: impl FnOnce(&mut ChunkReader) -> Result<T>,
) -> Result<T> {
    let (data_out, data_in) = sync_channel(DEPTH);
    thread::scope(|scope| {
        scope.spawn(move || produce(reader, limit, &data_out, None));
        consume(&mut ChunkReader { chunks: data_in, current: None, at: 0, failed: false })
    })
}

fn hash_all(chunks: &Receiver<Arc<Chunk>>) -> (Digest, u64) {
    let mut hasher = Sha256::new();
    let mut size = 0;
    while let Ok(chunk) = chunks.recv() {
        hasher.update(chunk.bytes());
        size += chunk.len as u64;
    }
    (hasher.finish(), size)
}

fn produce(
    mut reader: impl Read,
    limit: Option<u64>,
    data: &SyncSender<io::Result<Arc<Chunk>>>,
    hash: Option<&SyncSender<Arc<Chunk>>>,
) {
    let pool = Arc::new(Pool::default());
    let mut total: u64 = 0;
    loop {
        let mut chunk = pool.take();
        let mut outcome = Ok(());
        while chunk.len < CHUNK {
            let at = chunk.len;
            match reader.read(&mut chunk.data[at..]) {
                Ok(0) => break,
                Ok(n) => chunk.len += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    outcome = Err(e);
                    break;
                }
            }
        }
        total += chunk.len as u64;
        if let Some(limit) = limit
            && total > limit
        {
            outcome = Err(io::Error::other(crate::decompress::TooMuch { limit }));
        }
        let full = chunk.len == CHUNK;
        if let Err(e) = outcome {
            // Nobody listens any more where this fails.
            let _ = data.send(Err(e));
            return;
        }
        let chunk = Arc::new(chunk);
        let unheard = chunk.len > 0
            && (hash.is_some_and(|h| h.send(Arc::clone(&chunk)).is_err()) || data.send(Ok(chunk)).is_err());
        if unheard {
            return;
        }
        if !full {
            return;
        }
    }
}

/// The producer's end of a stream that is hashed on the way: fill it in place or by copying.
pub struct ChunkWriter {
    chunk: Chunk,
    pool: Arc<Pool>,
    data: Option<SyncSender<Arc<Chunk>>>,
    hash: SyncSender<Arc<Chunk>>,
}

impl ChunkWriter {
    /// Append a copy of `bytes`.
    pub fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let space = self.space()?;
            let n = space.len().min(bytes.len());
            space[..n].copy_from_slice(&bytes[..n]);
            self.filled(n);
            bytes = &bytes[n..];
        }
        Ok(())
    }
    /// Append zeros.
    pub fn zeros(&mut self, mut n: u64) -> Result<()> {
        while n > 0 {
            let space = self.space()?;
            let k = space.len().min(usize::try_from(n).unwrap_or(usize::MAX));
            space[..k].fill(0);
            self.filled(k);
            n -= k as u64;
        }
        Ok(())
    }
    /// Room to fill, never empty; then say how much by [`ChunkWriter::filled`].
    pub fn space(&mut self) -> Result<&mut [u8]> {
        if self.chunk.len == CHUNK {
            self.send()?;
        }
        let at = self.chunk.len;
        Ok(&mut self.chunk.data[at..])
    }
    pub fn filled(&mut self, n: usize) {
        self.chunk.len += n;
    }
    fn send(&mut self) -> Result<()> {
        let full = Arc::new(std::mem::replace(&mut self.chunk, self.pool.take()));
        let gone = || Error::Sink(io::ErrorKind::BrokenPipe.into());
        self.hash.send(Arc::clone(&full)).map_err(|_| gone())?;
        match &self.data {
            Some(data) => data.send(full).map_err(|_| gone()),
            None => Ok(()),
        }
    }
}

/// Run `produce` in a thread, hash what it writes in another, and pass it to `out`, if any, in this
/// one. Returns its result with sha256 and length of the stream.
pub fn hashed_write<T: Send>(
    out: Option<&mut dyn Write>,
    produce: impl FnOnce(&mut ChunkWriter) -> Result<T> + Send,
) -> Result<(T, Digest, u64)> {
    let (hash_out, hash_in) = sync_channel::<Arc<Chunk>>(DEPTH);
    let (data_out, data_in) = sync_channel::<Arc<Chunk>>(DEPTH);
    let data_out = out.is_some().then_some(data_out);
    thread::scope(|scope| {
        let hash = scope.spawn(move || hash_all(&hash_in));
        let producer = scope.spawn(move || {
            let pool = Arc::new(Pool::default());
            let mut writer = ChunkWriter { chunk: pool.take(), pool, data: data_out, hash: hash_out };
            let value = produce(&mut writer)?;
            writer.send()?;
            Ok(value)
        });
        let mut written = Ok(());
        if let Some(out) = out {
            while let Ok(chunk) = data_in.recv() {
                written = out.write_all(chunk.bytes());
                if written.is_err() {
                    break;
                }
            }
        }
        // Ends the producer, where it still runs after a failed write.
        drop(data_in);
        let value = producer.join().map_err(|_| Error::Internal("the packing thread panicked"))?;
        written.map_err(Error::Sink)?;
        let value = value?;
        let (digest, size) = hash.join().map_err(|_| Error::Internal("the hashing thread panicked"))?;
        Ok((value, digest, size))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_and_is_hashed() {
        for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 17] {
            let data: Vec<u8> = (0..len).map(|i| (i * 7 + i / 251) as u8).collect();
            let ((), digest, size) = hashed_read(&data[..], None, |r| {
                let mut head = vec![0; len / 2];
                r.read_exact(&mut head).map_err(Error::Source)?;
                assert_eq!(head, data[..len / 2]);
                Ok(())
            })
            .unwrap();
            assert_eq!((digest, size), (Digest::of(&data), len as u64));

            let mut out = Vec::new();
            let ((), digest, size) = hashed_write(Some(&mut out), |w| w.put(&data)).unwrap();
            assert_eq!((digest, size), (Digest::of(&data), len as u64));
            assert_eq!(out, data);
        }
    }

    #[test]
    fn failures_end_all_threads() {
        assert!(hashed_read(io::repeat(1), Some(1 << 20), |_| Ok(())).is_err());
        let early = hashed_read(io::repeat(1), None, |_| Err::<(), _>(Error::Internal("x")));
        assert!(early.is_err());
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let full = hashed_write(Some(&mut Full), |w| w.zeros(1 << 26));
        assert!(matches!(full, Err(Error::Sink(e)) if e.kind() == io::ErrorKind::StorageFull));
    }
}
