//! Reading tar streams: POSIX ustar and PAX, old V7, GNU long names and all GNU sparse forms.
//!
//! Header fields come from crate `tar`; the stream, the extended headers and the sparse maps are read
//! here, strictly: what is malformed is an error. Where formats leave a choice, Go's `archive/tar` is
//! followed, since it decides what an image means to most other tools.

use crate::pack::Form;
use crate::pax;
use crate::{Error, Result};
use std::io::{self, BufRead};

const BLOCK: u64 = 512;
/// Longest extended header or long name (Go's limit too).
const LONGEST_META: u64 = 1 << 20;
/// Most regions of a sparse file.
const MOST_REGIONS: usize = 1 << 18;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    File,
    Dir,
    Symlink,
    HardLink,
    Char { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

/// One entry, with extended headers already applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As in the archive; not checked.
    pub path: Vec<u8>,
    /// Target of links, as in the archive.
    pub link: Vec<u8>,
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// Bytes of the file.
    pub size: u64,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Regions with data (offset, length) of a sparse file, in order; the data follow each other in
    /// the archive.
    pub sparse: Option<Vec<(u64, u64)>>,
}

/// Reads entry after entry. After [`TarReader::next`], the data come piecewise from
/// [`TarReader::data`]; what is not taken is skipped.
pub struct TarReader<R> {
    inner: R,
    offset: u64,
    /// Data of the current entry that were not handed out yet.
    left: u64,
    /// Zeros that fill its last block.
    padding: u64,
    /// Bytes of the piece handed out last, to be consumed.
    lent: usize,
    form: Form,
}

impl<R: BufRead> TarReader<R> {
    pub fn new(inner: R) -> Self {
        TarReader { inner, offset: 0, left: 0, padding: 0, lent: 0, form: Form::Unix }
    }

    /// The next entry, `None` at the end of the archive. A stream that ends between two entries is
    /// fine without end blocks, as everywhere.
    pub fn next(&mut self) -> Result<Option<Entry>> {
        self.skip_rest()?;
        let mut extended = Extended::default();
        loop {
            let mut block = [0; BLOCK as usize];
            if !self.block(&mut block)? {
                return if extended.is_empty() { Ok(None) } else { Err(self.truncated()) };
            }
            if block.iter().all(|b| *b == 0) {
                return if extended.is_empty() {
                    Ok(None)
                } else {
                    Err(self.malformed("an extended header without entry"))
                };
            }
            let header = tar::Header::from_byte_slice(&block);
            self.check_sum(&block)?;
            let size = self.number(&header.as_old().size, "size")?;
            match block[156] {
                // Solaris wrote the same with an X.
                b'x' | b'X' => {
                    let data = self.meta(size)?;
                    let records = pax::parse(&data).map_err(|e| self.malformed(e))?;
                    if records.iter().any(|(key, _)| key.starts_with(crate::windows::PREFIX)) {
                        self.form = Form::Windows;
                    }
                    extended.records = records.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
                }
                b'g' => {
                    // Applies to nothing here, as in Go, but must be well formed.
                    let data = self.meta(size)?;
                    pax::parse(&data).map_err(|e| self.malformed(e))?;
                }
                b'L' => extended.long_path = Some(until_nul(&self.meta(size)?).to_vec()),
                // The label of a GNU archive, which names nothing in it.
                b'V' => drop(self.meta(size)?),
                b'K' => extended.long_link = Some(until_nul(&self.meta(size)?).to_vec()),
                _ => return self.entry(&block, size, extended).map(Some),
            }
        }
    }

    /// Windows once an entry had records of it.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The next piece of the current entry's data; empty at its end.
    pub fn data(&mut self) -> Result<&[u8]> {
        self.data_upto(u64::MAX)
    }

