//! The header of a file, the places of its resources, and the table of its blobs.

use crate::error::{Unsupported, malformed};
use crate::{Error, Hash, Result};

/// Bytes of the header.
pub const HEADER: usize = 208;
/// The first bytes of each file.
pub const MAGIC: &[u8; 8] = b"MSWIM\0\0\0";

const VERSION: u32 = 0x10d00;
/// Of files with solid blocks.
const VERSION_SOLID: u32 = 0xe00;

const COMPRESSED: u32 = 0x2;
const RP_FIX: u32 = 0x80;
const XPRESS: u32 = 0x2_0000;
const LZX: u32 = 0x4_0000;
const LZMS: u32 = 0x8_0000;
const XPRESS_2: u32 = 0x20_0000;

const DEFAULT_CHUNK: u32 = 32768;

const RESOURCE_METADATA: u8 = 2;
const RESOURCE_COMPRESSED: u8 = 4;
const RESOURCE_SPANNED: u8 = 8;
const RESOURCE_SOLID: u8 = 16;

/// Bytes of a blob's entry in the table.
const BLOB: usize = 50;
/// Most bytes of the table: 2.6 million blobs.
pub const MOST_TABLE: u64 = 128 << 20;
/// Largest resource, which is what NTFS can hold.
const MOST_RESOURCE: u64 = 1 << 44;

/// How the chunks of compressed resources are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Xpress,
    Lzx,
}

/// A run of bytes in the file, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resource {
    pub offset: u64,
    /// Bytes in the file.
    pub stored: u64,
    /// Bytes of the data.
    pub size: u64,
    pub is_compressed: bool,
}

/// What the beginning of the file says.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    pub compression: Compression,
    /// Bytes of data in a chunk.
    pub chunk: u32,
    pub images: u32,
    pub blobs: Resource,
    pub xml: Resource,
    /// Absolute targets of links are told from the root of the image.
    pub links_fixed: bool,
}

/// Little-endian numbers at fixed places of a record that is long enough.
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }
    pub fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }
    pub fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }
    pub fn hash(&self, at: usize) -> Hash {
        Hash(self.array(at))
    }
}

/// UTF-16 text; `None` where halves of characters are in it, or a half of a unit.
pub(crate) fn utf16(bytes: &[u8]) -> Option<String> {
    let (units, []) = bytes.as_chunks::<2>() else { return None };
    char::decode_utf16(units.iter().map(|two| u16::from_le_bytes(*two))).collect::<Result<_, _>>().ok()
}

/// A resource in a record of 24 bytes, with its flags.
fn resource(fields: &Fields<'_>, at: usize) -> (Resource, u8) {
    let (stored, flags) = (fields.u64(at) & (u64::MAX >> 8), (fields.u64(at) >> 56) as u8);
    let is_compressed = flags & RESOURCE_COMPRESSED != 0;
    let (offset, size) = (fields.u64(at + 8), fields.u64(at + 16));
    (Resource { offset, stored, size, is_compressed }, flags)
}

impl Resource {
    /// Whether it lies in a file of `length` bytes.
    pub fn check(&self, what: &'static str, length: u64) -> Result<()> {
        if self.offset.checked_add(self.stored).is_none_or(|end| end > length) {
            return Err(Error::Truncated { what, offset: self.offset });
        }
        if self.size > MOST_RESOURCE {
            return Err(Error::Limit { what, limit: MOST_RESOURCE, unit: "bytes" });
        }
        if !self.is_compressed && self.stored != self.size {
            return Err(malformed(what, "its two sizes differ, and it is not compressed"));
        }
        Ok(())
    }
}

impl Header {
    /// Of a file of `length` bytes, which has the first ones of such files.
    pub fn parse(bytes: &[u8; HEADER], length: u64) -> Result<Header> {
        const WHAT: &str = "header";
        let fields = Fields(bytes);
        if (fields.u32(8) as usize) < HEADER {
            return Err(malformed(WHAT, "it is too short"));
        }
        let flags = fields.u32(16);
        match fields.u32(12) {
            VERSION => {}
            VERSION_SOLID if flags & LZMS != 0 => return Err(Error::Unsupported(Unsupported::Lzms)),
            VERSION_SOLID => return Err(Error::Unsupported(Unsupported::Solid)),
            other => return Err(Error::Unsupported(Unsupported::Version(other))),
        }
        let compression = match flags {
            _ if flags & COMPRESSED == 0 => Compression::None,
            _ if flags & LZX != 0 => Compression::Lzx,
            _ if flags & (XPRESS | XPRESS_2) != 0 => Compression::Xpress,
            _ if flags & LZMS != 0 => return Err(Error::Unsupported(Unsupported::Lzms)),
            _ => return Err(Error::Unsupported(Unsupported::Compression(flags))),
        };
        let chunk = match fields.u32(20) {
            0 => DEFAULT_CHUNK,
            chunk => chunk,
        };
        let orders = match compression {
            Compression::None => 0..=31,
            // Windows has 16 bits at most.
            Compression::Xpress => 12..=16,
            Compression::Lzx => crate::lzx::ORDERS,
        };
        if !chunk.is_power_of_two() || !orders.contains(&chunk.trailing_zeros()) {
            return Err(Error::Unsupported(Unsupported::ChunkSize(chunk)));
        }
        let (part, parts) = (fields.u16(40), fields.u16(42));
        if (part, parts) != (1, 1) {
            return Err(match part <= parts && parts > 1 {
                true => Error::Unsupported(Unsupported::Split { part, parts }),
                false => malformed(WHAT, "the number of the part makes no sense"),
            });
        }
        let (blobs, _) = resource(&fields, 48);
        let (xml, _) = resource(&fields, 72);
        blobs.check("blob table", length)?;
        xml.check("XML document", length)?;
        let links_fixed = flags & RP_FIX != 0;
        Ok(Header { compression, chunk, images: fields.u32(44), blobs, xml, links_fixed })
    }
}

/// One entry of the blob table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    pub hash: Hash,
    pub resource: Resource,
    /// The folders and files of an image, not the data of a file.
    pub is_metadata: bool,
}

/// The blob table of a file of `length` bytes.
pub fn blobs(table: &[u8], length: u64) -> Result<Vec<Blob>> {
    if !table.len().is_multiple_of(BLOB) {
        return Err(malformed("blob table", "it ends in an entry"));
    }
    let one = |entry: &[u8]| {
        let fields = Fields(entry);
        let (resource, flags) = resource(&fields, 0);
        if flags & RESOURCE_SOLID != 0 {
            return Err(Error::Unsupported(Unsupported::Solid));
        }
        if flags & RESOURCE_SPANNED != 0 || fields.u16(24) != 1 {
            return Err(malformed("blob table", "data are in another part, and there is only one"));
        }
        resource.check("data of a file", length)?;
        Ok(Blob { hash: fields.hash(30), resource, is_metadata: flags & RESOURCE_METADATA != 0 })
    };
    table.chunks_exact(BLOB).map(one).collect()
}
