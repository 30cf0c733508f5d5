//! The folders and files of an image: its metadata resource.
//!
//! Invariants: each entry comes after its folder, entries of a folder are in the order of their names' bytes; no more
//! bytes become entries than the metadata have, so that a folder in itself, or in several others, ends nowhere.

use crate::error::malformed;
use crate::header::{Fields, utf16};
use crate::{Error, FileTime, Hash, Result};
use std::ops::Range;

/// Most bytes of the metadata: a Windows with some 300,000 files has 70 MB.
pub const MOST: u64 = 256 << 20;
/// Folders in each other, and UTF-16 units of a path: Windows has no longer ones.
const DEEPEST: usize = 512;
const LONGEST: usize = 32_767;

/// Bytes of an entry, and of one of its streams, before their names.
const ENTRY: usize = 102;
const STREAM: usize = 38;

/// Attributes of files (MS-FSCC 2.6).
pub mod attributes {
    pub const DIRECTORY: u32 = 0x10;
    pub const REPARSE_POINT: u32 = 0x400;
    pub const ENCRYPTED: u32 = 0x4000;
}

/// All that is in an image.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// The root first.
    pub entries: Vec<Entry>,
    metadata: Vec<u8>,
    descriptors: Vec<Range<usize>>,
}

/// A file, folder or reparse point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The index of its folder; the root's own for the root.
    pub parent: u32,
    /// Empty for the root.
    pub name: String,
    /// Its other name, of eight characters and three.
    pub short_name: String,
    pub attributes: u32,
    pub created: FileTime,
    pub accessed: FileTime,
    pub modified: FileTime,
    pub kind: Kind,
    /// Named streams, by name.
    pub streams: Vec<Stream>,
    /// The number of its security descriptor.
    security: Option<u32>,
    /// Entries with the same number and data are names of one file.
    pub link_group: Option<u64>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Folder,
    /// `None` is an empty file.
    File {
        data: Option<Hash>,
    },
    Reparse {
        tag: u32,
        /// Its target is written as it was, though those of other links are told from the root.
        is_literal: bool,
        /// What follows the header of eight bytes in the file system.
        data: Option<Hash>,
    },
}

/// A named stream of a file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    pub name: String,
    pub data: Option<Hash>,
}

impl Tree {
    /// Parse a metadata resource.
    pub fn parse(metadata: Vec<u8>) -> Result<Tree> {
        let (descriptors, start) = descriptors(&metadata)?;
        let mut parser = Parser { metadata: &metadata, descriptors: descriptors.len(), used: start };
        let entries = parser.entries(start)?;
        Ok(Tree { entries, descriptors, metadata })
    }

    /// The security descriptor of an entry, self-relative (MS-DTYP 2.4.6).
    pub fn descriptor(&self, entry: &Entry) -> Option<&[u8]> {
        let range = self.descriptors.get(entry.security? as usize)?;
        self.metadata.get(range.clone()).filter(|bytes| !bytes.is_empty())
    }

    /// The path of an entry from the root, with slashes; empty for the root.
    pub fn path(&self, index: usize) -> String {
        path_of(&self.entries, index, None)
    }
}

fn path_of(entries: &[Entry], mut index: usize, last: Option<&str>) -> String {
    let mut names: Vec<&str> = last.into_iter().collect();
    while let Some(entry) = entries.get(index).filter(|_| index != 0) {
        names.push(&entry.name);
        index = entry.parent as usize;
    }
    names.reverse();
    names.join("/")
}

/// The security descriptors at the beginning of the metadata, and where they end.
fn descriptors(metadata: &[u8]) -> Result<(Vec<Range<usize>>, usize)> {
    let bad = |reason| malformed("security data", reason);
    let fields = Fields(metadata);
    if metadata.len() < 8 {
        return Err(bad("they are too short"));
    }
    // Without any descriptor some writers give no length.
    let total = (fields.u32(0) as usize).max(8);
    let count = fields.u32(4) as usize;
    let mut at = count.checked_mul(8).and_then(|n| n.checked_add(8)).filter(|at| *at <= total);
    let mut ranges = Vec::new();
    if total > metadata.len() {
        return Err(bad("they are longer than the metadata"));
    }
    for i in 0..at.map_or(0, |_| count) {
        let from = at.unwrap_or(usize::MAX);
        let size = usize::try_from(fields.u64(8 + 8 * i)).unwrap_or(usize::MAX);
        at = from.checked_add(size).filter(|end| *end <= total);
        if at.is_some() {
            ranges.push(from..from + size);
        }
    }
    match at {
        Some(_) => Ok((ranges, total.next_multiple_of(8))),
        None => Err(bad("their sizes don't fit")),
    }
}