    /// The next piece of the current entry's data, of at most `most` bytes; empty only at its end.
    pub fn data_upto(&mut self, most: u64) -> Result<&[u8]> {
        self.give_back();
        if self.left == 0 {
            return Ok(&[]);
        }
        if fill(&mut self.inner).map_err(Error::Source)?.is_empty() {
            return Err(self.truncated());
        }
        let available = fill(&mut self.inner).map_err(Error::Source)?;
        let n = available.len().min(usize::try_from(self.left.min(most)).unwrap_or(usize::MAX));
        self.lent = n;
        self.left -= n as u64;
        Ok(&available[..n])
    }

    /// All data of the current entry; only for sizes that were looked at.
    pub fn data_all(&mut self) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(usize::try_from(self.left).unwrap_or_default());
        loop {
            let piece = self.data()?;
            if piece.is_empty() {
                return Ok(out);
            }
            out.extend_from_slice(piece);
        }
    }

    /// The stream behind the archive, for what follows its end.
    pub fn into_inner(mut self) -> R {
        self.give_back();
        self.inner
    }

    fn give_back(&mut self) {
        self.inner.consume(self.lent);
        self.offset += self.lent as u64;
        self.lent = 0;
    }

    fn entry(&mut self, block: &[u8; 512], size: u64, extended: Extended) -> Result<Entry> {
        let header = tar::Header::from_byte_slice(block);
        let old = header.as_old();
        let format = Format::of(block);
        let mut path = until_nul(&old.name).to_vec();
        let prefix = match format {
            Format::Ustar => until_nul(&block[345..500]),
            // Two times come after a shorter prefix.
            Format::Star => until_nul(&block[345..476]),
            Format::Gnu | Format::V7 => &[],
        };
        if !prefix.is_empty() {
            path = [prefix, b"/", &path].concat();
        }
        let mut link = until_nul(&old.linkname).to_vec();
        let mut uid = self.number(&old.uid, "uid")?;
        let mut gid = self.number(&old.gid, "gid")?;
        let mode = self.number(&old.mode, "mode")?;
        let mut mtime = (self.signed(&old.mtime, "mtime")?, 0);
        let mut size = size;
        let (major, minor): (&[u8], &[u8]) = match format {
            Format::V7 => (&[], &[]),
            _ => (&block[329..337], &block[337..345]),
        };
        if let Some(long) = extended.long_path {
            path = long;
        }
        if let Some(long) = extended.long_link {
            link = long;
        }
        let mut xattrs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut sparse = SparseKeys::default();
        for (key, value) in extended.records {
            let number = |what: &str| pax::decimal(&value).ok_or_else(|| format!("PAX {what} is no number"));
            let outcome = match key.as_slice() {
                b"path" if !value.is_empty() => {
                    path = value;
                    Ok(())
                }
                b"linkpath" if !value.is_empty() => {
                    link = value;
                    Ok(())
                }
                b"size" if !value.is_empty() => number("size").map(|n| size = n),
                b"uid" if !value.is_empty() => number("uid").map(|n| uid = n),
                b"gid" if !value.is_empty() => number("gid").map(|n| gid = n),
                b"mtime" if !value.is_empty() => pax::parse_time(&value)
                    .map(|t| mtime = t)
                    .ok_or_else(|| "PAX mtime is no time".to_string()),
                key if key.starts_with(b"GNU.sparse.") => sparse.take(&key[11..], &value),
                key => {
                    if let Some(name) = key.strip_prefix(pax::XATTR)
                        && !name.is_empty()
                    {
                        // Of a repeated record the last one counts.
                        xattrs.retain(|(n, _)| n != name);
                        xattrs.push((name.to_vec(), value));
                    }
                    Ok(())
                }
            };
            outcome.map_err(|e| self.malformed(e))?;
        }
        let kind = match block[156] {
            b'0' | 0 | b'7' if path.last() == Some(&b'/') && block[156] == 0 => Kind::Dir,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Char { major: self.device(major)?, minor: self.device(minor)? },
            b'4' => Kind::Block { major: self.device(major)?, minor: self.device(minor)? },
            // A folder of an incremental GNU archive; its data are the names that were in it.
            b'5' | b'D' => Kind::Dir,
            b'6' => Kind::Fifo,
            other => {
                let reason = format!("type {:?} is not supported", char::from(other));
                return Err(Error::entry(&path, reason));
            }
        };
        // Sizes of entries without data mean nothing (as in Go: a hard link's is that of its target).
        self.left = if kind == Kind::File || block[156] == b'D' { size } else { 0 };
        self.padding = (BLOCK - self.left % BLOCK) % BLOCK;
        if self.left.checked_add(self.padding).is_none() {
            return Err(self.malformed("a size is out of range"));
        }
        let mut entry = Entry {
            path,
            link,
            mode: (mode & 0o7777) as u32,
            uid: self.id(uid, "uid")?,
            gid: self.id(gid, "gid")?,
            mtime,
            size: if kind == Kind::File { size } else { 0 },
            kind,
            xattrs,
            sparse: None,
        };
        if block[156] == b'S' {
            let (regions, size) = self.old_sparse(block)?;
            entry.size = size;
            entry.sparse = Some(regions);
        } else if entry.kind == Kind::File {
            self.pax_sparse(sparse, &mut entry)?;
        }
        if let Some(regions) = &entry.sparse {
            check_regions(regions, self.left, entry.size).map_err(|e| Error::entry(&entry.path, e))?;
        }
        Ok(entry)
    }

    /// The map of the old GNU form: four regions in the header, 21 in each block after it.
    fn old_sparse(&mut self, header: &[u8; 512]) -> Result<(Vec<(u64, u64)>, u64)> {
        let mut regions = Vec::new();
        let size = self.number(&header[483..495], "size of a sparse file")?;
        self.regions(&header[386..482], &mut regions)?;
        let mut more = header[482] != 0;
        while more {
            let mut block = [0; BLOCK as usize];
            if !self.block(&mut block)? {
                return Err(self.truncated());
            }
            self.regions(&block[..504], &mut regions)?;
            more = block[504] != 0;
        }
        Ok((regions, size))
    }

    fn regions(&self, raw: &[u8], into: &mut Vec<(u64, u64)>) -> Result<()> {
        for pair in raw.chunks_exact(24) {
            if pair[0] == 0 {
                break;
            }
            push_region(
                into,
                self.number(&pair[..12], "offset of a region")?,
                self.number(&pair[12..], "length of a region")?,
            )?;
        }
        Ok(())
    }

    /// The three PAX forms: 0.0 and 0.1 carry the map in records, 1.0 before the data.
    fn pax_sparse(&mut self, keys: SparseKeys, entry: &mut Entry) -> Result<()> {
        if let Some(name) = keys.name {
            entry.path = name;
        }
        match (keys.major, keys.minor) {
            (Some(1), Some(0)) => {
                let size = keys.size.ok_or_else(|| self.malformed("a sparse file without size"))?;
                entry.sparse = Some(self.sparse_prefix()?);
                entry.size = size;
            }
            (Some(0), Some(0 | 1)) | (None, None) if !keys.map.is_empty() || keys.listed => {
                let size = keys.size.ok_or_else(|| self.malformed("a sparse file without size"))?;
                if keys.half.is_some() {
                    return Err(self.malformed("a sparse map with an odd number of values"));
                }
                entry.sparse = Some(keys.map);
                entry.size = size;
            }
            (None | Some(0), _) => {}
            _ => return Err(self.malformed("a sparse file of an unknown version")),
        }
        Ok(())
    }

    /// The map of form 1.0: decimal lines at the start of the data, filled up to a block.
    fn sparse_prefix(&mut self) -> Result<Vec<(u64, u64)>> {
        let mut block = [0; BLOCK as usize];
        let mut at = block.len();
        let mut values: Vec<u64> = Vec::new();
        let mut wanted: Option<u64> = None;
        let mut digits = Vec::new();
        while wanted.is_none_or(|n| (values.len() as u64) < n * 2) {
            if at == block.len() {
                if self.left < BLOCK || !self.block(&mut block)? {
                    return Err(self.malformed("a sparse map that does not end"));
                }
                self.left -= BLOCK;
                at = 0;
            }
            let byte = block[at];
            at += 1;
            if byte != b'\n' {
                if digits.len() >= 20 {
                    return Err(self.malformed("a sparse map with a number that is too long"));
                }
                digits.push(byte);
                continue;
            }
            let value =
                pax::decimal(&digits).ok_or_else(|| self.malformed("a sparse map without numbers"))?;
            digits.clear();
            match wanted {
                None if value > MOST_REGIONS as u64 => {
                    return Err(Error::Limit {
                        what: "regions in a sparse file",
                        limit: MOST_REGIONS as u64,
                    });
                }
                None => wanted = Some(value),
                Some(_) => values.push(value),
            }
        }
        Ok(values.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }

    /// Read one block; `false` at a clean end of the stream.
    fn block(&mut self, block: &mut [u8; 512]) -> Result<bool> {
        let mut filled = 0;
        while filled < block.len() {
            let available = fill(&mut self.inner).map_err(Error::Source)?;
            if available.is_empty() {
                return if filled == 0 { Ok(false) } else { Err(self.truncated()) };
            }
            let n = available.len().min(block.len() - filled);
            block[filled..filled + n].copy_from_slice(&available[..n]);
            filled += n;
            self.inner.consume(n);
            self.offset += n as u64;
        }
        Ok(true)
    }

    /// The data of an extended header.
    fn meta(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > LONGEST_META {
            return Err(Error::Limit { what: "bytes in an extended header", limit: LONGEST_META });
        }
        self.left = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
        let out = self.data_all()?;
        self.skip_rest()?;
        Ok(out)
    }

    fn skip_rest(&mut self) -> Result<()> {
        while !self.data()?.is_empty() {}
        self.left = std::mem::take(&mut self.padding);
        while !self.data()?.is_empty() {}
        Ok(())
    }

    fn check_sum(&self, block: &[u8; 512]) -> Result<()> {
        let stored = self.number(&block[148..156], "checksum")?;
        let byte = |(i, b): (usize, &u8)| if (148..156).contains(&i) { b' ' } else { *b };
        let unsigned: u64 = block.iter().enumerate().map(|x| u64::from(byte(x))).sum();
        let signed: i64 = block.iter().enumerate().map(|x| i64::from(byte(x) as i8)).sum();
        if stored == unsigned || i64::try_from(stored) == Ok(signed) {
            Ok(())
        } else {
            Err(self.malformed("a header has a wrong checksum"))
        }
    }

    /// A numeric field that must not be negative.
    fn number(&self, field: &[u8], what: &str) -> Result<u64> {
        let n = self.signed(field, what)?;
        u64::try_from(n).map_err(|_| self.malformed(format!("the {what} is negative")))
    }

    /// A numeric field: octal text, or base 256 where the first bit is set.
    fn signed(&self, field: &[u8], what: &str) -> Result<i64> {
        let bad = || self.malformed(format!("the {what} is no number"));
        let Some(first) = field.first() else { return Err(bad()) };
        if first & 0x80 != 0 {
            let negative = first & 0x40 != 0;
            let mut value: i128 = if negative { -1 } else { 0 };
            for (i, b) in field.iter().enumerate() {
                let b = if i == 0 && !negative { b & 0x7f } else { *b };
                value = value.checked_mul(256).ok_or_else(bad)? | i128::from(b);
                if i64::try_from(value).is_err() {
                    return Err(self.malformed(format!("the {what} is out of range")));
                }
            }
            return i64::try_from(value).map_err(|_| bad());
        }
        let text: &[u8] = field.split(|b| *b == 0).next().unwrap_or_default().trim_ascii();
        let mut value: i64 = 0;
        for b in text {
            if !matches!(b, b'0'..=b'7') {
                return Err(bad());
            }
            value = value.checked_mul(8).and_then(|v| v.checked_add(i64::from(b - b'0'))).ok_or_else(bad)?;
        }
        Ok(value)
    }

    fn device(&self, field: &[u8]) -> Result<u32> {
        let n = self.number(field, "device number")?;
        u32::try_from(n).map_err(|_| self.malformed("a device number is out of range"))
    }

    /// Owners must fit, and -1 means "leave it" to the system call.
    fn id(&self, n: u64, what: &str) -> Result<u32> {
        match u32::try_from(n) {
            Ok(id) if id != u32::MAX => Ok(id),
            _ => Err(self.malformed(format!("the {what} {n} is out of range"))),
        }
    }

    fn malformed(&self, reason: impl Into<String>) -> Error {
        Error::Malformed { offset: self.offset, reason: reason.into() }
    }

    fn truncated(&self) -> Error {
        Error::Source(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("the archive ends in the middle, at byte {}", self.offset),
        ))
    }
}

