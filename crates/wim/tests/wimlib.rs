//! Files that wimlib packed, in each compression: every path, attribute and byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use wim::{Compression, Kind, Wim};

fn has_wimlib() -> bool {
    let there = Command::new("wimlib-imagex").arg("--version").output().is_ok_and(|o| o.status.success());
    if !there {
        println!("skipped: no wimlib-imagex (wimtools)");
    }
    there
}

fn wimlib(args: &[&str]) -> String {
    let out = Command::new("wimlib-imagex").args(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Bytes that nothing makes shorter.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Text, programs, noise and zeros of several sizes, also those around ends of chunks.
fn fill(folder: &Path) {
    let put = |name: &str, data: &[u8]| fs::write(folder.join(name), data).unwrap();
    fs::create_dir_all(folder.join("sub/deeper")).unwrap();
    let text: String = (0..40_000).map(|i| format!("line {} of {}\r\n", i * i % 977, i % 13)).collect();
    put("text", text.as_bytes());
    put("noise", &noise(700_001));
    put("zeros", &vec![0; 1_000_000]);
    put("empty", b"");
    for size in [1, 9, 10, 11, 255, 32_767, 32_768, 32_769, 65_536, 65_537, 2_097_153] {
        put(&format!("sub/{size}"), &text.as_bytes().repeat(5)[..size]);
        put(&format!("sub/n{size}"), &noise(size.min(70_000)));
    }
    let mixed: Vec<u8> = (0..60)
        .flat_map(|i| [&noise(5_000)[..i * 80], &text.as_bytes()[..20_000 - i * 300]].concat())
        .collect();
    put("sub/deeper/mixed", &mixed);
    fs::hard_link(folder.join("text"), folder.join("sub/text again")).unwrap();
    for program in ["bash", "wimlib-imagex"] {
        if let Ok(data) = fs::read(format!("/usr/bin/{program}")) {
            put(program, &data);
        }
    }
}

/// What wimlib says of each path: its attributes and the SHA-1 of its data.
fn oracle(file: &str, index: &str) -> BTreeMap<String, (u32, String)> {
    let text = wimlib(&["dir", file, index, "--detailed"]);
    let mut all = BTreeMap::new();
    let mut path = String::new();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let value = value.trim();
        match key.trim() {
            "Full Path" => {
                path = value.trim_matches('"').trim_start_matches(['/', '\\']).replace('\\', "/");
                all.insert(path.clone(), (0, String::new()));
            }
            "Attributes" => {
                let number = value.split_whitespace().next().unwrap().trim_start_matches("0x");
                all.get_mut(&path).unwrap().0 = u32::from_str_radix(number, 16).unwrap();
            }
            // The first is that of the data; others are of named streams.
            "Hash" if seen.insert(path.clone()) => {
                let hash = value.trim_start_matches("0x");
                if hash.bytes().any(|b| b != b'0') {
                    all.get_mut(&path).unwrap().1 = hash.into();
                }
            }
            _ => {}
        }
    }
    all
}

#[test]
fn every_compression_and_chunk_size() {
    if !has_wimlib() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("files");
    fs::create_dir(&folder).unwrap();
    fill(&folder);
    for (kind, chunk, compression) in [
        ("none", None, Compression::None),
        ("xpress", None, Compression::Xpress),
        ("xpress", Some("4096"), Compression::Xpress),
        ("xpress:80", Some("65536"), Compression::Xpress),
        ("lzx", None, Compression::Lzx),
        ("lzx:20", Some("65536"), Compression::Lzx),
        ("lzx:100", Some("262144"), Compression::Lzx),
        ("lzx", Some("2097152"), Compression::Lzx),
    ] {
        let file = place.path().join("x.wim");
        let _ = fs::remove_file(&file);
        let path = file.to_str().unwrap();
        let kind = format!("--compress={kind}");
        let mut args = vec!["capture", folder.to_str().unwrap(), path, "name", &kind, "--threads=2"];
        let size = chunk.map(|c| format!("--chunk-size={c}"));
        args.extend(size.as_deref());
        wimlib(&args);
        let mut wim = Wim::open(fs::File::open(&file).unwrap()).unwrap();
        assert_eq!(wim.compression(), compression);
        assert_eq!(wim.images()[&1].name, "name");
        let tree = wim.tree(1).unwrap();
        let said = oracle(path, "1");
        let mut found = BTreeMap::new();
        let mut groups = BTreeMap::<_, Vec<String>>::new();
        for (i, entry) in tree.entries.iter().enumerate() {
            let path = tree.path(i);
            let data = match entry.kind {
                Kind::File { data } => data,
                _ => None,
            };
            if let Kind::File { .. } = entry.kind {
                let want = fs::read(folder.join(&path)).unwrap();
                let mut got = Vec::new();
                assert_eq!(wim.size(data.as_ref()).unwrap(), want.len() as u64);
                if let Some(hash) = data {
                    wim.copy(&hash, |piece| {
                        got.extend_from_slice(piece);
                        Ok::<_, wim::Error>(())
                    })
                    .unwrap_or_else(|e| panic!("{args:?}: {path}: {e}"));
                }
                assert!(got == want, "{args:?}: {path}");
            }
            if let Some(group) = entry.link_group {
                groups.entry((group, data)).or_default().push(path.clone());
            }
            found.insert(path, (entry.attributes, data.map(|h| h.to_string()).unwrap_or_default()));
        }
        assert_eq!(found, said, "{args:?}");
        let several: Vec<_> = groups.into_values().filter(|g| g.len() > 1).collect();
        assert_eq!(several, [["sub/text again".to_string(), "text".into()]]);
    }
}

#[test]
fn several_images_share_data() {
    if !has_wimlib() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    for (folder, file) in [("one", "a"), ("two", "b")] {
        fs::create_dir(at(folder)).unwrap();
        fs::write(at(folder).join(file), "the same").unwrap();
    }
    let file = at("x.wim");
    let path = file.to_str().unwrap();
    wimlib(&["capture", at("one").to_str().unwrap(), path, "first", "--compress=lzx"]);
    wimlib(&["append", at("two").to_str().unwrap(), path, "second & <last>", "Words"]);
    let mut wim = Wim::open(fs::File::open(&file).unwrap()).unwrap();
    let names: Vec<&str> = wim.images().values().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["first", "second & <last>"]);
    assert_eq!(wim.images()[&2].description, "Words");
    for (index, name) in [(1, "a"), (2, "b")] {
        let tree = wim.tree(index).unwrap();
        assert_eq!(tree.entries[1].name, name);
        let Kind::File { data: Some(data) } = tree.entries[1].kind else { panic!() };
        assert_eq!(wim.read(&data, 100).unwrap(), b"the same");
    }
    // Forms of the same that are not read.
    let esd = at("x.esd");
    wimlib(&["export", path, "all", esd.to_str().unwrap(), "--solid"]);
    let e = Wim::open(fs::File::open(&esd).unwrap()).err().unwrap();
    assert!(e.to_string().contains("not supported") && e.hint().is_some(), "{e}");
}

