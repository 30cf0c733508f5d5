//! Windows image files (WIM) as base images: which image is taken, what becomes of everything in it, what is refused.

use crate::place::{Place, has, is_root, run};
use base64::Engine;
use serde_json::Value;
use std::fs;
use std::process::{Command, Stdio};
use testkit::{WimImage, WimNode, wim};

const SYMLINK: u32 = 0xa000_000c;
const MOUNT_POINT: u32 = 0xa000_0003;
/// 2001-09-09 01:46:40 UTC.
const TIME: u64 = (1_000_000_000 + 11_644_473_600) * 10_000_000;
/// Who belongs to the administrators, and nobody may do anything.
const DESCRIPTOR: &[u8] = &[
    1, 0, 4, 0x80, 0x14, 0, 0, 0, 0x24, 0, 0, 0, 0, 0, 0, 0, 0x34, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 5, 0x20, 0,
    0, 0, 0x20, 2, 0, 0, 1, 2, 0, 0, 0, 0, 0, 5, 0x20, 0, 0, 0, 0x20, 2, 0, 0, 2, 0, 8, 0, 0, 0, 0, 0,
];

/// Something of everything that NTFS has.
fn drive() -> WimNode {
    let at = |node: WimNode| WimNode { times: [TIME + 1, TIME + 2, TIME + 30], ..node };
    let linked = |name: &str| at(WimNode { link_group: 5, ..WimNode::file(name, b"one file") });
    let streams = vec![("Zone.Identifier".to_string(), b"[ZoneTransfer]".to_vec())];
    let config = ["SYSTEM", "SOFTWARE", "SAM", "SECURITY", "DEFAULT"];
    let hives = config.map(|name| at(WimNode::file(name, format!("regf {name}").as_bytes()))).to_vec();
    let system = at(WimNode::folder(
        "System32",
        vec![at(WimNode::folder("config", hives)), at(WimNode::file("cmd.exe", b"MZ"))],
    ));
    let program = WimNode {
        attributes: 0x2023,
        descriptor: Some(DESCRIPTOR.into()),
        streams: streams.clone(),
        ..linked("a.txt")
    };
    WimNode {
        descriptor: Some(DESCRIPTOR.into()),
        children: vec![
            at(WimNode::folder("Windows", vec![system])),
            at(program),
            at(WimNode {
                streams: streams.clone(),
                ..WimNode::folder("Users", vec![linked("x"), linked("y")])
            }),
            at(WimNode::link("Documents and Settings", MOUNT_POINT, r"\??\C:\Users", r"C:\Users")),
            at(WimNode::link("up", SYMLINK, r"..\x\y", r"..\x\y")),
            at(WimNode::file("\u{e9}t\u{e9}", b"")),
        ],
        ..at(WimNode::folder("", vec![]))
    }
}

const VERSION: [u32; 4] = [10, 0, 14393, 1003];

/// The layer of an image of the store, unpacked: its only one.
fn layer(place: &Place, name: &str) -> Vec<u8> {
    let folder = place.path("saved");
    let _ = fs::remove_dir_all(&folder);
    place.run(["os-image", "save", name, "-o", "saved/"]).ok();
    let read = |digest: &Value| {
        fs::read(folder.join("blobs").join(digest.as_str().unwrap().replace(':', "/"))).unwrap()
    };
    let json = |bytes: Vec<u8>| -> Value { serde_json::from_slice(&bytes).unwrap() };
    let index = json(fs::read(folder.join("index.json")).unwrap());
    let manifest = json(read(&index["manifests"][0]["digest"]));
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1);
    fs::write(place.path("layer.gz"), read(&layers[0]["digest"])).unwrap();
    let out = Command::new("gzip").arg("-dc").arg(place.path("layer.gz")).output().unwrap();
    assert!(out.status.success());
    out.stdout
}