/// Which fields a header block has. As in Go, whose packages read most layers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    V7,
    Ustar,
    Star,
    Gnu,
}

impl Format {
    fn of(block: &[u8; 512]) -> Format {
        match &block[257..265] {
            b"ustar  \0" => Format::Gnu,
            magic if magic.starts_with(b"ustar\0") && block.ends_with(b"tar\0") => Format::Star,
            magic if magic.starts_with(b"ustar\0") => Format::Ustar,
            _ => Format::V7,
        }
    }
}

/// Headers that go before the one they extend.
#[derive(Default)]
struct Extended {
    records: Vec<(Vec<u8>, Vec<u8>)>,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extended {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.long_path.is_none() && self.long_link.is_none()
    }
}

/// `GNU.sparse.*` records.
#[derive(Default)]
struct SparseKeys {
    major: Option<u64>,
    minor: Option<u64>,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    map: Vec<(u64, u64)>,
    /// An offset whose length is still to come.
    half: Option<u64>,
    /// Whether there was a map at all: an empty one is a file of zeros.
    listed: bool,
}

impl SparseKeys {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let number = || pax::decimal(value).ok_or_else(|| "a sparse record is no number".to_string());
        match key {
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"name" if value.contains(&0) => return Err("a name has a NUL".to_string()),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"offset" => {
                self.half = Some(number()?);
                self.listed = true;
            }
            b"numbytes" => match self.half.take() {
                Some(offset) => push_region(&mut self.map, offset, number()?).map_err(|e| e.to_string())?,
                None => return Err("a sparse region has no offset".to_string()),
            },
            b"map" => {
                self.listed = true;
                let mut values = value.split(|b| *b == b',').filter(|v| !v.is_empty());
                while let Some(offset) = values.next() {
                    let pair = pax::decimal(offset).zip(values.next().and_then(pax::decimal));
                    let Some((offset, length)) = pair else {
                        return Err("a sparse map is malformed".to_string());
                    };
                    push_region(&mut self.map, offset, length).map_err(|e| e.to_string())?;
                }
            }
            b"numblocks" => {
                number()?;
                self.listed = true;
            }
            _ => {}
        }
        Ok(())
    }
}

fn push_region(into: &mut Vec<(u64, u64)>, offset: u64, length: u64) -> Result<()> {
    if into.len() >= MOST_REGIONS {
        return Err(Error::Limit { what: "regions in a sparse file", limit: MOST_REGIONS as u64 });
    }
    into.push((offset, length));
    Ok(())
}

/// Regions must be in order, apart from each other, inside the file, and as long as the data.
fn check_regions(regions: &[(u64, u64)], data: u64, size: u64) -> Result<(), &'static str> {
    let mut end = 0;
    let mut total: u64 = 0;
    for (offset, length) in regions {
        if *offset < end {
            return Err("its sparse map overlaps or is not in order");
        }
        end = offset.checked_add(*length).ok_or("its sparse map is out of range")?;
        total = total.checked_add(*length).ok_or("its sparse map is out of range")?;
    }
    if end > size || i64::try_from(size).is_err() {
        return Err("its sparse map goes beyond its end");
    }
    if total != data {
        return Err("its sparse map and its data differ in length");
    }
    Ok(())
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

fn fill<R: BufRead>(inner: &mut R) -> io::Result<&[u8]> {
    loop {
        match inner.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
            Ok(_) => break,
        }
    }
    inner.fill_buf()
}
