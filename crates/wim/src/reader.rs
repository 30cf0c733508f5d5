//! A file that is open: its images, their trees, and data by their SHA-1.

use crate::error::malformed;
use crate::header::{self, Blob, Compression, HEADER, Header, MOST_TABLE, Resource};
use crate::lzx::Lzx;
use crate::xpress::Xpress;
use crate::{Error, Hash, ImageInfo, Result, Tree, tree, xml};
use sha1::{Digest, Sha1};
use std::collections::{BTreeMap, HashMap};
use std::io::{ErrorKind, Read, Seek, SeekFrom};

/// Bytes that are read at once of what is not compressed.
const PIECE: usize = 256 * 1024;
/// Most bytes of a chunk table: 8 million chunks.
const MOST_CHUNKS: u64 = 64 << 20;

/// An open Windows image file.
pub struct Wim<R> {
    file: R,
    header: Header,
    images: BTreeMap<u32, ImageInfo>,
    /// The metadata of the images, in order.
    metadata: Vec<Blob>,
    blobs: HashMap<Hash, Resource>,
    unpacker: Unpacker,
}

enum Unpacker {
    None,
    Xpress(Box<Xpress>),
    Lzx(Box<Lzx>),
}

impl Unpacker {
    fn decode(&mut self, data: &[u8], out: &mut [u8]) -> Result<(), &'static str> {
        match self {
            Unpacker::None => Err("it is compressed, and the header says that nothing is"),
            Unpacker::Xpress(xpress) => xpress.decode(data, out),
            Unpacker::Lzx(lzx) => lzx.decode(data, out),
        }
    }
}

impl<R: Read + Seek> Wim<R> {
    /// Read the tables of a file.
    ///
    /// # Errors
    /// [`Error::NotWim`] for other files, [`Error::Unsupported`] for forms that are not read.
    pub fn open(mut file: R) -> Result<Self> {
        let length = file.seek(SeekFrom::End(0)).map_err(Error::Io)?;
        file.rewind().map_err(Error::Io)?;
        let mut bytes = Vec::with_capacity(HEADER);
        file.by_ref().take(HEADER as u64).read_to_end(&mut bytes).map_err(Error::Io)?;
        if !bytes.starts_with(header::MAGIC) {
            return Err(Error::NotWim);
        }
        let offset = bytes.len() as u64;
        let bytes = bytes.first_chunk();
        let bytes = bytes.ok_or(Error::Truncated { what: "the rest of its header", offset })?;
        let header = Header::parse(bytes, length)?;
        let unpacker = match header.compression {
            Compression::None => Unpacker::None,
            Compression::Xpress => Unpacker::Xpress(Box::new(Xpress::new())),
            Compression::Lzx => {
                let lzx = Lzx::new(header.chunk).ok_or_else(|| malformed("header", "no such chunks"))?;
                Unpacker::Lzx(Box::new(lzx))
            }
        };
        let (metadata, blobs, images) = (Vec::new(), HashMap::new(), BTreeMap::new());
        let mut wim = Wim { file, header, images, metadata, blobs, unpacker };
        let table = wim.whole(&header.blobs, "blob table", MOST_TABLE)?;
        for blob in header::blobs(&table, length)? {
            match blob.is_metadata {
                true => wim.metadata.push(blob),
                false => drop(wim.blobs.entry(blob.hash).or_insert(blob.resource)),
            }
        }
        if wim.metadata.len() as u64 != u64::from(header.images) {
            return Err(malformed("blob table", "it has not as many images as the header says"));
        }
        let mut told = xml::parse(&wim.whole(&header.xml, "XML document", xml::MOST)?)?;
        // One that the document does not tell of has no name.
        wim.images = (1..=header.images).map(|i| (i, told.remove(&i).unwrap_or_default())).collect();
        Ok(wim)
    }

    /// The images by their numbers, which begin with 1.
    pub fn images(&self) -> &BTreeMap<u32, ImageInfo> {
        &self.images
    }

    pub fn compression(&self) -> Compression {
        self.header.compression
    }

