//! The form of layers of Windows images.

mod common;

use common::{Archive, is_root};
use layer::known::{KnownEntry, KnownKind, KnownLayer, write_known};
use layer::pack::{Form, PackOptions, PackStats, write_layer};
use layer::unpack::{UnpackReport, apply};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

fn pack(dir: &Path, lowers: &[&Path]) -> layer::Result<(Vec<u8>, PackStats)> {
    let options = PackOptions { form: Form::Windows, ..PackOptions::default() };
    let mut tar = Vec::new();
    let stats = write_layer(dir, lowers, &options, &mut tar)?;
    Ok((tar, stats))
}

fn unpack(tar: &[u8]) -> (tempfile::TempDir, UnpackReport) {
    let dir = tempfile::tempdir().unwrap();
    let report = apply(tar, dir.path(), &common::unpack_options()).unwrap();
    (dir, report)
}

/// Each entry: its name, and its records of Windows without the descriptors' bytes.
fn entries(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let one = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut out = String::from_utf8(entry.path_bytes().to_vec()).unwrap();
        if let Some(link) = entry.link_name_bytes() {
            out.push_str(&format!(" -> {}", String::from_utf8_lossy(&link)));
        }
        assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (0, 0));
        for record in entry.pax_extensions().unwrap().into_iter().flatten() {
            let (key, value) =
                record.map(|r| (r.key().unwrap().to_string(), r.value().unwrap().to_string())).unwrap();
            match key.as_str() {
                "MSWINDOWS.fileattr" => out.push_str(&format!(" {value}")),
                "MSWINDOWS.mountpoint" => out.push_str(" mountpoint"),
                "MSWINDOWS.rawsd" => out.push_str(&format!(" sd:{}", value.len())),
                "LIBARCHIVE.creationtime" => out.push_str(&format!(" at:{value}")),
                _ => {}
            }
        }
        out
    };
    archive.entries().unwrap().map(one).collect()
}

fn set_time(path: &Path) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000, 500_000_000);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn entries_have_the_records_of_windows() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("Files/a")).unwrap();
    fs::write(at("Files/a/f"), "f").unwrap();
    fs::hard_link(at("Files/a/f"), at("Files/a/g")).unwrap();
    symlink("f", at("Files/a/l")).unwrap();
    fs::set_permissions(at("Files/a"), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["Files/a/f", "Files/a"] {
        set_time(&at(name));
    }
    if is_root() {
        chown(at("Files/a/f"), Some(1000), Some(1000)).unwrap();
    }
    let (tar, stats) = pack(dir.path(), &[]).unwrap();
    let mut found = entries(&tar);
    // Times of links are those of the moment.
    found.last_mut().map(|l| l.truncate("Files/a/l -> f".len())).unwrap();
    assert_eq!(
        found,
        [
            "Hives/ 16",
            "Files/ 16",
            "Files/a/ at:1000000.5 16 sd:288",
            "Files/a/f at:1000000.5 32 sd:168",
            "Files/a/g -> Files/a/f at:1000000.5",
            "Files/a/l -> f",
        ]
    );
    assert_eq!(stats.entries, 6);
    // Unpacked and packed again it is the same, and it is known for what it is.
    let (again, report) = unpack(&tar);
    assert_eq!((report.form, report.diff_id), (Form::Windows, stats.diff_id));
    assert!(pack(again.path(), &[]).unwrap().0 == tar);
    let plain = Archive::default().dir("Files", 0o755).end();
    assert_eq!(unpack(&plain).1.form, Form::Unix);
}