/// Each entry of a tar in a line: its kind, name, link, records of Windows, and data.
fn entries(tar: &[u8]) -> Vec<String> {
    let text = |field: &[u8]| {
        String::from_utf8_lossy(field.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
    };
    let mut lines = Vec::new();
    let mut records: Vec<(String, String)> = Vec::new();
    let mut at = 0;
    while tar[at] != 0 {
        let header = &tar[at..at + 512];
        let size = usize::from_str_radix(&text(&header[124..136]), 8).unwrap();
        let data = &tar[at + 512..at + 512 + size];
        at += 512 + size.next_multiple_of(512);
        if header[156] == b'x' {
            let mut rest = data;
            while !rest.is_empty() {
                let length: usize =
                    text(&rest[..rest.iter().position(|b| *b == b' ').unwrap()]).parse().unwrap();
                let record = String::from_utf8(rest[..length - 1].to_vec()).unwrap();
                let (key, value) = record.split_once(' ').unwrap().1.split_once('=').unwrap();
                records.push((key.into(), value.into()));
                rest = &rest[length..];
            }
            continue;
        }
        let of = |wanted: &str| records.iter().find(|(k, _)| k == wanted).map(|(_, v)| v.clone());
        let prefix = text(&header[345..500]);
        let name = if prefix.is_empty() {
            text(&header[..100])
        } else {
            format!("{prefix}/{}", text(&header[..100]))
        };
        let mut line = format!("{} {}", char::from(header[156]), of("path").unwrap_or(name));
        let link = of("linkpath").unwrap_or_else(|| text(&header[157..257]));
        if !link.is_empty() {
            line.push_str(&format!(" -> {link}"));
        }
        for (key, value) in records.drain(..) {
            if key != "path" && key != "linkpath" {
                line.push_str(&format!(" {}={value}", key.rsplit('.').next().unwrap()));
            }
        }
        if !data.is_empty() {
            line.push_str(&format!(" {:?}", String::from_utf8_lossy(data)));
        }
        lines.push(line);
    }
    lines
}

#[test]
fn an_image_of_a_file_is_a_base_image() {
    if !has(&["gzip"]) {
        return;
    }
    let place = Place::bare();
    fs::write(place.path("nano.wim"), wim(&[WimImage::windows("Nano Server", VERSION, drive())])).unwrap();
    let first = place.run(["os-image", "import", "nano.wim"]);
    assert!(first.stderr.starts_with("nano-server:10.0.14393.1003 10.0.14393.1003\n"), "{}", first.stderr);
    assert!(first.stderr.contains("installed in 0h 0m "), "{}", first.stderr);
    let digest = first.ok();
    let again = place.run(["os-image", "import", "nano.wim"]);
    assert!(again.stderr.contains("already installed (use --force)"), "{}", again.stderr);
    assert_eq!(again.ok(), "");
    assert_eq!(place.run(["os-image", "import", "--force", "nano.wim"]).ok(), digest);
    let other = place.path("other");
    assert_eq!(
        run(&mut place.command_on(&other, ["os-image", "import", "nano.wim", "--name", "n:1"])).ok(),
        digest
    );

    let listed = place.run(["os-image", "ls", "--format", "json"]).ok();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&listed["publisher"], &listed["isOSImage"]), (&"Microsoft".into(), &true.into()));
    assert_eq!(listed["platforms"][0], "windows(10.0.14393.1003)/amd64");
    let config = place.inspect("nano-server:10.0.14393.1003");
    assert_eq!((&config["Os"], &config["Architecture"]), (&"windows".into(), &"amd64".into()));
    assert_eq!(config["OsVersion"], "10.0.14393.1003");
    assert_eq!(config["Created"], "2020-01-01T00:00:00Z");
    assert_eq!(config["Config"]["Cmd"][0], r"c:\windows\system32\cmd.exe");

    let sd = base64::engine::general_purpose::STANDARD.encode(DESCRIPTOR);
    let times = "mtime=1000000000.000003 creationtime=1000000000.0000001";
    let hive =
        |name: &str| format!("0 Files/Windows/System32/config/{name} {times} fileattr=32 \"regf {name}\"");
    assert_eq!(
        entries(&layer(&place, "nano-server:10.0.14393.1003")),
        [
            format!("5 Files {times} fileattr=16 rawsd={sd}"),
            format!(r"2 Files/Documents and Settings -> C:\Users {times} fileattr=1040 mountpoint=1"),
            format!("5 Files/Users {times} fileattr=16"),
            "0 Files/Users:Zone.Identifier mtime=1000000000.000003 \"[ZoneTransfer]\"".into(),
            format!("0 Files/Users/x {times} fileattr=32 \"one file\""),
            "1 Files/Users/y -> Files/Users/x mtime=1000000000.000003".into(),
            format!("5 Files/Windows {times} fileattr=16"),
            format!("5 Files/Windows/System32 {times} fileattr=16"),
            format!("0 Files/Windows/System32/cmd.exe {times} fileattr=32 \"MZ\""),
            format!("5 Files/Windows/System32/config {times} fileattr=16"),
            hive("DEFAULT"),
            hive("SAM"),
            hive("SECURITY"),
            hive("SOFTWARE"),
            hive("SYSTEM"),
            // The same number, but another file: its attributes and streams are its own.
            format!("0 Files/a.txt {times} fileattr=8227 rawsd={sd} \"one file\""),
            "0 Files/a.txt:Zone.Identifier mtime=1000000000.000003 \"[ZoneTransfer]\"".into(),
            format!(r"2 Files/up -> ..\x\y {times} fileattr=1040"),
            format!("0 Files/\u{e9}t\u{e9} {times} fileattr=32"),
        ]
    );
    place.verify();
}