/// Damage of compressed data is found, whatever the bits say, and never ends in a panic.
#[test]
fn damaged_chunks_end_in_errors() {
    if !has_wimlib() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("files");
    fs::create_dir(&folder).unwrap();
    let text: String = (0..900).map(|i| format!("{} {}\n", i * i % 977, i % 13)).collect();
    fs::write(folder.join("text"), &text).unwrap();
    fs::write(folder.join("code"), &fs::read("/proc/self/exe").unwrap()[4096..20_000]).unwrap();
    let changes = noise(40_000);
    for kind in ["xpress", "lzx"] {
        let file = place.path().join(kind);
        let compress = format!("--compress={kind}");
        wimlib(&["capture", folder.to_str().unwrap(), file.to_str().unwrap(), "name", &compress]);
        let sound = fs::read(&file).unwrap();
        let read = |bytes: &[u8]| -> wim::Result<()> {
            let mut wim = Wim::open(std::io::Cursor::new(bytes))?;
            let tree = wim.tree(1)?;
            for entry in &tree.entries {
                if let Kind::File { data: Some(data) } = entry.kind {
                    wim.copy(&data, |_| Ok::<_, wim::Error>(()))?;
                }
            }
            Ok(())
        };
        read(&sound).unwrap();
        let mut damaged = 0;
        for change in changes.chunks_exact(16) {
            let mut bytes = sound.clone();
            for at in change.chunks_exact(4).take(1 + usize::from(change[15] % 4)) {
                let place = usize::from(u16::from_le_bytes([at[0], at[1]])) % bytes.len();
                bytes[place] ^= at[2] | 1;
            }
            damaged += usize::from(read(&bytes).is_err());
        }
        assert!(damaged > 2000, "{kind}: {damaged}");
    }
}
