//! Package contents into the new root, as dpkg would lay them out.
//!
//! A folder that is there already, also by a link (`/bin`), stays as it is. Owners are the numbers in the
//! archive: packages only hold statically assigned ones. Owners that this process may not set, and the
//! modes that depend on them, are reported and set later by a program inside the new root.
//!
//! Refused: device nodes, names with `..`, and anything that is not a file, folder, link or FIFO.

use crate::archive::Deb;
use crate::error::{Error, Result};
use crate::root::{Root, clean, create, times};
use md5::{Digest as _, Md5};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, Uid};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::io::{self, Read, Write};

/// Owner, mode and time of something in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
}

/// An owner that could not be set from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owed {
    pub path: Vec<u8>,
    pub meta: Meta,
    pub is_link: bool,
}

/// What one package put into the root.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    /// Every path in the archive's order, also those that were left out; the root itself is empty.
    pub paths: Vec<Vec<u8>>,
    /// Paths that are no folders.
    pub files: BTreeSet<Vec<u8>>,
    /// Folders, whose owners and modes are set when all packages are there.
    pub folders: BTreeMap<Vec<u8>, Meta>,
    /// MD5 of each configuration file, as dpkg's database keeps it.
    pub conffiles: BTreeMap<Vec<u8>, String>,
    pub owed: Vec<Owed>,
    /// Bytes of regular files.
    pub bytes: u64,
}

/// Decides which paths (relative, without leading `/`) are written.
pub(crate) type Filter = dyn Fn(&[u8]) -> bool + Sync;

struct Place<'r> {
    root: &'r Root,
    /// The folder of the last entry: most entries share it with the one before.
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Place<'_> {
    fn enter(&mut self, path: &[u8]) -> io::Result<(&OwnedFd, CString)> {
        let (above, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(n) => (&path[..n], &path[n + 1..]),
            None => (&b""[..], path),
        };
        if self.last.as_ref().is_none_or(|(known, _)| known != above) {
            self.last = Some((above.to_vec(), self.root.make_folder(above)?));
        }
        match &self.last {
            Some((_, handle)) => Ok((handle, CString::new(name)?)),
            None => Err(Errno::NOENT.into()),
        }
    }
}

/// Removes what stands in the way, never a folder.
fn replacing(folder: &OwnedFd, name: &CString, make: impl Fn() -> rustix::io::Result<()>) -> io::Result<()> {
    for _ in 0..8 {
        match make() {
            Err(Errno::EXIST) => match fs::unlinkat(folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(e.into()),
            },
            other => return Ok(other?),
        }
    }
    Err(Errno::EXIST.into())
}

/// Whether the owner is set; `false` if this process may not.
pub(crate) fn own(result: rustix::io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        // EINVAL: the id is not mapped in this user namespace.
        Err(Errno::PERM | Errno::INVAL) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn ids(meta: &Meta) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))
}