/// A file says whether absolute targets are told from the root of its images, and each link whether it is an exception.
#[test]
fn absolute_targets_are_on_drive_c() {
    if !has(&["gzip"]) {
        return;
    }
    let place = Place::bare();
    let link = |name: &str| WimNode::link(name, SYMLINK, r"\??\D:\x", r"D:\x");
    let literal = WimNode { reparse: Some((SYMLINK, 1)), ..link("literal") };
    let root = WimNode::folder(
        "",
        vec![link("link"), literal, WimNode::link("unseen", MOUNT_POINT, r"\??\D:\x", "")],
    );
    let mut bytes = wim(&[WimImage::windows("x", VERSION, root)]);
    let mut links = |flags: u32| {
        bytes[16..20].copy_from_slice(&flags.to_le_bytes());
        fs::write(place.path("x.wim"), &bytes).unwrap();
        place.run(["os-image", "import", "--force", "--name", "x:1", "x.wim"]).ok();
        let found = entries(&layer(&place, "x:1"));
        found[1..].iter().map(|l| l.split(' ').nth(3).unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(links(0), [r"D:\x", r"D:\x", r"D:\x"]);
    assert_eq!(links(0x80), [r"C:\x", r"D:\x", r"C:\x"]);
}

#[test]
fn one_of_several_images_is_chosen() {
    let place = Place::bare();
    let images = [
        WimImage::windows("Container", VERSION, WimNode::folder("", vec![WimNode::file("one", b"1")])),
        WimImage::windows("Utility VM", [10, 0, 14393, 7], WimNode::folder("", vec![])),
        WimImage { xml: "<NAME>Setup</NAME>".into(), root: WimNode::folder("", vec![]) },
    ];
    fs::write(place.path("x.wim"), wim(&images)).unwrap();
    let said = place.run(["os-image", "import", "x.wim"]).err();
    assert!(said.contains(r#"x.wim: it has 3 images: 1 "Container", 2 "Utility VM", 3 "Setup""#), "{said}");
    assert!(said.contains("--index 1"), "{said}");
    for wrong in ["4", "0", "Other"] {
        let said = place.run(["os-image", "import", "x.wim", "--index", wrong]).err();
        assert!(said.contains("it has no image") && said.contains("\"Setup\""), "{said}");
    }
    let said = place.run(["os-image", "import", "x.wim", "--index", "3"]).err();
    assert!(said.contains("does not say which Windows it is") && said.contains("hint: "), "{said}");
    let by_number = place.run(["os-image", "import", "x.wim", "--index", "1", "--name", "n:1"]).ok();
    let by_name = place.run(["os-image", "import", "x.wim", "--index", "Container"]).ok();
    assert_eq!(by_number, by_name);
    let said = place.run(["os-image", "import", "x.wim", "--index", "2", "--name", "n:1"]).err();
    assert!(said.contains("n:1 is already installed (use --force): it is another image"), "{said}");
    let forced = place.run(["os-image", "import", "x.wim", "--index", "2", "--name", "n:1", "--force"]).ok();
    assert_ne!(forced, by_number);
    assert_eq!(place.inspect("n:1")["OsVersion"], "10.0.14393.7");
    place.run(["os-image", "save", "n:1", "-o", "n.tar"]).ok();
    let said = place.run(["os-image", "import", "--index", "1", "n.tar"]).err();
    assert!(said.contains("this is an archive"), "{said}");
    // What comes as a stream can't be read here and there.
    let mut piped = place.command(["os-image", "import", "-"]);
    let said = run(piped.stdin(Stdio::from(fs::File::open(place.path("x.wim")).unwrap()))).err();
    assert!(said.contains("can't come from a stream"), "{said}");
    place.verify();
}

#[test]
fn what_no_layer_can_have_is_refused() {
    let place = Place::bare();
    let file = |name: &str| WimNode::file(name, b"x");
    let cloud = WimNode { reparse: Some((0x9000_001a, 0)), attributes: 0x420, ..file("cloud") };
    let secret = WimNode { attributes: 0x4020, ..file("secret") };
    for (children, words) in [
        (vec![file("a"), file("A")], "Files/a: its name differs from another one in case only"),
        (vec![file(".wh.a")], "Files/.wh.a: a layer can't have"),
        (vec![cloud], "Files/cloud: it is a reparse point (0x9000001a)"),
        (vec![secret], "secret: it is encrypted"),
        (vec![file("a:b")], "a:b: no file can have that name"),
    ] {
        let image = WimImage::windows("x", VERSION, WimNode::folder("", children));
        fs::write(place.path("x.wim"), wim(&[image])).unwrap();
        let said = place.run(["os-image", "import", "x.wim"]).err();
        assert!(said.starts_with("error: x.wim: ") && said.contains(words), "{said}");
    }
    let mut bytes =
        wim(&[WimImage::windows("x", VERSION, WimNode::folder("", vec![WimNode::file("f", b"sound")]))]);
    let at = bytes.windows(5).position(|w| w == b"sound").unwrap();
    bytes[at] = b'S';
    fs::write(place.path("x.wim"), &bytes).unwrap();
    let said = place.run(["os-image", "import", "x.wim"]).err();
    assert!(said.contains("Files/f: the data ") && said.contains("are damaged"), "{said}");
    // Nothing of it was kept.
    assert_eq!(place.run(["images", "-q"]).ok(), "");
    place.verify();
}

#[test]
fn images_are_built_on_it() {
    let Some(place) = Place::new() else { return };
    fs::write(place.path("nano.wim"), wim(&[WimImage::windows("Nano", VERSION, drive())])).unwrap();
    place.run(["os-image", "import", "nano.wim", "--name", "nano:1"]).ok();
    let recipe =
        "FROM nano:1 AS app\nCOPY Dockerfile C:/app/\nFROM scratch AS out\nCOPY --from=app /Users /users\n";
    let context = place.recipe(recipe);
    let build = ["build", "-q", "--platform", "windows/amd64"];
    run(place.command(build).args(["--target", "app", "-t", "app", &context])).ok();
    assert_eq!(place.inspect("app")["OsVersion"], "10.0.14393.1003");
    run(place.command(build).args(["-o", "type=local,dest=out", &context])).ok();
    assert_eq!(fs::read(place.path("out/users/y")).unwrap(), b"one file");
    place.run(["save", "-o", "app.tar", "app"]).ok();
    place.verify();
}

fn complete(node: &mut WimNode) {
    node.descriptor.get_or_insert(DESCRIPTOR.into());
    if node.name == "a.txt" {
        node.link_group = 0;
    }
    node.children.iter_mut().for_each(complete);
}

/// The same drive, put on an NTFS volume by wimlib, captured there, and compressed.
#[test]
fn a_volume_that_wimlib_captured() {
    if !has(&["wimlib-imagex", "mkntfs", "gzip"]) {
        return;
    }
    if !is_root() {
        println!("skipped: needs root");
        return;
    }
    let place = Place::bare();
    // A volume gives descriptors to what has none, and to wimlib a number is one file.
    let mut root = drive();
    complete(&mut root);
    fs::write(place.path("made.wim"), wim(&[WimImage::windows("Nano", VERSION, root)])).unwrap();
    let volume = fs::File::create(place.path("volume")).unwrap();
    volume.set_len(32 << 20).unwrap();
    let there = |program: &str, args: &[&str]| {
        let out = run(Command::new(program).args(args).current_dir(place.dir.path()));
        assert_eq!(out.code, Some(0), "{program} {args:?}: {}{}", out.stdout, out.stderr);
    };
    there("mkntfs", &["-F", "-Q", "volume"]);
    there("wimlib-imagex", &["apply", "made.wim", "1", "volume"]);
    place.run(["os-image", "import", "made.wim", "--name", "made:1"]).ok();
    let made = entries(&layer(&place, "made:1"));
    for compression in ["none", "xpress", "lzx"] {
        let file = format!("{compression}.wim");
        let compress = format!("--compress={compression}");
        there("wimlib-imagex", &["capture", "volume", &file, "Nano", &compress]);
        let properties = ["ARCH=9", "VERSION/MAJOR=10", "VERSION/BUILD=14393", "VERSION/SPBUILD=1003"];
        let mut args = vec!["info".to_string(), file.clone(), "1".into()];
        for property in properties {
            args.extend(["--image-property".into(), format!("WINDOWS/{property}")]);
        }
        there("wimlib-imagex", &args.iter().map(String::as_str).collect::<Vec<_>>());
        let name = format!("{compression}:1");
        place.run(["os-image", "import", &file, "--name", &name]).ok();
        assert_eq!(entries(&layer(&place, &name)), made, "{compression}");
    }
    place.verify();
}