/// An entry, and where those in it are.
struct Parsed {
    entry: Entry,
    children: u64,
    units: usize,
}

struct Parser<'a> {
    metadata: &'a [u8],
    descriptors: usize,
    /// Bytes that were read; never more than there are.
    used: usize,
}

/// A folder that waits for its entries to be taken, the next one last.
struct Level {
    index: u32,
    entries: Vec<Parsed>,
    /// UTF-16 units of its path.
    units: usize,
}

impl<'a> Parser<'a> {
    fn entries(&mut self, start: usize) -> Result<Vec<Entry>> {
        let bad = |reason| malformed("metadata", reason);
        let (root, _) = self.entry(start, &[], 0)?.ok_or_else(|| bad("there is no root"))?;
        if !root.entry.name.is_empty() || root.entry.kind != Kind::Folder {
            return Err(bad("the root is no folder"));
        }
        let mut entries = vec![root.entry];
        let mut stack = vec![self.folder(&entries, 0, root.children, 0)?];
        while let Some(level) = stack.last_mut() {
            let Some(next) = level.entries.pop() else {
                stack.pop();
                continue;
            };
            let (parent, before) = (level.index, level.units);
            let index = u32::try_from(entries.len()).map_err(|_| bad("there are too many entries"))?;
            let is_folder = next.entry.kind == Kind::Folder;
            entries.push(Entry { parent, ..next.entry });
            let units = before + next.units + 1;
            if units > LONGEST || stack.len() > DEEPEST {
                let path = path_of(&entries, parent as usize, None);
                return Err(Error::Entry { path, reason: "what is in it has paths that are too long" });
            }
            if is_folder {
                stack.push(self.folder(&entries, index, next.children, units)?);
            }
        }
        Ok(entries)
    }

    /// The entries of the folder `index`, which are at `offset`.
    fn folder(&mut self, done: &[Entry], index: u32, offset: u64, units: usize) -> Result<Level> {
        let mut entries: Vec<Parsed> = Vec::new();
        let mut at =
            usize::try_from(offset).map_err(|_| malformed("metadata", "a folder is beyond its end"))?;
        // An empty folder may have no list at all.
        while at != 0 {
            let Some((parsed, next)) = self.entry(at, done, index)? else { break };
            if !matches!(parsed.entry.name.as_str(), "." | "..") {
                entries.push(parsed);
            }
            at = next;
        }
        // The next one last.
        entries.sort_by(|a, b| b.entry.name.cmp(&a.entry.name));
        if let Some(two) = entries.windows(2).find(|two| two[0].entry.name == two[1].entry.name) {
            let path = path_of(done, index as usize, Some(&two[0].entry.name));
            return Err(Error::Entry { path, reason: "there are two of that name" });
        }
        Ok(Level { index, entries, units })
    }