/// Unpacks the data of one package. Several packages may be unpacked at the same time.
pub(crate) fn unpack(
    root: &Root,
    deb: &Deb,
    conffiles: &BTreeSet<Vec<u8>>,
    keep: &Filter,
) -> Result<Unpacked> {
    let damaged = |e: io::Error| deb.damaged(e.to_string());
    let mut done = Unpacked::default();
    let mut place = Place { root, last: None };
    let mut archive = deb.data()?;
    let mut buffer = vec![0; 128 << 10];
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue;
        }
        let raw = entry.path_bytes().into_owned();
        let path = clean(&raw).ok_or_else(|| {
            deb.damaged(format!(
                "its path `{}` leads out of the root",
                String::from_utf8_lossy(&raw).escape_debug()
            ))
        })?;
        let header = entry.header();
        let id =
            |n: io::Result<u64>| n.and_then(|n| u32::try_from(n).map_err(io::Error::other)).map_err(damaged);
        let meta = Meta {
            mode: header.mode().map_err(damaged)? & 0o7777,
            uid: id(header.uid())?,
            gid: id(header.gid())?,
            mtime: header.mtime().map_err(damaged)?,
        };
        done.paths.push(path.clone());
        let failed = |e: io::Error| Error::Io { action: "unpack", path: root.show(&path), source: e };
        if kind.is_dir() {
            if keep(&path) {
                // A shared folder of several packages: whoever comes first makes it.
                root.make_folder(&path).map_err(failed)?;
            }
            done.folders.insert(path, meta);
            continue;
        }
        if path.is_empty() {
            return Err(deb.damaged("its root is not a folder"));
        }
        done.files.insert(path.clone());
        if !keep(&path) {
            continue;
        }
        if kind.is_symlink() {
            let target =
                entry.link_name_bytes().ok_or_else(|| deb.damaged("a link without target"))?.into_owned();
            let target = CString::new(target).map_err(|_| deb.damaged("a link's target has a NUL"))?;
            let (folder, name) = place.enter(&path).map_err(failed)?;
            replacing(folder, &name, || fs::symlinkat(&target, folder, &name)).map_err(failed)?;
            let (uid, gid) = ids(&meta);
            if !own(fs::chownat(folder, &name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)).map_err(failed)? {
                done.owed.push(Owed { path: path.clone(), meta, is_link: true });
            }
            fs::utimensat(folder, &name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| failed(e.into()))?;
        } else if kind.is_hard_link() {
            let target = entry.link_name_bytes().ok_or_else(|| deb.damaged("a link without target"))?;
            let target = clean(&target).ok_or_else(|| deb.damaged("a hard link leads out of the root"))?;
            let (from, from_name) = root.parent(&target).map_err(failed)?;
            let from_name = CString::new(from_name).map_err(|e| failed(e.into()))?;
            let (folder, name) = place.enter(&path).map_err(failed)?;
            replacing(folder, &name, || fs::linkat(&from, &from_name, folder, &name, AtFlags::empty()))
                .map_err(failed)?;
        } else if kind.is_fifo() {
            let (folder, name) = place.enter(&path).map_err(failed)?;
            replacing(folder, &name, || {
                fs::mknodat(folder, &name, FileType::Fifo, Mode::from_raw_mode(meta.mode), 0)
            })
            .map_err(failed)?;
            let (uid, gid) = ids(&meta);
            if !own(fs::chownat(folder, &name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)).map_err(failed)? {
                done.owed.push(Owed { path: path.clone(), meta, is_link: false });
            }
        } else if kind.is_file() || kind.is_contiguous() {
            let (folder, name) = place.enter(&path).map_err(failed)?;
            let mut file = create(folder.as_fd(), name.as_bytes()).map_err(failed)?;
            let mut hash = conffiles.contains(&path).then(Md5::new);
            loop {
                let n = match entry.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => return Err(damaged(e)),
                };
                if let Some(hash) = &mut hash {
                    hash.update(&buffer[..n]);
                }
                file.write_all(&buffer[..n]).map_err(failed)?;
                done.bytes += n as u64;
            }
            if let Some(hash) = hash {
                done.conffiles
                    .insert(path.clone(), hash.finalize().iter().map(|b| format!("{b:02x}")).collect());
            }
            let (uid, gid) = ids(&meta);
            // The mode after the owner: a change of owner takes setuid bits away.
            if !own(fs::fchown(&file, uid, gid)).map_err(failed)? {
                done.owed.push(Owed { path: path.clone(), meta, is_link: false });
            }
            fs::fchmod(&file, Mode::from_raw_mode(meta.mode)).map_err(|e| failed(e.into()))?;
            fs::futimens(&file, &times(meta.mtime)).map_err(|e| failed(e.into()))?;
        } else {
            return Err(deb.damaged(format!(
                "`{}` is a device node or of an unknown kind",
                String::from_utf8_lossy(&path).escape_debug()
            )));
        }
    }
    Ok(done)
}

