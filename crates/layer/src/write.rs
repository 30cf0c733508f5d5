//! Writing tar headers: POSIX ustar where everything fits, PAX records where not.
//!
//! The bytes depend on the entry alone: user and group names are empty, no access times are kept,
//! fields have one form each.

use crate::pack::Form;
use crate::pax;
use crate::read::{Entry, Kind};
use crate::stream::ChunkWriter;
use crate::{Error, Result, windows};

/// Largest number in a 12-digit and in an 8-digit octal field (one digit is the terminator).
const OCTAL_12: u64 = 0o77_777_777_777;
const OCTAL_8: u64 = 0o7_777_777;

/// Write the header of `entry`, preceded by an extended one where it needs that. Names must be
/// normalized; a folder's gets its slash here.
pub fn header(out: &mut ChunkWriter, entry: &Entry, form: Form) -> Result<()> {
    let mut path = entry.path.clone();
    if entry.kind == Kind::Dir {
        path.push(b'/');
    }
    let mut own = Vec::new();
    if form == Form::Windows {
        windows::records(&mut own, entry);
    }
    header_with(out, &path, entry, &own)
}

/// As [`header`], under the name `path` as it is, and with the extended records `own` after those that it needs.
pub fn header_with(out: &mut ChunkWriter, path: &[u8], entry: &Entry, own: &[u8]) -> Result<()> {
    let mut records = Vec::new();
    let mut header = tar::Header::new_ustar();
    let (name, prefix) = match fit_path(path) {
        Some(parts) => parts,
        None => {
            pax::push(&mut records, b"path", path);
            (&path[..path.len().min(100)], &b""[..])
        }
    };
    if entry.link.len() > 100 || !entry.link.is_ascii() {
        pax::push(&mut records, b"linkpath", &entry.link);
    }
    let (seconds, nanos) = entry.mtime;
    if nanos != 0 || !(0..=OCTAL_12 as i64).contains(&seconds) {
        pax::push(&mut records, b"mtime", pax::format_time(seconds, nanos).as_bytes());
    }
    let size = if entry.kind == Kind::File { entry.size } else { 0 };
    for (key, value, most) in [
        ("size", size, OCTAL_12),
        ("uid", u64::from(entry.uid), OCTAL_8),
        ("gid", u64::from(entry.gid), OCTAL_8),
    ] {
        if value > most {
            pax::push(&mut records, key.as_bytes(), value.to_string().as_bytes());
        }
    }
    for (name, value) in &entry.xattrs {
        pax::push(&mut records, &[pax::XATTR, name].concat(), value);
    }
    records.extend_from_slice(own);
    if !records.is_empty() {
        extended(out, path, &records)?;
    }
    let ustar = header.as_ustar_mut().ok_or(Error::Internal("a ustar header is none"))?;
    copy(&mut ustar.name, name);
    copy(&mut ustar.prefix, prefix);
    let link = entry.link.as_slice();
    copy(&mut ustar.linkname, &link[..link.len().min(100)]);
    octal(&mut ustar.mode, u64::from(entry.mode & 0o7777));
    octal(&mut ustar.uid, fitting(u64::from(entry.uid), OCTAL_8));
    octal(&mut ustar.gid, fitting(u64::from(entry.gid), OCTAL_8));
    octal(&mut ustar.size, fitting(size, OCTAL_12));
    octal(&mut ustar.mtime, u64::try_from(seconds).map_or(0, |s| fitting(s, OCTAL_12)));
    let (flag, major, minor) = match entry.kind {
        Kind::File => (b'0', 0, 0),
        Kind::HardLink => (b'1', 0, 0),
        Kind::Symlink => (b'2', 0, 0),
        Kind::Char { major, minor } => (b'3', major, minor),
        Kind::Block { major, minor } => (b'4', major, minor),
        Kind::Dir => (b'5', 0, 0),
        Kind::Fifo => (b'6', 0, 0),
    };
    ustar.typeflag[0] = flag;
    for (field, number) in [(&mut ustar.dev_major, major), (&mut ustar.dev_minor, minor)] {
        if u64::from(number) > OCTAL_8 {
            return Err(Error::entry(&entry.path, "its device number does not fit into a tar"));
        }
        octal(field, u64::from(number));
    }
    finish(out, &mut header)
}

/// End of the archive: two blocks of zeros.
pub fn end(out: &mut ChunkWriter) -> Result<()> {
    out.zeros(1024)
}

/// Fill up the last block of data.
pub fn pad(out: &mut ChunkWriter, size: u64) -> Result<()> {
    out.zeros((512 - size % 512) % 512)
}

fn extended(out: &mut ChunkWriter, path: &[u8], records: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    let ustar = header.as_ustar_mut().ok_or(Error::Internal("a ustar header is none"))?;
    copy(&mut ustar.name, &pax::header_name(path));
    octal(&mut ustar.mode, 0);
    octal(&mut ustar.uid, 0);
    octal(&mut ustar.gid, 0);
    octal(&mut ustar.size, records.len() as u64);
    octal(&mut ustar.mtime, 0);
    octal(&mut ustar.dev_major, 0);
    octal(&mut ustar.dev_minor, 0);
    ustar.typeflag[0] = b'x';
    finish(out, &mut header)?;
    out.put(records)?;
    pad(out, records.len() as u64)
}

fn finish(out: &mut ChunkWriter, header: &mut tar::Header) -> Result<()> {
    // Six digits, NUL, space: the form that all writers agree on.
    let field = &mut header.as_old_mut().cksum;
    field.fill(b' ');
    let sum: u64 = header.as_bytes().iter().map(|b| u64::from(*b)).sum();
    octal(&mut header.as_old_mut().cksum[..7], sum);
    out.put(header.as_bytes())
}

/// Name and prefix fields for a path, `None` where it needs a record: too long, or not ASCII, which
/// a ustar header gives no encoding for.
fn fit_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if !path.is_ascii() {
        return None;
    }
    if path.len() <= 100 {
        return Some((path, b""));
    }
    // Split at the last slash that leaves a short enough, non-empty name.
    let body = path.strip_suffix(b"/").unwrap_or(path);
    let at = body.iter().take(156).rposition(|b| *b == b'/')?;
    let (prefix, name) = (&path[..at], &path[at + 1..]);
    (name.len() <= 100 && !prefix.is_empty()).then_some((name, prefix))
}

fn fitting(value: u64, most: u64) -> u64 {
    if value > most { 0 } else { value }
}

fn copy(field: &mut [u8], value: &[u8]) {
    let n = value.len().min(field.len());
    field[..n].copy_from_slice(&value[..n]);
}

/// Digits that fill the field but for the terminating NUL.
fn octal(field: &mut [u8], mut value: u64) {
    let digits = field.len() - 1;
    for slot in field[..digits].iter_mut().rev() {
        *slot = b'0' + (value & 7) as u8;
        value >>= 3;
    }
    field[digits] = 0;
}