    /// `length` bytes from `at` on, each of them for the first time.
    fn record(&mut self, at: usize, length: usize) -> Result<&'a [u8]> {
        let bytes = at.checked_add(length).and_then(|end| self.metadata.get(at..end));
        self.used = self.used.saturating_add(length);
        match bytes {
            Some(bytes) if self.used <= self.metadata.len() => Ok(bytes),
            Some(_) => Err(malformed("metadata", "something is in several folders")),
            None => Err(malformed("metadata", "an entry is beyond its end")),
        }
    }

    /// The entry at `at` in the folder `parent`, and where the next one is; `None` at the end of the folder.
    fn entry(&mut self, at: usize, done: &[Entry], parent: u32) -> Result<Option<(Parsed, usize)>> {
        const WHAT: &str = "metadata";
        let length = Fields(self.record(at, 8)?).u64(0);
        if length <= 8 {
            // Empty folders may share one end.
            self.used -= 8;
            return Ok(None);
        }
        let length = usize::try_from(length).ok().filter(|l| *l >= ENTRY);
        let length = length.ok_or_else(|| malformed(WHAT, "an entry is too short"))?;
        self.used -= 8;
        let record = self.record(at, length)?;
        let fields = Fields(record);
        let (stream_count, short_bytes, name_bytes) = (fields.u16(96), fields.u16(98), fields.u16(100));
        let name = name_at(record, ENTRY, name_bytes)?;
        // A NUL is between the two.
        let short_at = ENTRY + if name_bytes == 0 { 0 } else { usize::from(name_bytes) + 2 };
        let short_name = match short_bytes {
            0 => String::new(),
            // Nobody goes by it.
            n => name_at(record, short_at, n)?.unwrap_or_default(),
        };
        let place = |name: &str| path_of(done, parent as usize, Some(name));
        let Some(name) = name else {
            return Err(Error::Entry { path: place("…"), reason: "its name is not UTF-16" });
        };
        let wrong = |reason| Error::Entry { path: place(&name), reason };
        if name.contains(['/', '\\', ':', '\0']) {
            return Err(wrong("no file can have that name"));
        }
        if name.is_empty() && !done.is_empty() {
            return Err(wrong("there is something without a name"));
        }
        let attributes = fields.u32(8);
        if attributes & attributes::ENCRYPTED != 0 {
            return Err(wrong("it is encrypted, and nobody but its owner can read it"));
        }
        let security = match fields.u32(12) {
            u32::MAX => None,
            n if (n as usize) < self.descriptors => Some(n),
            _ => return Err(wrong("it has a security descriptor that is not there")),
        };
        let (tag, rp_flags, link_group) = (fields.u32(88), fields.u16(94), fields.u64(88));
        let [created, accessed, modified] = [40, 48, 56].map(|at| FileTime(fields.u64(at)));
        let (children, own) = (fields.u64(16), fields.hash(64));
        let mut next = at + length.next_multiple_of(8);
        let mut unnamed = vec![own];
        let mut streams = Vec::new();
        for _ in 0..stream_count {
            let (stream, after) = self.stream(next)?;
            next = after;
            match stream {
                (Some(n), hash) if n.is_empty() => unnamed.push(hash),
                (Some(n), _) if n.contains(['/', '\\', ':', '\0']) => {
                    return Err(wrong("no stream can have the name of one of its streams"));
                }
                (Some(name), hash) => streams.push(Stream { name, data: hash.some() }),
                (None, _) => return Err(wrong("the name of one of its streams is not UTF-16")),
            }
        }
        streams.sort_by(|a, b| a.name.cmp(&b.name));
        if streams.windows(2).any(|two| two[0].name == two[1].name) {
            return Err(wrong("it has two streams of the same name"));
        }
        // The data are told in the entry or, where there are other streams, in one of theirs without a name.
        let data = unnamed.iter().find_map(|hash| hash.some());
        let is_folder = attributes & attributes::DIRECTORY != 0;
        let kind = match attributes & attributes::REPARSE_POINT != 0 {
            true => Kind::Reparse { tag, is_literal: rp_flags & 1 != 0, data },
            false if is_folder => Kind::Folder,
            false => Kind::File { data },
        };
        let link_group = (matches!(kind, Kind::File { .. }) && link_group != 0).then_some(link_group);
        let entry = Entry {
            parent,
            name,
            short_name,
            attributes,
            created,
            accessed,
            modified,
            kind,
            streams,
            security,
            link_group,
        };
        Ok(Some((Parsed { entry, children, units: usize::from(name_bytes / 2) }, next)))
    }

    /// A stream's name, if it is UTF-16, and its data; and where the next one is.
    fn stream(&mut self, at: usize) -> Result<((Option<String>, Hash), usize)> {
        let length = Fields(self.record(at, 8)?).u64(0);
        let length = usize::try_from(length).ok().filter(|l| *l >= STREAM);
        let length = length.ok_or_else(|| malformed("metadata", "a stream is too short"))?;
        self.used -= 8;
        let record = self.record(at, length)?;
        let fields = Fields(record);
        let name = name_at(record, STREAM, fields.u16(36))?;
        Ok(((name, fields.hash(16)), at + length.next_multiple_of(8)))
    }
}

/// A name in a record; `None` where halves of characters are in it.
fn name_at(record: &[u8], at: usize, bytes: u16) -> Result<Option<String>> {
    let name = record.get(at..at + usize::from(bytes)).filter(|n| n.len() % 2 == 0);
    name.map(utf16).ok_or_else(|| malformed("metadata", "a name is longer than its entry"))
}
