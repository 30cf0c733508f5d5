//! Reparse points: where links and mount points lead (MS-FSCC 2.1.2.4 and 2.1.2.5).

use crate::error::malformed;
use crate::header::{Fields, utf16};
use crate::{Error, Result};

const SYMLINK: u32 = 0xa000_000c;
const MOUNT_POINT: u32 = 0xa000_0003;

/// Most bytes of a reparse point, which is what NTFS allows.
pub const MOST: usize = 16 << 10;

/// Where a reparse point leads, as people on Windows write it: `C:\x`, `..\x`, `\\server\share`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Symlink(String),
    MountPoint(String),
    /// A tag that means something else: a cloud file, a program of the store.
    Other,
}

impl Target {
    /// From the tag and what follows the header of eight bytes in the file system.
    pub fn parse(tag: u32, data: &[u8]) -> Result<Target> {
        let header = match tag {
            SYMLINK => 12,
            MOUNT_POINT => 8,
            _ => return Ok(Target::Other),
        };
        let bad = |reason| malformed("reparse point", reason);
        let fields = Fields(data);
        let buffer = data.get(header..).ok_or_else(|| bad("it is too short"))?;
        let name = |at: usize| -> Result<String, Error> {
            let (from, length) = (usize::from(fields.u16(at)), usize::from(fields.u16(at + 2)));
            let bytes = buffer.get(from..from + length).filter(|b| b.len() % 2 == 0);
            let bytes = bytes.ok_or_else(|| bad("a name is outside of it"))?;
            utf16(bytes).filter(|n| !n.contains('\0')).ok_or_else(|| bad("a name is not UTF-16"))
        };
        let (stored, shown) = (name(0)?, name(4)?);
        // What people see may be left out.
        let target = if shown.is_empty() { as_people_write(&stored) } else { shown };
        if target.is_empty() {
            return Err(bad("it leads nowhere"));
        }
        Ok(if tag == SYMLINK { Target::Symlink(target) } else { Target::MountPoint(target) })
    }
}

/// A path of the kernel's as one of programs.
fn as_people_write(stored: &str) -> String {
    let Some(path) = stored.strip_prefix(r"\??\") else { return stored.to_string() };
    match path.strip_prefix(r"UNC\") {
        Some(share) => format!(r"\\{share}"),
        None if path.as_bytes().get(1) == Some(&b':') => path.to_string(),
        None => format!(r"\\?\{path}"),
    }
}

/// An absolute target on some drive as one on drive C, where the file says that targets are told from the root of the
/// image. Those on no drive stay.
pub fn on_drive_c(target: &str) -> String {
    let (prefix, path) = match target.strip_prefix(r"\\?\") {
        Some(path) => (r"\\?\", path),
        None => ("", target),
    };
    match path.as_bytes() {
        [letter, b':', ..] if letter.is_ascii_alphabetic() => format!("{prefix}C{}", &path[1..]),
        _ => target.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(header: usize, stored: &str, shown: &str) -> Vec<u8> {
        let utf16 = |t: &str| t.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let (stored, shown) = (utf16(stored), utf16(shown));
        let mut data = Vec::new();
        for n in [shown.len(), stored.len(), 0, shown.len()] {
            data.extend((n as u16).to_le_bytes());
        }
        data.resize(header, 0);
        data.extend([shown, stored].concat());
        data
    }

    #[test]
    fn targets_are_what_people_see() {
        for (stored, shown, want) in [
            (r"\??\C:\Users", r"C:\Users", r"C:\Users"),
            (r"\??\C:\Users", "", r"C:\Users"),
            (r"\??\UNC\server\share", "", r"\\server\share"),
            (r"\??\Volume{1}\", "", r"\\?\Volume{1}\"),
            (r"..\x", "", r"..\x"),
        ] {
            let data = point(12, stored, shown);
            assert_eq!(Target::parse(SYMLINK, &data).unwrap(), Target::Symlink(want.into()));
            let data = point(8, stored, shown);
            assert_eq!(Target::parse(MOUNT_POINT, &data).unwrap(), Target::MountPoint(want.into()));
            for n in 0..data.len() {
                assert!(Target::parse(MOUNT_POINT, &data[..n]).is_err(), "{n} bytes of {stored}");
            }
        }
        assert_eq!(Target::parse(0x8000_0017, &[]).unwrap(), Target::Other);
        assert!(Target::parse(SYMLINK, &point(12, "", "")).is_err());
    }

    #[test]
    fn drives_become_c() {
        for (target, want) in [
            (r"d:\x", r"C:\x"),
            (r"\\?\D:\x", r"\\?\C:\x"),
            (r"..\x", r"..\x"),
            (r"\\server\x", r"\\server\x"),
            (r"\\?\Volume{1}\", r"\\?\Volume{1}\"),
        ] {
            assert_eq!(on_drive_c(target), want);
        }
    }
}
