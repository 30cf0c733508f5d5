//! Files that are made here: what is read of them, what is refused, and that damage is survived.

use std::io::Cursor;
use testkit::{WimImage, WimNode};
use wim::{Error, FileTime, Hash, Kind, Tree, Unsupported, Wim};

fn small() -> Vec<u8> {
    let with_streams = WimNode {
        streams: vec![("Zone.Identifier".into(), b"[ZoneTransfer]".to_vec()), ("a".into(), Vec::new())],
        descriptor: Some(vec![1; 20]),
        short_name: "B~1.TXT".into(),
        times: [1, 2, 3],
        ..WimNode::file("b.txt", b"data of b")
    };
    let linked = |name: &str| WimNode { link_group: 7, ..WimNode::file(name, b"linked") };
    let root = WimNode {
        descriptor: Some(vec![2; 33]),
        children: vec![
            with_streams,
            WimNode::folder("Windows", vec![linked("two"), linked("one"), WimNode::folder("deep", vec![])]),
            WimNode::link("link", 0xa000_000c, "\\??\\C:\\x", "C:\\x"),
            WimNode::file("empty", b""),
        ],
        ..WimNode::folder("", vec![])
    };
    let other = WimNode::folder("", vec![WimNode::file("b.txt", b"data of b")]);
    testkit::wim(&[
        WimImage::windows("Nano &amp; Co", [10, 0, 14393, 5], root),
        WimImage { xml: "<NAME>other</NAME>".into(), root: other },
    ])
}

fn open(bytes: &[u8]) -> wim::Result<Wim<Cursor<&[u8]>>> {
    Wim::open(Cursor::new(bytes))
}

/// All that there is to read, with a bound on how much.
fn read(bytes: &[u8]) -> wim::Result<Vec<(Tree, Vec<Vec<u8>>)>> {
    let mut file = open(bytes)?;
    let indices: Vec<u32> = file.images().keys().copied().collect();
    let mut out = Vec::new();
    for index in indices {
        let tree = file.tree(index)?;
        let mut contents = Vec::new();
        for (i, entry) in tree.entries.iter().enumerate() {
            assert!(i == 0 || (entry.parent as usize) < i, "folders come first");
            let _ = (tree.descriptor(entry), tree.path(i).len());
            let own = match entry.kind {
                Kind::Folder => None,
                Kind::File { data } | Kind::Reparse { data, .. } => data,
            };
            for hash in entry.streams.iter().filter_map(|s| s.data).chain(own) {
                contents.push(file.read(&hash, 1 << 20)?);
            }
        }
        out.push((tree, contents));
    }
    Ok(out)
}

#[test]
fn all_of_an_image_is_read() {
    let bytes = small();
    let mut file = open(&bytes).unwrap();
    let first = &file.images()[&1];
    assert_eq!(first.name, "Nano & Co");
    assert_eq!(first.modified.unix().0, 1_577_836_800);
    let windows = first.windows.as_ref().unwrap();
    assert_eq!((windows.architecture, windows.version), (Some(9), (10, 0, 14393, 5)));
    assert_eq!((file.images()[&2].name.as_str(), &file.images()[&2].windows), ("other", &None));
    let tree = file.tree(1).unwrap();
    let paths: Vec<String> = (0..tree.entries.len()).map(|i| tree.path(i)).collect();
    assert_eq!(
        paths,
        ["", "Windows", "Windows/deep", "Windows/one", "Windows/two", "b.txt", "empty", "link"],
        "a folder before what is in it, names in order"
    );
    let [root, _, deep, one, two, b, empty, link] = &tree.entries[..] else { panic!() };
    assert_eq!(tree.descriptor(root), Some(&[2; 33][..]));
    assert_eq!((tree.descriptor(b), tree.descriptor(one)), (Some(&[1; 20][..]), None));
    assert_eq!((b.short_name.as_str(), b.created, b.modified), ("B~1.TXT", FileTime(1), FileTime(3)));
    assert_eq!((one.link_group, &one.kind), (Some(7), &two.kind));
    assert_eq!((deep.kind, empty.kind), (Kind::Folder, Kind::File { data: None }));
    let Kind::File { data: Some(data) } = b.kind else { panic!() };
    assert_eq!(file.read(&data, 100).unwrap(), b"data of b");
    assert_eq!(file.size(Some(&data)).unwrap(), 9);
    assert!(matches!(file.read(&data, 8), Err(Error::Limit { .. })));
    let [zone, a] = &b.streams[..] else { panic!() };
    assert_eq!((zone.name.as_str(), a.name.as_str(), a.data), ("Zone.Identifier", "a", None));
    assert_eq!(file.read(&zone.data.unwrap(), 100).unwrap(), b"[ZoneTransfer]");
    assert!(matches!(link.kind, Kind::Reparse { tag: 0xa000_000c, is_literal: false, data: Some(_) }));
    assert!(matches!(file.tree(3), Err(Error::NoImage { index: 3, count: 2 })));
    assert!(matches!(file.tree(0), Err(Error::NoImage { .. })));
}