    /// Whether absolute targets of links are told from the root of the image.
    pub fn has_fixed_links(&self) -> bool {
        self.header.links_fixed
    }

    /// The SHA-1 of an image's metadata, which stands for all that is in the image.
    pub fn hash(&self, index: u32) -> Result<Hash> {
        self.metadata(index).map(|blob| blob.hash)
    }

    fn metadata(&self, index: u32) -> Result<Blob> {
        let at = (index as usize).checked_sub(1);
        let blob = at.and_then(|at| self.metadata.get(at)).copied();
        blob.ok_or(Error::NoImage { index, count: self.header.images })
    }

    /// The folders and files of an image.
    pub fn tree(&mut self, index: u32) -> Result<Tree> {
        let blob = self.metadata(index)?;
        let metadata = self.whole(&blob.resource, "metadata", tree::MOST)?;
        if Sha1::digest(&metadata)[..] != blob.hash.0 {
            return Err(Error::Damaged { hash: blob.hash });
        }
        Tree::parse(metadata)
    }

    /// Bytes of data.
    pub fn size(&self, data: Option<&Hash>) -> Result<u64> {
        match data {
            None => Ok(0),
            Some(hash) => self.blobs.get(hash).map(|r| r.size).ok_or(Error::Absent { hash: *hash }),
        }
    }

    /// Hand data piece by piece to `sink`. What it was given counts only once this returns `Ok`: their SHA-1 is known
    /// at the end.
    pub fn copy<E: From<Error>>(
        &mut self,
        hash: &Hash,
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let resource = *self.blobs.get(hash).ok_or(Error::Absent { hash: *hash })?;
        let mut hasher = Sha1::new();
        self.each(&resource, "data of a file", |piece| {
            hasher.update(piece);
            sink(piece)
        })?;
        match hasher.finalize()[..] == hash.0 {
            true => Ok(()),
            false => Err(Error::Damaged { hash: *hash }.into()),
        }
    }

    /// Small data as a whole.
    pub fn read(&mut self, hash: &Hash, most: usize) -> Result<Vec<u8>> {
        let limit = most as u64;
        if self.size(Some(hash))? > limit {
            return Err(Error::Limit { what: "a reparse point", limit, unit: "bytes" });
        }
        let mut out = Vec::new();
        self.copy(hash, |piece| {
            out.extend_from_slice(piece);
            Ok::<_, Error>(())
        })?;
        Ok(out)
    }

    fn whole(&mut self, resource: &Resource, what: &'static str, limit: u64) -> Result<Vec<u8>> {
        if resource.size > limit {
            return Err(Error::Limit { what, limit, unit: "bytes" });
        }
        let mut out = Vec::new();
        self.each(resource, what, |piece| {
            out.extend_from_slice(piece);
            Ok::<_, Error>(())
        })?;
        Ok(out)
    }

    /// Hand the data of a resource to `sink`, piece by piece.
    fn each<E: From<Error>>(
        &mut self,
        resource: &Resource,
        what: &'static str,
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if resource.size == 0 {
            return Ok(());
        }
        let offset = resource.offset;
        let read_error = |e| failed(e, what, offset);
        self.file.seek(SeekFrom::Start(offset)).map_err(Error::Io)?;
        if !resource.is_compressed {
            let mut left = resource.size;
            let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
            while left > 0 {
                let n = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.file.read_exact(&mut piece[..n]).map_err(read_error)?;
                sink(&piece[..n])?;
                left -= n as u64;
            }
            return Ok(());
        }
        let chunk = u64::from(self.header.chunk);
        let begins = self.chunks(resource, what)?;
        let (mut stored, mut plain) = (Vec::new(), vec![0; chunk.min(resource.size) as usize]);
        for (i, begin) in begins.iter().enumerate() {
            let end = begins.get(i + 1).copied().unwrap_or(resource.stored);
            let size = (resource.size - chunk * i as u64).min(chunk);
            let bytes = end.checked_sub(*begin).filter(|n| (1..=size).contains(n));
            let bytes = bytes.ok_or_else(|| malformed(what, "a chunk has a size that can't be"))?;
            // Both are a chunk at most.
            stored.resize(bytes as usize, 0);
            self.file.read_exact(&mut stored).map_err(read_error)?;
            if bytes == size {
                sink(&stored)?;
                continue;
            }
            let out = &mut plain[..size as usize];
            self.unpacker.decode(&stored, out).map_err(|reason| malformed(what, reason))?;
            sink(out)?;
        }
        Ok(())
    }

