//! Every target for a while, on any compiler: seeds, and what a small generator makes of them.
//!
//! A second each by default; `CTRBUILD_TORTURE=long` gives each two minutes. The seed of the generator is fixed;
//! `CTRBUILD_FUZZ_SEED` is another one. What fails is printed as bytes that can go into the seeds.

use fuzzing::TARGETS;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use testkit::{WimImage, WimNode};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Words that formats know; put where they were not expected.
const WORDS: &[&[u8]] = &[
    b"../canary/file",
    b"/",
    b"..",
    b".wh.",
    b".wh..wh..opq",
    b"%sha256-",
    b"sha256:",
    b"\0",
    b"\n",
    b"-1",
    b"4294967296",
    b"18446744073709551616",
    b"\xff\xfe",
    b"$",
    b"${a:-",
    b"}",
    b"\\",
    b"<<EOF\n",
    b"*",
    b"**",
    b"[",
    b"!",
    b"{",
    b"\"",
    b":",
    b"@",
    b"\"manifests\":[",
    b"\"layers\":[",
    b"GNU.sparse.size=",
    b"30 mtime=1\n",
    b"path=",
    b"0000000",
    b"ustar",
    b" - cgroup2 ",
];

fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        match random.below(9) {
            0 if !bytes.is_empty() => {
                let at = at.min(bytes.len() - 1);
                bytes[at] ^= 1 << random.below(8);
            }
            1 if !bytes.is_empty() => {
                let at = at.min(bytes.len() - 1);
                bytes[at] = random.next() as u8;
            }
            2 => drop(bytes.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
            3 => {
                let end = (at + random.below(40)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + random.below(600)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, part);
            }
            5 => bytes.truncate(at),
            6 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            7 => {
                let word = WORDS[random.below(WORDS.len())];
                let end = (at + word.len()).min(bytes.len());
                bytes.splice(at..end, word.iter().copied());
            }
            _ => fix_sums(&mut bytes),
        }
        bytes.truncate(64 << 10);
    }
    if random.below(2) == 0 {
        fix_sums(&mut bytes);
    }
    bytes
}

