//! Layers of Windows images: files below `Files/`, registry changes below `Hives/`, and what NTFS keeps of a file in
//! PAX records (OCI image spec, layer.md, "Platform-specific attributes"; hcsshim's reader; BuildKit writes the same).
//!
//! Deliberately not here: which names Windows allows (crate `oci`), and registry changes, which no step makes on Linux.

use crate::known::{KnownEntry, KnownKind};
use crate::pax;
use crate::read::{Entry, Kind};
use base64::Engine;
use std::sync::LazyLock;

/// The folder of a layer that is drive C.
pub(crate) const FILES: &[u8] = b"Files";
/// The folder for changes of the registry. Every layer has it, and here nothing is in it.
pub(crate) const HIVES: &[u8] = b"Hives";
/// What the keys of Windows' own records begin with.
pub(crate) const PREFIX: &[u8] = b"MSWINDOWS.";

const CREATION_TIME: &[u8] = b"LIBARCHIVE.creationtime";
const ATTRIBUTES: &[u8] = b"MSWINDOWS.fileattr";
const DESCRIPTOR: &[u8] = b"MSWINDOWS.rawsd";
const MOUNT_POINT: &[u8] = b"MSWINDOWS.mountpoint";

/// `FILE_ATTRIBUTE_DIRECTORY` and `FILE_ATTRIBUTE_ARCHIVE`, as decimal text.
const FOLDER: &[u8] = b"16";
const ARCHIVE: &[u8] = b"32";

/// What goes into the extended header of one entry, in the order of the keys.
pub(crate) fn records(out: &mut Vec<u8>, entry: &Entry) {
    // Bases have descriptors of their own for these two, and whiteouts are no files.
    if entry.path == FILES || entry.path == HIVES {
        return pax::push(out, ATTRIBUTES, FOLDER);
    }
    if entry.path.rsplit(|b| *b == b'/').next().is_some_and(|name| name.starts_with(b".wh.")) {
        return;
    }
    let (seconds, nanos) = entry.mtime;
    pax::push(out, CREATION_TIME, pax::format_time(seconds, nanos).as_bytes());
    let (attributes, descriptor) = match entry.kind {
        Kind::Dir => (FOLDER, &*OF_FOLDERS),
        Kind::File => (ARCHIVE, &*OF_FILES),
        // A link has what its reader gives to reparse points; another name of a file has what the file has.
        _ => return,
    };
    pax::push(out, ATTRIBUTES, attributes);
    pax::push(out, DESCRIPTOR, descriptor.as_bytes());
}

/// What goes into the extended header of an entry whose attributes, times and descriptor are known, in the same order.
pub(crate) fn known_records(out: &mut Vec<u8>, entry: &KnownEntry<'_>) {
    // Another name of a file has what the file has, and a stream is part of it.
    if matches!(entry.kind, KnownKind::HardLink { .. } | KnownKind::Stream { .. }) {
        return;
    }
    let (seconds, nanos) = entry.created;
    pax::push(out, CREATION_TIME, pax::format_time(seconds, nanos).as_bytes());
    pax::push(out, ATTRIBUTES, entry.attributes.to_string().as_bytes());
    if let KnownKind::MountPoint { .. } = entry.kind {
        pax::push(out, MOUNT_POINT, b"1");
    }
    if let Some(descriptor) = entry.descriptor {
        let text = base64::engine::general_purpose::STANDARD.encode(descriptor);
        pax::push(out, DESCRIPTOR, text.as_bytes());
    }
}

/// What a new folder in C:\ gets: administrators and the system may do anything, users may read, and make files and
/// folders, which are then theirs.
///
/// `O:BAG:SYD:(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)(A;;FA;;;BA)(A;OICIIO;GA;;;CO)(A;OICI;0x1200a9;;;BU)(A;CI;LC;;;BU)(A;CI;DC;;;BU)`
static OF_FOLDERS: LazyLock<String> = LazyLock::new(|| {
    descriptor(&[
        (OBJECTS | CONTAINERS, ALL, ADMINISTRATORS),
        (OBJECTS | CONTAINERS, ALL, SYSTEM),
        (0, ALL, ADMINISTRATORS),
        (OBJECTS | CONTAINERS | INHERIT_ONLY, GENERIC_ALL, CREATOR),
        (OBJECTS | CONTAINERS, READ_AND_EXECUTE, USERS),
        (CONTAINERS, ADD_FOLDER, USERS),
        (CONTAINERS, ADD_FILE, USERS),
    ])
});