    /// Where the chunks of a resource begin in it, behind its chunk table, which the file is at.
    fn chunks(&mut self, resource: &Resource, what: &'static str) -> Result<Vec<u64>> {
        let count = resource.size.div_ceil(u64::from(self.header.chunk));
        // The first chunk begins where the table ends.
        let width = if resource.size > u64::from(u32::MAX) { 8 } else { 4 };
        let bytes = (count - 1) * width;
        if bytes > MOST_CHUNKS {
            return Err(Error::Limit {
                what: "the chunk table of a file",
                limit: MOST_CHUNKS,
                unit: "bytes",
            });
        }
        if bytes >= resource.stored {
            return Err(malformed(what, "its chunk table is longer than it is"));
        }
        let mut table = vec![0; bytes as usize];
        self.file.read_exact(&mut table).map_err(|e| failed(e, what, resource.offset))?;
        let mut begins = Vec::with_capacity(count as usize);
        begins.push(bytes);
        let fields = header::Fields(&table);
        for at in (0..table.len()).step_by(width as usize) {
            let begin = if width == 8 { fields.u64(at) } else { u64::from(fields.u32(at)) };
            let begin = begin.checked_add(bytes).filter(|begin| *begin < resource.stored);
            begins.push(begin.ok_or_else(|| malformed(what, "a chunk is outside of it"))?);
        }
        Ok(begins)
    }
}

/// A failure to read at `offset`; the file may have become shorter.
fn failed(e: std::io::Error, what: &'static str, offset: u64) -> Error {
    match e.kind() {
        ErrorKind::UnexpectedEof => Error::Truncated { what, offset },
        _ => Error::Io(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn tables(table: Vec<u8>, size: u64, stored: u64) -> Result<Vec<u64>> {
        let xpress = header::Resource::default();
        let header = Header {
            compression: Compression::Xpress,
            chunk: 32768,
            images: 0,
            blobs: xpress,
            xml: xpress,
            links_fixed: false,
        };
        let (metadata, blobs, images) = (Vec::new(), HashMap::new(), BTreeMap::new());
        let unpacker = Unpacker::None;
        let mut wim = Wim { file: Cursor::new(table), header, images, metadata, blobs, unpacker };
        wim.chunks(&Resource { offset: 0, stored, size, is_compressed: true }, "data of a file")
    }

    #[test]
    fn chunk_tables_have_four_or_eight_bytes_for_each_but_the_first() {
        let four = [100u32, 250].iter().flat_map(|n| n.to_le_bytes()).collect();
        assert_eq!(tables(four, 70_000, 400).unwrap(), [8, 108, 258]);
        assert_eq!(tables(Vec::new(), 32_768, 10).unwrap(), [0]);
        // From 4 GiB on.
        let chunks = (1u64 << 32) / 32_768;
        let eight: Vec<u8> = (1..chunks).flat_map(|i| (i * 20_000).to_le_bytes()).collect();
        let length = eight.len() as u64;
        let begins = tables(eight, 1 << 32, length + chunks * 20_000).unwrap();
        assert_eq!(
            (begins.len() as u64, begins[1], begins[131_071]),
            (chunks, length + 20_000, length + 2_621_420_000)
        );
    }

    #[test]
    fn chunk_tables_that_lie() {
        let outside = 500u32.to_le_bytes().to_vec();
        assert!(matches!(tables(outside, 40_000, 400), Err(Error::Malformed { .. })));
        assert!(matches!(tables(vec![0; 3], 40_000, 400), Err(Error::Truncated { .. })));
        assert!(matches!(tables(Vec::new(), 1 << 40, 400), Err(Error::Limit { .. })));
        assert!(matches!(tables(Vec::new(), 1 << 30, 400), Err(Error::Malformed { .. })));
    }
}