/// Gives folders their owners and modes, deepest first. What is a link in the root is left alone.
pub(crate) fn settle_folders(root: &Root, folders: &BTreeMap<Vec<u8>, Meta>) -> Result<Vec<Owed>> {
    let mut owed = Vec::new();
    for (path, meta) in folders.iter().rev() {
        let failed =
            |e: io::Error| Error::Io { action: "set the owner of", path: root.show(path), source: e };
        let (folder, name) = if path.is_empty() {
            (root.folder(b"").map_err(failed)?, &b"."[..])
        } else {
            root.parent(path).map_err(failed)?
        };
        let name = CString::new(name).map_err(|e| failed(e.into()))?;
        let stat = match fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(failed(e.into())),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            continue;
        }
        let (uid, gid) = ids(meta);
        if !own(fs::chownat(&folder, &name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)).map_err(failed)? {
            owed.push(Owed { path: path.clone(), meta: *meta, is_link: false });
        }
        fs::chmodat(&folder, &name, Mode::from_raw_mode(meta.mode), AtFlags::empty())
            .map_err(|e| failed(e.into()))?;
        fs::utimensat(&folder, &name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| failed(e.into()))?;
    }
    Ok(owed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::ar;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;
    use tar::EntryType;

    /// A tar with raw names, which the builder's checks would refuse.
    fn tar(entries: &[(&str, EntryType, &str, u32)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content, mode) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            header.set_mtime(1_000_000);
            header.set_uid(0);
            header.set_gid(0);
            let body = if kind.is_file() { content.as_bytes() } else { b"" };
            if !kind.is_file() {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_size(body.len() as u64);
            header.set_cksum();
            builder.append(&header, body).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn unpack_tar(root: &Path, tar: &[u8]) -> Result<Unpacked> {
        let temp = tempfile::NamedTempFile::new().unwrap();
        let deb = ar(&[("debian-binary", b"2.0\n"), ("control.tar", b""), ("data.tar", tar)]);
        std::fs::write(temp.path(), deb).unwrap();
        let deb = Deb::open(temp.path(), "x.deb").unwrap();
        let conffiles = BTreeSet::from([b"etc/conf".to_vec()]);
        let done = unpack(&Root::open(root).unwrap(), &deb, &conffiles, &|path| path != b"left/out")?;
        settle_folders(&Root::open(root).unwrap(), &done.folders)?;
        Ok(done)
    }

    const FILE: EntryType = EntryType::Regular;
    const LINK: EntryType = EntryType::Symlink;
    const HARD: EntryType = EntryType::Link;
    const DIR: EntryType = EntryType::Directory;

    #[test]
    fn contents_are_laid_out_as_dpkg_does() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
        std::os::unix::fs::symlink("usr/bin", dir.path().join("bin")).unwrap();
        let done = unpack_tar(
            dir.path(),
            &tar(&[
                ("./", DIR, "", 0o755),
                ("./bin/", DIR, "", 0o700),
                ("./bin/tool", FILE, "x", 0o4755),
                ("./bin/same", HARD, "./bin/tool", 0o755),
                ("./bin/name", LINK, "tool", 0o777),
                ("./etc/conf", FILE, "hello", 0o644),
                ("./left/out", FILE, "x", 0o644),
                ("./private/", DIR, "", 0o700),
            ]),
        )
        .unwrap();
        let meta = std::fs::metadata(dir.path().join("usr/bin/tool")).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.nlink(), meta.mtime()), (0o4755, 2, 1_000_000));
        // The folder behind the link keeps its mode.
        assert_eq!(std::fs::metadata(dir.path().join("usr/bin")).unwrap().mode() & 0o7777, 0o755);
        assert!(dir.path().join("bin").is_symlink());
        assert_eq!(std::fs::metadata(dir.path().join("private")).unwrap().mode() & 0o7777, 0o700);
        assert!(!dir.path().join("left/out").exists());
        assert_eq!(done.paths.len(), 8);
        assert_eq!(done.conffiles[&b"etc/conf"[..]], "5d41402abc4b2a76b9719d911017c592");
    }

    #[test]
    fn nothing_gets_out() {
        let outer = tempfile::tempdir().unwrap();
        let canary = outer.path().join("canary");
        std::fs::write(&canary, "old").unwrap();
        let outside = String::from_utf8(outer.path().as_os_str().as_bytes().to_vec()).unwrap();
        let through = format!("{outside}/canary");
        let attacks: &[&[(&str, EntryType, &str, u32)]] = &[
            &[("../canary", FILE, "new", 0o777)],
            &[("a/../../canary", FILE, "new", 0o777)],
            &[("l", LINK, &outside, 0o777), ("l/canary", FILE, "new", 0o777)],
            &[("l", LINK, "..", 0o777), ("l/canary", FILE, "new", 0o777)],
            &[("l", LINK, "../../../../../..", 0o777), ("l/canary", FILE, "new", 0o777)],
            &[("l", LINK, &through, 0o777), ("l", FILE, "new", 0o777)],
            &[("l", LINK, &outside, 0o777), ("l", DIR, "", 0o700)],
            &[("h", HARD, "../canary", 0o644), ("h", FILE, "new", 0o644)],
            &[("h", HARD, &through, 0o644), ("h", FILE, "new", 0o644)],
            &[("l", LINK, &outside, 0o777), ("h", HARD, "l/canary", 0o644), ("h", FILE, "new", 0o644)],
        ];
        let before = std::fs::metadata(outer.path()).unwrap().mode();
        for (number, attack) in attacks.iter().enumerate() {
            let root = outer.path().join(format!("root{number}"));
            std::fs::create_dir(&root).unwrap();
            let _ = unpack_tar(&root, &tar(attack));
            assert_eq!(std::fs::read(&canary).unwrap(), b"old", "attack {number}");
            assert_eq!(std::fs::metadata(&canary).unwrap().nlink(), 1, "attack {number}");
            assert_eq!(std::fs::metadata(outer.path()).unwrap().mode(), before, "attack {number}");
        }
    }

    #[test]
    fn device_nodes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(unpack_tar(dir.path(), &tar(&[("null", EntryType::Char, "", 0o666)])).is_err());
        assert!(unpack_tar(dir.path(), &tar(&[("sda", EntryType::Block, "", 0o666)])).is_err());
        assert!(unpack_tar(dir.path(), &tar(&[("fifo", EntryType::Fifo, "", 0o600)])).is_ok());
    }

    #[test]
    fn damaged_archives_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let whole = tar(&[("a", FILE, &"x".repeat(2000), 0o644)]);
        assert!(unpack_tar(dir.path(), &whole[..1500]).is_err());
        let mut broken = whole.clone();
        broken[0] = b'b';
        assert!(unpack_tar(dir.path(), &broken).is_err());
    }
}
