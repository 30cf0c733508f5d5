//! Archives and texts as contexts.

mod common;

use common::store;
use remote::{Error, Unpacked, unpack_file, unpack_stream};
use std::io::Write;
use std::os::unix::fs::MetadataExt;

fn archive() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(13);
    header.set_mode(0o640);
    header.set_mtime(1_000_000_000);
    tar.append_data(&mut header, "sub/Dockerfile", &b"FROM scratch\n"[..]).unwrap();
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[test]
fn streams() {
    let (_dir, store) = store();
    for bytes in [archive(), gzip(&archive())] {
        let Unpacked::Files(id) = unpack_stream(&store, "input", &bytes[..]).unwrap() else {
            panic!("no archive")
        };
        let file = store.snapshot_path(&id).unwrap().join("sub/Dockerfile");
        let meta = std::fs::metadata(&file).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.len()), (0o640, 1_000_000_000, 13));
    }
    let text = unpack_stream(&store, "input", &b"FROM scratch\n"[..]).unwrap();
    assert_eq!(text, Unpacked::Text(b"FROM scratch\n".to_vec()));
    assert_eq!(unpack_stream(&store, "input", &b""[..]).unwrap(), Unpacked::Text(Vec::new()));
}

#[test]
fn the_same_file_is_unpacked_once() {
    let (dir, store) = store();
    let path = dir.path().join("a.tar.gz");
    std::fs::write(&path, gzip(&archive())).unwrap();
    let first = unpack_file(&store, "a", &path).unwrap();
    assert_eq!(unpack_file(&store, "a", &path).unwrap(), first);
    std::fs::write(&path, archive()).unwrap();
    assert_ne!(unpack_file(&store, "a", &path).unwrap(), first);
}

#[test]
fn damaged_and_hostile_input() {
    let (dir, store) = store();
    let whole = gzip(&archive());
    let cut = unpack_stream(&store, "input", &whole[..whole.len() / 2]);
    assert!(matches!(cut, Err(Error::Archive { .. })));
    let binary = unpack_stream(&store, "input", &b"\x7fELF\0\0\0"[..]);
    assert!(matches!(binary, Err(Error::NotAContext { .. })));
    let endless = std::io::Read::take(std::io::repeat(b'#'), 1 << 30);
    assert!(matches!(unpack_stream(&store, "input", endless), Err(Error::TooLarge { .. })));
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "out", dir.path()).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    header.set_mode(0o644);
    tar.append_data(&mut header, "out/canary", &b"x"[..]).unwrap();
    let evil = tar.into_inner().unwrap();
    let _ = unpack_stream(&store, "input", &evil[..]);
    assert!(!dir.path().join("canary").exists());
    assert_eq!(std::fs::read_dir(dir.path().join("s/active")).unwrap().count(), 0);
}