/// Give every block that looks like a tar header its checksum, so that damage gets past the first check.
fn fix_sums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] != *b"ustar" {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fn tar(of: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    of(&mut out);
    out.extend([0; 1024]);
    out
}

/// One entry: a header of the old kind, and its data.
fn entry(out: &mut Vec<u8>, kind: u8, name: &str, link: &str, data: &[u8]) {
    let mut h = [0u8; 512];
    h[..name.len()].copy_from_slice(name.as_bytes());
    h[100..108].copy_from_slice(b"0000644\0");
    h[108..116].copy_from_slice(b"0000000\0");
    h[116..124].copy_from_slice(b"0000000\0");
    h[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
    h[136..148].copy_from_slice(b"00000000001\0");
    h[156] = kind;
    h[157..157 + link.len()].copy_from_slice(link.as_bytes());
    h[257..265].copy_from_slice(b"ustar\x0000");
    h[329..345].copy_from_slice(b"0000001\x000000003\0");
    fix_sums(&mut h);
    out.extend(h);
    out.extend(data);
    out.resize(out.len().next_multiple_of(512), 0);
}

fn archives() -> Vec<Vec<u8>> {
    let pax = |text: &str| format!("{} {text}\n", text.len() + 4).into_bytes();
    let mut all = vec![
        tar(|o| {
            entry(o, b'5', "dir/", "", b"");
            entry(o, b'0', "dir/file", "", b"hello");
            entry(o, b'1', "dir/hard", "dir/file", b"");
            entry(o, b'2', "dir/soft", "../canary/file", b"");
            entry(o, b'0', "dir/.wh.gone", "", b"");
            entry(o, b'0', "dir/.wh..wh..opq", "", b"");
        }),
        tar(|o| {
            entry(o, b'2', "link", "../canary", b"");
            entry(o, b'0', "link/file", "", b"bad");
            entry(o, b'5', "link/", "", b"");
            entry(o, b'1', "hard", "../canary/file", b"");
            entry(o, b'0', "../canary/file", "", b"bad");
        }),
        tar(|o| {
            entry(o, b'x', "pax", "", &pax("path=long/name"));
            entry(o, b'0', "short", "", b"data");
            entry(o, b'x', "pax", "", &pax("SCHILY.xattr.user.a=b"));
            entry(o, b'3', "null", "", b"");
            entry(o, b'6', "fifo", "", b"");
            entry(o, b'L', "././@LongLink", "", b"very/long/name\0");
            entry(o, b'0', "x", "", b"1");
        }),
        tar(|o| {
            let mut map = pax("GNU.sparse.major=1");
            map.extend(pax("GNU.sparse.minor=0"));
            map.extend(pax("GNU.sparse.name=s"));
            map.extend(pax("GNU.sparse.realsize=9999"));
            entry(o, b'x', "pax", "", &map);
            let mut data = b"1\n512\n3\n".to_vec();
            data.resize(512, 0);
            data.extend(b"abc");
            entry(o, b'0', "GNUSparse/s", "", &data);
        }),
    ];
    all.push(testkit::layer_tar(&[("etc/passwd", b"root:x:0:0"), ("bin/sh", &[7; 3000])]));
    all
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let texts = |all: &[&str]| all.iter().map(|t| t.as_bytes().to_vec()).collect::<Vec<_>>();
    match name {
        "archive_layer" => archives(),
        "archive_extract" => {
            let host = oci::Platform::new("linux", "amd64");
            let packed = testkit::image(&host, &[&[("a/b", b"c")], &[("d", &[1; 5000])]]);
            let mut all = archives();
            all.extend(packed.blobs.digests().iter().filter_map(|d| packed.blobs.get(d)).map(|b| b.to_vec()));
            all
        }
        "image_document" | "image_config" => {
            let host = oci::Platform::new("linux", "amd64");
            let one = testkit::image(&host, &[&[("a", b"b")]]);
            let many = testkit::index(&[one.clone(), one]);
            let mut all: Vec<Vec<u8>> = many.content.documents().iter().map(|d| d.bytes().to_vec()).collect();
            all.push(many.image.config.bytes.to_vec());
            all.extend(texts(&[
                r#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{},"layers":[]}"#,
                r#"{"architecture":"arm64","os":"linux","config":{"Env":["A=b"],"ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["CMD","x"],"Interval":1}},"rootfs":{"type":"layers","diff_ids":[]},"history":[{"empty_layer":true}]}"#,
            ]));
            all
        }
        "image_reference" => texts(&[
            "alpine",
            "docker.io/library/alpine:3",
            "127.0.0.1:5000/a/b@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "[::1]:80/a:b",
            "localhost/x",
            "sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "a__b/c.d-e:T_1.2-3",
        ]),
        "image_platform" => texts(&[
            "linux/amd64",
            "linux/arm/v7",
            "windows(10.0.17763)/amd64",
            "arm64",
            "linux/amd64/v3",
            "darwin",
        ]),
        "machine_passwd" => texts(&[
            "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:\n",
            "app:x:1001:a,b\n:::\n",
            "root:x:-1:4294967296:::\n",
        ]),
        "machine_mountinfo" => texts(&[
            "34 25 0:29 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n4:memory:/user\n",
            "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n0::/a/b\n",
            "31 23 0:27 /.. /mnt\\040x rw - cgroup2 none rw\n0::/../x\n",
        ]),
        "store_records" => texts(&[
            r#"{"version":1,"key":"0707070707070707070707070707070707070707070707070707070707070707","stamp":{"boot":"b","batch":"synced"},"payload":null,"snapshots":[],"blobs":[],"parts":{},"created":1}"#,
            r#"{"version":1,"stamp":{"boot":"b","batch":"x"},"diff_id":"sha256:0707070707070707070707070707070707070707070707070707070707070707","size":1,"snapshot":"07070707070707070707070707070707","blobs":[]}"#,
            r#"{"version":1,"name":"name","target":{"media_type":"m","digest":"sha256:0707070707070707070707070707070707070707070707070707070707070707","size":3},"kind":"image","updated":1}"#,
            r#"{"version":1,"diff_id":null,"tar_size":null,"implicit_dirs":["a%25"],"extra":{},"created":1,"stamp":{"boot":"b","batch":"synced"}}"#,
            "0707070707070707070707070707070707070707070707070707070707070707 12\n",
            "b 0707070707070707070707070707070707070707070707070707070707070707\ns 07070707070707070707070707070707\n",
        ]),
        "dockerfile_ignore" => {
            texts(&["*\n!a/**/b\n# c\0a/x/b", "**/*.[a-z]\n\\!x\0d/e.f", "a\n!a/b\n\0a/b/c"])
        }
        "dockerfile_word" => {
            texts(&["${a:-${b:+x}}'y'\"$a\"\0value", "a\\ b ${a//x/y}${a#*}\0xx", "${a%%b}\0abb"])
        }
        "dockerfile_parse" => texts(&[
            "# syntax=x\nFROM a AS b\nRUN <<EOF\nx\nEOF\nCOPY --from=b [\"a\", \"b\"]\n",
            "# escape=`\nFROM a\nRUN a `\n b\n",
            "FROM a\nHEALTHCHECK --interval=1s CMD x\nONBUILD RUN --mount=type=cache,target=/a x\nLABEL \"a b\"=c d=\\\n e\n",
        ]),
        "wim_file" => vec![windows_image()],
        "wim_tree" => vec![metadata(&windows_image())],
        other => panic!("no seeds for {other}"),
    }
}

fn windows_image() -> Vec<u8> {
    let file = WimNode {
        streams: vec![("stream".into(), b"of it".to_vec())],
        descriptor: Some(vec![1; 24]),
        short_name: "F~1".into(),
        link_group: 1,
        ..WimNode::file("file", b"data")
    };
    let link = WimNode::link("link", 0xa000_0003, "\\??\\C:\\x", "C:\\x");
    let folders = vec![WimNode::folder("a", vec![WimNode::folder("b", vec![file.clone()])]), file, link];
    testkit::wim(&[WimImage::windows("name", [10, 0, 20348, 1], WimNode::folder("", folders))])
}

/// The metadata of the only image of a file, which are not compressed.
fn metadata(file: &[u8]) -> Vec<u8> {
    let number = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let (table, length) = (number(56) as usize, number(64) as usize);
    // The last entry of the table, which begins with size and place.
    let entry = table + length - 50;
    let (size, at) = ((number(entry) & (u64::MAX >> 8)) as usize, number(entry + 8) as usize);
    file[at..at + size].to_vec()
}

fn run(name: &str) {
    let (_, target) = TARGETS.iter().find(|(n, _)| *n == name).expect("a target");
    let long = std::env::var("CTRBUILD_TORTURE").is_ok_and(|l| l == "long");
    let time = Duration::from_secs(if long { 120 } else { 1 });
    let seed = std::env::var("CTRBUILD_FUZZ_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0x9e37_79b9);
    let mut random = Random(seed);
    let seeds = seeds(name);
    let started = Instant::now();
    let mut count = 0u64;
    let mut slowest = Duration::ZERO;
    while started.elapsed() < time || count < 50 {
        let bytes = match seeds.get(count as usize) {
            Some(seed) => seed.clone(),
            None => mutate(&seeds, &mut random),
        };
        let begun = Instant::now();
        if catch_unwind(AssertUnwindSafe(|| target(&bytes))).is_err() {
            panic!("{name}, number {count}: {}", bytes.escape_ascii());
        }
        slowest = slowest.max(begun.elapsed());
        count += 1;
    }
    println!("{name}: {count} inputs, the slowest took {slowest:?}");
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { run(stringify!($name)); })*

        #[test]
        fn all_targets_are_here() {
            let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

targets! {
    archive_extract archive_layer dockerfile_ignore dockerfile_parse dockerfile_word image_config image_document
    image_platform image_reference machine_mountinfo machine_passwd store_records wim_file wim_tree
}