#[test]
fn there_are_no_opaque_markers() {
    if !is_root() {
        return;
    }
    let files = |names: &[&str]| {
        let mut archive = Archive::default().dir("Files", 0o755).dir("Files/d", 0o755);
        for name in names {
            archive = archive.file(&format!("Files/d/{name}"), name);
        }
        unpack(&archive.end()).0
    };
    let lowest = files(&["a", "b", "gone"]);
    let middle = files(&["c", ".wh.gone"]);
    let upper = files(&["b", ".wh..wh..opq"]);
    let (tar, _) = pack(upper.path(), &[middle.path(), lowest.path()]).unwrap();
    let names: Vec<String> = entries(&tar).iter().map(|e| e.split(' ').next().unwrap().to_string()).collect();
    assert_eq!(names, ["Hives/", "Files/", "Files/d/", "Files/d/.wh.a", "Files/d/.wh.c", "Files/d/b"],);
    assert!(pack(upper.path(), &[]).is_err(), "it is not known what is hidden");
}

#[test]
fn what_windows_cannot_have_is_refused() {
    for (name, fifo) in [("elsewhere", false), ("Files/pipe", true)] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("Files")).unwrap();
        let path = dir.path().join(name);
        match fifo {
            true => rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::RWXU,
                0,
            )
            .unwrap(),
            false => fs::write(&path, "").unwrap(),
        }
        let e = pack(dir.path(), &[]).unwrap_err().to_string();
        assert!(e.contains(name), "{e}");
    }
    // Nothing at all is a layer nevertheless.
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(entries(&pack(dir.path(), &[]).unwrap().0), ["Hives/ 16", "Files/ 16"]);
}

fn known<'a>(path: &'a str, kind: KnownKind<'a>, attributes: u32) -> KnownEntry<'a> {
    KnownEntry { path, kind, attributes, descriptor: None, created: (5, 100), modified: (7, 0) }
}

#[test]
fn what_is_known_of_files_goes_in_as_it_is() {
    let produce = |layer: &mut KnownLayer<'_>| {
        let root = KnownEntry { descriptor: Some(&[1; 30]), ..known("Files", KnownKind::Folder, 0x16) };
        layer.entry(&root)?;
        layer.entry(&known("Files:folder", KnownKind::Stream { size: 2 }, 0))?;
        layer.data(b"xy")?;
        layer.entry(&known("Files/f", KnownKind::File { size: 1000 }, 0x2020))?;
        layer.data(&[b'f'; 600])?;
        layer.data(&[b'g'; 400])?;
        layer.entry(&known("Files/f:zone", KnownKind::Stream { size: 0 }, 0x2020))?;
        layer.entry(&known("Files/g", KnownKind::HardLink { to: "Files/f" }, 0x2020))?;
        layer.entry(&known("Files/j", KnownKind::MountPoint { target: r"C:\Users" }, 0x410))?;
        layer.entry(&known("Files/\u{e9}", KnownKind::Symlink { target: r"..\x" }, 0x400))
    };
    let mut tar = Vec::new();
    let stats = write_known::<layer::Error>(&mut tar, produce).unwrap();
    assert_eq!((stats.entries, stats.size), (7, tar.len() as u64));
    assert_eq!(
        entries(&tar),
        [
            "Files at:5.0000001 22 sd:40",
            "Files:folder",
            "Files/f at:5.0000001 8224",
            "Files/f:zone",
            "Files/g -> Files/f",
            r"Files/j -> C:\Users at:5.0000001 1040 mountpoint",
            "Files/\u{e9} -> ..\\x at:5.0000001 1024",
        ]
    );
    let (unpacked, report) = unpack(&tar);
    assert_eq!((report.form, report.diff_id), (Form::Windows, stats.diff_id));
    let content = fs::read(unpacked.path().join("Files/g")).unwrap();
    assert!(content.len() == 1000 && content[..600] == [b'f'; 600] && content[600..] == [b'g'; 400]);
    assert_eq!(fs::read(unpacked.path().join("Files:folder")).unwrap(), b"xy");
    let mut again = Vec::new();
    assert_eq!(write_known::<layer::Error>(&mut again, produce).unwrap(), stats);
    assert!(again == tar);
    // More or fewer bytes than a file has are a mistake.
    for size in [1, 3] {
        let e = write_known::<layer::Error>(&mut Vec::new(), |layer| {
            layer.entry(&known("Files/f", KnownKind::File { size }, 32))?;
            layer.data(b"xy")
        });
        assert!(e.is_err(), "{size}");
    }
}