/// What a new file in C:\ gets: administrators and the system may do anything, users may read and run it.
///
/// `O:BAG:SYD:(A;;FA;;;BA)(A;;FA;;;SY)(A;;0x1200a9;;;BU)`
static OF_FILES: LazyLock<String> =
    LazyLock::new(|| descriptor(&[(0, ALL, ADMINISTRATORS), (0, ALL, SYSTEM), (0, READ_AND_EXECUTE, USERS)]));

/// Authority and the numbers after it: S-1-5-32-544 and so on.
type Sid = (u8, &'static [u32]);
const ADMINISTRATORS: Sid = (5, &[32, 544]);
const USERS: Sid = (5, &[32, 545]);
const SYSTEM: Sid = (5, &[18]);
const CREATOR: Sid = (3, &[0]);

/// Flags of an entry of an ACL: what inherits it.
const OBJECTS: u8 = 1;
const CONTAINERS: u8 = 2;
const INHERIT_ONLY: u8 = 8;

const ALL: u32 = 0x001f_01ff;
const GENERIC_ALL: u32 = 0x1000_0000;
const READ_AND_EXECUTE: u32 = 0x0012_00a9;
const ADD_FILE: u32 = 2;
const ADD_FOLDER: u32 = 4;

/// A self-relative security descriptor (MS-DTYP 2.4.6) that belongs to the administrators and the group SYSTEM, with
/// a DACL that allows each of `allowed` (flags, access, who), in base64.
fn descriptor(allowed: &[(u8, u32, Sid)]) -> String {
    let mut entries = Vec::new();
    for (flags, access, who) in allowed {
        let sid = sid(*who);
        entries.extend([0, *flags]);
        entries.extend((sid.len() as u16 + 8).to_le_bytes());
        entries.extend(access.to_le_bytes());
        entries.extend(sid);
    }
    let (owner, group) = (sid(ADMINISTRATORS), sid(SYSTEM));
    let after_owner = 20 + owner.len() as u32;
    // Revision 1; a DACL is present, self-relative.
    let mut out = vec![1, 0, 0x04, 0x80];
    for offset in [20, after_owner, 0, after_owner + group.len() as u32] {
        out.extend(offset.to_le_bytes());
    }
    out.extend(owner);
    out.extend(group);
    out.extend([2, 0]);
    out.extend((entries.len() as u16 + 8).to_le_bytes());
    out.extend((allowed.len() as u16).to_le_bytes());
    out.extend([0, 0]);
    out.extend(entries);
    base64::engine::general_purpose::STANDARD.encode(out)
}

fn sid((authority, numbers): Sid) -> Vec<u8> {
    let mut out = vec![1, numbers.len() as u8, 0, 0, 0, 0, 0, authority];
    out.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The descriptor as SDDL, read back from its bytes.
    fn sddl(text: &str) -> String {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        let long = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let short = |at: usize| usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()));
        let who = |at: usize| {
            let numbers: Vec<u32> = (0..usize::from(bytes[at + 1])).map(|i| long(at + 8 + 4 * i)).collect();
            match (bytes[at + 7], numbers.as_slice()) {
                (5, [32, 544]) => "BA",
                (5, [32, 545]) => "BU",
                (5, [18]) => "SY",
                (3, [0]) => "CO",
                _ => "?",
            }
        };
        assert_eq!((&bytes[..4], long(12)), (&[1, 0, 4, 0x80][..], 0));
        let mut out = format!("O:{}G:{}D:", who(long(4) as usize), who(long(8) as usize));
        let acl = long(16) as usize;
        assert_eq!(acl + short(acl + 2), bytes.len());
        let mut at = acl + 8;
        for _ in 0..short(acl + 4) {
            let flags: String = [(1, "OI"), (2, "CI"), (8, "IO")]
                .iter()
                .filter(|(bit, _)| bytes[at + 1] & bit != 0)
                .map(|(_, name)| *name)
                .collect();
            let access = match long(at + 4) {
                ALL => "FA".into(),
                GENERIC_ALL => "GA".into(),
                ADD_FOLDER => "LC".into(),
                ADD_FILE => "DC".into(),
                other => format!("{other:#x}"),
            };
            out.push_str(&format!("(A;{flags};{access};;;{})", who(at + 8)));
            at += short(at + 2);
        }
        assert_eq!(at, bytes.len());
        out
    }

    #[test]
    fn descriptors_say_what_their_comments_say() {
        assert_eq!(
            sddl(&OF_FOLDERS),
            "O:BAG:SYD:(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)(A;;FA;;;BA)(A;OICIIO;GA;;;CO)(A;OICI;0x1200a9;;;BU)\
             (A;CI;LC;;;BU)(A;CI;DC;;;BU)"
        );
        assert_eq!(sddl(&OF_FILES), "O:BAG:SYD:(A;;FA;;;BA)(A;;FA;;;SY)(A;;0x1200a9;;;BU)");
    }
}