#[test]
fn forms_that_are_not_read_are_told_by_name() {
    let with = |at: usize, value: u32| {
        let mut bytes = small();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        open(&bytes).err().unwrap()
    };
    let is = |e: Error, what: Unsupported| assert!(matches!(e, Error::Unsupported(u) if u == what), "{e}");
    is(with(12, 0xe00), Unsupported::Solid);
    is(with(12, 0x10c00), Unsupported::Version(0x10c00));
    is(with(16, 0x8_0002), Unsupported::Lzms);
    is(with(16, 0x2), Unsupported::Compression(2));
    is(with(40, 2 << 16 | 1), Unsupported::Split { part: 1, parts: 2 });
    assert!(matches!(with(40, 0), Error::Malformed { .. }));
    assert!(matches!(with(0, 0), Error::NotWim));
    assert!(matches!(open(b"MSW").err().unwrap(), Error::NotWim));
    assert!(matches!(open(&small()[..100]).err().unwrap(), Error::Truncated { .. }));
    let mut odd = small();
    odd[16..20].copy_from_slice(&0x4_0002u32.to_le_bytes());
    odd[20..24].copy_from_slice(&4096u32.to_le_bytes());
    is(open(&odd).err().unwrap(), Unsupported::ChunkSize(4096));
}

#[test]
fn damage_of_data_is_found() {
    let mut bytes = small();
    let at = bytes.windows(9).position(|w| w == b"data of b").unwrap();
    bytes[at] ^= 1;
    assert!(matches!(read(&bytes), Err(Error::Damaged { .. })));
    let mut file = open(&bytes).unwrap();
    let unknown = Hash([9; 20]);
    assert!(matches!(file.read(&unknown, 1), Err(Error::Absent { hash }) if hash == unknown));
}

#[test]
fn what_no_folder_can_have_is_refused() {
    let encrypted = WimNode { attributes: 0x4020, ..WimNode::file("secret", b"x") };
    let stream = WimNode { streams: vec![("a:b".into(), vec![])], ..WimNode::file("f", b"x") };
    for (children, path, word) in [
        (vec![encrypted], "d/secret", "encrypted"),
        (vec![WimNode::file("a/b", b"")], "d/a/b", "can have that name"),
        (vec![WimNode::file("a:b", b"")], "d/a:b", "can have that name"),
        (vec![WimNode::file("", b"")], "d/", "without a name"),
        (vec![WimNode::file("x", b"1"), WimNode::file("x", b"2")], "d/x", "two of that name"),
        (vec![stream], "d/f", "stream"),
    ] {
        let root = WimNode::folder("", vec![WimNode::folder("d", children)]);
        let bytes = testkit::wim(&[WimImage { xml: String::new(), root }]);
        match open(&bytes).unwrap().tree(1) {
            Err(Error::Entry { path: p, reason }) => {
                assert!(p == path && reason.contains(word), "{p}: {reason}");
            }
            other => panic!("{path}: {other:?}"),
        }
    }
    let mut deep = WimNode::folder("x", vec![]);
    for _ in 0..600 {
        deep = WimNode::folder("x", vec![deep]);
    }
    deep.name.clear();
    let bytes = testkit::wim(&[WimImage { xml: String::new(), root: deep }]);
    assert!(open(&bytes).unwrap().tree(1).is_err());
}

