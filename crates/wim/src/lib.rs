//! Windows image files (WIM): what images a file has, their folders and files, and the data of these.
//!
//! The format is Microsoft's ("Windows Imaging File Format (WIM)"). Data are shared by all images of a file and found
//! by their SHA-1, which is checked whenever they are read.
//!
//! Invariants:
//! - any bytes may come: nothing panics, loops forever, or takes memory that the bounds below don't allow;
//! - a file is read where it is asked for; no data are in memory but a chunk, metadata, and tables.
//!
//! Deliberately not here: writing, the integrity table (SHA-1 covers more), LZMS and solid blocks (ESD), split files,
//! and what images are for.
#![forbid(unsafe_code)]

mod bits;
mod error;
mod header;
mod huffman;
mod lzx;
mod reader;
mod reparse;
mod tree;
mod xml;
mod xpress;

pub use error::{Error, Result, Unsupported};
pub use header::Compression;
pub use reader::Wim;
pub use reparse::{MOST as MOST_REPARSE, Target, on_drive_c};
pub use tree::{Entry, Kind, Stream, Tree, attributes};

use std::fmt;

/// The first bytes of each file.
pub const MAGIC: &[u8] = header::MAGIC;

/// The SHA-1 of data.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 20]);

impl Hash {
    /// `None` for zeros, which stand for empty data.
    fn some(self) -> Option<Hash> {
        (self.0 != [0; 20]).then_some(self)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Hundreds of nanoseconds since 1601.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FileTime(pub u64);

impl FileTime {
    /// Seconds and nanoseconds since 1970.
    pub fn unix(self) -> (i64, u32) {
        const TICKS: u64 = 10_000_000;
        const TO_1970: i64 = 11_644_473_600;
        ((self.0 / TICKS) as i64 - TO_1970, (self.0 % TICKS) as u32 * 100)
    }
}

/// What the XML document says of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageInfo {
    pub name: String,
    pub display_name: String,
    pub description: String,
    pub created: FileTime,
    pub modified: FileTime,
    /// Where there is a Windows in it.
    pub windows: Option<WindowsInfo>,
}

/// Which Windows an image is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WindowsInfo {
    /// A number of Windows (`PROCESSOR_ARCHITECTURE_…`).
    pub architecture: Option<u32>,
    /// Major, minor, build, revision.
    pub version: (u32, u32, u32, u32),
    pub product: String,
    pub edition: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_from_1601() {
        assert_eq!(FileTime(0).unix(), (-11_644_473_600, 0));
        assert_eq!(FileTime(116_444_736_000_000_001).unix(), (0, 100));
        assert_eq!(FileTime(u64::MAX).unix().1, 955_161_500);
    }
}
