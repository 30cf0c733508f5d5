//! Helpers of the layer tests: archives built by hand, and a canary outside the destination.
#![allow(dead_code, reason = "each test file uses some of them")]

pub mod dump;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A tar, byte by byte.
#[derive(Default, Clone)]
pub struct Archive(pub Vec<u8>);

#[derive(Clone)]
pub struct Head<'a> {
    pub kind: u8,
    pub name: &'a [u8],
    pub link: &'a [u8],
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    pub mtime: u64,
    pub dev: (u32, u32),
}

impl Default for Head<'_> {
    fn default() -> Self {
        Head {
            kind: b'0',
            name: b"",
            link: b"",
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 1_000_000,
            dev: (0, 0),
        }
    }
}

pub fn block(head: &Head<'_>) -> [u8; 512] {
    let mut b = [0u8; 512];
    let mut put = |at: usize, bytes: &[u8]| b[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &head.name[..head.name.len().min(100)]);
    put(100, format!("{:07o}\0", head.mode).as_bytes());
    put(108, format!("{:07o}\0", head.uid.min(0o7777777)).as_bytes());
    put(116, format!("{:07o}\0", head.gid.min(0o7777777)).as_bytes());
    put(124, format!("{:011o}\0", head.size).as_bytes());
    put(136, format!("{:011o}\0", head.mtime).as_bytes());
    put(156, &[head.kind]);
    put(157, &head.link[..head.link.len().min(100)]);
    put(257, b"ustar\x0000");
    put(329, format!("{:07o}\0", head.dev.0).as_bytes());
    put(337, format!("{:07o}\0", head.dev.1).as_bytes());
    sum(&mut b);
    b
}

pub fn sum(b: &mut [u8; 512]) {
    b[148..156].fill(b' ');
    let total: u32 = b.iter().map(|x| u32::from(*x)).sum();
    b[148..156].copy_from_slice(format!("{total:06o}\0 ").as_bytes());
}

impl Archive {
    pub fn head(mut self, head: Head<'_>) -> Self {
        self.0.extend_from_slice(&block(&head));
        self
    }
    pub fn data(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().div_ceil(512) * 512, 0);
        self
    }
    pub fn file(self, name: &str, data: &str) -> Self {
        self.head(Head { name: name.as_bytes(), size: data.len() as u64, ..Head::default() })
            .data(data.as_bytes())
    }
    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.head(Head { kind: b'5', name: name.as_bytes(), mode, ..Head::default() })
    }
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.head(Head {
            kind: b'2',
            name: name.as_bytes(),
            link: target.as_bytes(),
            mode: 0o777,
            ..Head::default()
        })
    }
    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.head(Head { kind: b'1', name: name.as_bytes(), link: target.as_bytes(), ..Head::default() })
    }
    /// One of each kind of thing, in a folder `a` that is there already, such as all programs can hold.
    pub fn kinds(self) -> Self {
        self.head(Head { kind: b'6', name: b"a/pipe", mode: 0o620, ..Head::default() })
            .head(Head { kind: b'3', name: b"a/null", mode: 0o666, dev: (1, 3), ..Head::default() })
            .head(Head { kind: b'4', name: b"a/disk", mode: 0o660, dev: (7, 300), uid: 6, ..Head::default() })
            .head(Head { name: b"a/suid", mode: 0o6755, uid: 1000, gid: 1001, ..Head::default() })
    }
    /// Names, targets and owners that only records can hold.
    pub fn records(self) -> Self {
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
        self.pax(&[("path", long.as_bytes())])
            .file("x", "long")
            .pax(&[("path", "ü/\u{1F600}".as_bytes())])
            .file("x", "names")
            .pax(&[("path", b"bytes/\xff\xfe")])
            .file("x", "names")
            .pax(&[("linkpath", "z".repeat(300).as_bytes())])
            .symlink("a/far", "x")
            .pax(&[("uid", b"3000000000"), ("gid", b"2999999999")])
            .file("a/rich", "")
    }
    /// An extended header with these raw bytes.
    pub fn pax_raw(self, records: &[u8]) -> Self {
        self.head(Head { kind: b'x', name: b"pax", size: records.len() as u64, ..Head::default() })
            .data(records)
    }
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut raw = Vec::new();
        for (key, value) in records {
            let body = key.len() + value.len() + 3;
            let mut total = body + 1;
            while total != body + total.to_string().len() {
                total = body + total.to_string().len();
            }
            raw.extend_from_slice(format!("{total} {key}=").as_bytes());
            raw.extend_from_slice(value);
            raw.push(b'\n');
        }
        self.pax_raw(&raw)
    }
    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// A destination, and next to it a folder that nothing may touch.
