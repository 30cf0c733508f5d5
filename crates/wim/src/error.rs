//! What can be wrong with a Windows image file, as one typed error with an optional hint.

use crate::Hash;
use std::io;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure to read a Windows image file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot read the file")]
    Io(#[source] io::Error),
    /// It is something else.
    #[error("this is no Windows image file (WIM)")]
    NotWim,
    /// It breaks the format.
    #[error("malformed {what}: {reason}")]
    Malformed { what: &'static str, reason: &'static str },
    /// It ends before something that it says to have.
    #[error("the file ends before {what}, which is at byte {offset}")]
    Truncated { what: &'static str, offset: u64 },
    /// Data that are not those which were put in.
    #[error("the data {hash} are damaged: they have another SHA-1")]
    Damaged { hash: Hash },
    /// Data that the file refers to and does not have.
    #[error("the data {hash} are not in the file")]
    Absent { hash: Hash },
    /// A form that is not read here.
    #[error("{0}, which is not supported")]
    Unsupported(Unsupported),
    /// One file or folder in the image.
    #[error("{path}: {reason}")]
    Entry { path: String, reason: &'static str },
    /// More than anybody needs.
    #[error("{what} has more than {limit} {unit}")]
    Limit { what: &'static str, limit: u64, unit: &'static str },
    /// There is no image of that number.
    #[error("there is no image {index}: the file has {count}")]
    NoImage { index: u32, count: u32 },
}

/// Forms of the format that are recognised and refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    #[error("its data are compressed with LZMS")]
    Lzms,
    #[error("its data are packed in solid blocks, as in an ESD")]
    Solid,
    #[error("it is part {part} of {parts} of a split image")]
    Split { part: u16, parts: u16 },
    #[error("it is of version {0:#x}")]
    Version(u32),
    #[error("its data are compressed with a method of its own ({0:#x})")]
    Compression(u32),
    #[error("its chunks have {0} bytes")]
    ChunkSize(u32),
}

impl Error {
    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Unsupported(Unsupported::Split { .. }) => {
                Some("make one file of the parts first: wimlib-imagex join WHOLE.wim PARTS…")
            }
            Error::Unsupported(_) => Some(
                "pack it anew first: wimlib-imagex export FILE all NEW.wim --compress=LZX, or Dism /Export-Image",
            ),
            Error::Damaged { .. } | Error::Truncated { .. } | Error::Malformed { .. } => {
                Some("get the file again: it was damaged or not copied to its end")
            }
            Error::Absent { .. } => {
                Some("it is a difference to another file: export both to a whole one first")
            }
            _ => None,
        }
    }
}

pub(crate) fn malformed(what: &'static str, reason: &'static str) -> Error {
    Error::Malformed { what, reason }
}