/// A folder that is in itself, or in several others, would have no end.
#[test]
fn folders_in_themselves_are_refused() {
    let folders = |n: usize| WimNode::folder(&n.to_string(), vec![]);
    let root = WimNode::folder("", (0..50).map(folders).collect());
    let tree = |change: &dyn Fn(&mut [u8])| {
        let bytes = testkit::wim(&[WimImage { xml: String::new(), root: root.clone() }]);
        // The metadata are the last but the table and the document.
        let table = u64::from_le_bytes(bytes[56..64].try_into().unwrap()) as usize;
        let mut metadata = bytes[208..table].to_vec();
        change(&mut metadata);
        Tree::parse(metadata)
    };
    assert_eq!(tree(&|_| {}).unwrap().entries.len(), 51);
    let first = u64::from_le_bytes({
        let bytes = testkit::wim(&[WimImage { xml: String::new(), root: root.clone() }]);
        bytes[208 + 8 + 16..208 + 8 + 24].try_into().unwrap()
    });
    let e = tree(&|metadata| {
        let at = first as usize + 16;
        metadata[at..at + 8].copy_from_slice(&first.to_le_bytes());
    });
    assert!(matches!(e, Err(Error::Malformed { .. })), "{e:?}");
}

/// Thousands of damaged files: errors or other trees, but no panic and no end of time. Sums of damaged metadata are made
/// right again, so that damage gets past them.
#[test]
fn damaged_files_end_in_errors() {
    let seed = small();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |end: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % end.max(1) as u64) as usize
    };
    let mut survived = 0;
    for _ in 0..6000 {
        let mut bytes = seed.clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(5) {
                0 => bytes[at] ^= 1 << random(8),
                1 => bytes[at] = random(256) as u8,
                2 => bytes.truncate(at.max(1)),
                3 => {
                    let end = (at + 8).min(bytes.len());
                    bytes[at..end].fill([0, 0xff, 0x80][random(3)]);
                }
                _ => {
                    let (from, n) = (random(bytes.len()), random(64));
                    let part = bytes[from..(from + n).min(bytes.len())].to_vec();
                    bytes.splice(at..(at + n).min(bytes.len()), part);
                }
            }
            if bytes.len() < 2 {
                bytes = seed.clone();
            }
        }
        survived += usize::from(read(&bytes).is_ok());
    }
    assert!(survived < 6000);
    // Metadata by themselves, whose SHA-1 nobody checks here.
    let table = u64::from_le_bytes(seed[56..64].try_into().unwrap()) as usize;
    let begin = (0..table).rev().find_map(|at| {
        let (tree, metadata) = (Tree::parse(seed[at..table].to_vec()).ok()?, at);
        (tree.entries.len() == 2).then_some(metadata)
    });
    let second = begin.unwrap();
    let first = (0..second)
        .rev()
        .find(|at| Tree::parse(seed[*at..second].to_vec()).is_ok_and(|tree| tree.entries.len() == 8));
    let metadata = seed[first.unwrap()..second].to_vec();
    let mut parsed = 0;
    for _ in 0..20_000 {
        let mut bytes = metadata.clone();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] ^= 1 << random(8),
                1 => bytes[at] = random(256) as u8,
                2 => bytes[at & !7..].iter_mut().take(8).for_each(|b| *b = 0),
                _ => bytes.truncate(at + 1),
            }
        }
        if let Ok(tree) = Tree::parse(bytes) {
            parsed += 1;
            assert!(tree.entries.len() <= metadata.len() / 102);
        }
    }
    assert!(parsed > 1000, "{parsed}");
}