pub struct Arena {
    pub dir: TempDir,
    before: Vec<String>,
}

impl Arena {
    pub fn new() -> Arena {
        let dir = tempfile::tempdir().unwrap();
        let canary = dir.path().join("canary");
        fs::create_dir_all(canary.join("sub")).unwrap();
        fs::create_dir(dir.path().join("dest")).unwrap();
        fs::write(canary.join("secret"), "secret").unwrap();
        fs::set_permissions(canary.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("secret", canary.join("link")).unwrap();
        let mut arena = Arena { dir, before: Vec::new() };
        arena.before = arena.outside();
        arena
    }
    pub fn dest(&self) -> PathBuf {
        self.dir.path().join("dest")
    }
    pub fn canary(&self) -> String {
        self.dir.path().join("canary").display().to_string()
    }
    fn outside(&self) -> Vec<String> {
        let mut out: Vec<String> = dump::dump(self.dir.path())
            .unwrap()
            .into_iter()
            .filter(|line| !line.contains(" /dest"))
            .collect();
        for path in ["canary", "canary/secret", "canary/sub"] {
            let meta = fs::symlink_metadata(self.dir.path().join(path)).unwrap();
            use std::os::unix::fs::MetadataExt;
            out.push(format!("{path} {} {} {}", meta.mtime(), meta.mtime_nsec(), meta.nlink()));
            for name in ["trusted.overlay.opaque", "user.overlay.opaque"] {
                let mut value = [0; 16];
                let got = rustix::fs::lgetxattr(self.dir.path().join(path), name, &mut value[..]);
                out.push(format!("{name} {got:?}"));
            }
        }
        out
    }
    /// The lines of the destination, after making sure that the canary lives.
    #[track_caller]
    pub fn dump(&self) -> Vec<String> {
        self.check();
        dump::dump(&self.dest()).unwrap()
    }
    #[track_caller]
    pub fn check(&self) {
        assert_eq!(self.before, self.outside(), "something outside the destination changed");
    }
}

/// Run a program; `None` (and a word on stderr) where it is not installed.
pub fn run(program: &str, args: &[&str], dir: &Path) -> Option<String> {
    match std::process::Command::new(program).args(args).current_dir(dir).output() {
        Ok(out) if out.status.success() => Some(String::from_utf8_lossy(&out.stdout).into_owned()),
        Ok(out) => panic!("{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr)),
        Err(e) => {
            eprintln!("SKIPPED: {program}: {e}");
            None
        }
    }
}

/// Options under which any user can unpack.
pub fn unpack_options() -> layer::unpack::UnpackOptions {
    let (ids, marks) = if in_first_namespace() {
        (layer::IdMap::Identity, layer::Marks::Trusted)
    } else if rustix::process::geteuid().is_root() {
        (layer::IdMap::Identity, layer::Marks::User)
    } else {
        (layer::IdMap::Single, layer::Marks::User)
    };
    layer::unpack::UnpackOptions { ids, marks, ..Default::default() }
}

pub fn extract_options() -> layer::extract::ExtractOptions {
    layer::extract::ExtractOptions { ids: unpack_options().ids, ..Default::default() }
}

/// Root of the machine, not of a user namespace: may make devices and set trusted attributes.
pub fn is_root() -> bool {
    let root = in_first_namespace();
    if !root {
        eprintln!("SKIPPED: needs root");
    }
    root
}

fn in_first_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    rustix::process::geteuid().is_root() && map.contains("4294967295")
}
