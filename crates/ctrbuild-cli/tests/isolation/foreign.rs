//! Programs of other architectures, and images for several.
//!
//! The programs are made by hand, so that no compiler is needed: each says one line.

use crate::builder::{Builder, everybody};
use crate::place::{has, run};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// An ELF file of one segment whose code is followed by `text`.
fn program(bits: u8, machine: u16, code: &[u8], text: &str) -> Vec<u8> {
    let wide = bits == 64;
    let (header, entry_size, base) = if wide { (64u64, 56u64, 0x40_0000u64) } else { (52, 32, 0x804_8000) };
    let start = header + entry_size;
    let size = start + (code.len() + text.len()) as u64;
    let word = |n: u64| if wide { n.to_le_bytes().to_vec() } else { (n as u32).to_le_bytes().to_vec() };
    let half = |n: u64| (n as u16).to_le_bytes().to_vec();
    let long = |n: u64| (n as u32).to_le_bytes().to_vec();
    let mut out = vec![0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    out.extend(
        [half(2), half(u64::from(machine)), long(1), word(base + start), word(header), word(0)].concat(),
    );
    out.extend([long(0), half(header), half(entry_size), half(1), half(0), half(0), half(0)].concat());
    let (readable_executable, align) = (5, 0x1000);
    out.extend(long(1));
    if wide {
        out.extend(long(readable_executable));
    }
    out.extend([word(0), word(base), word(base), word(size), word(size)].concat());
    if !wide {
        out.extend(long(readable_executable));
    }
    out.extend(word(align));
    out.extend(code);
    out.extend(text.as_bytes());
    out
}

/// write(1, text) and exit(0).
fn arm64(text: &str) -> Vec<u8> {
    let n = text.len() as u32;
    let code = [
        0xd280_0020,
        0x1000_00e1,
        0xd280_0002 | n << 5,
        0xd280_0808,
        0xd400_0001,
        0xd280_0000,
        0xd280_0ba8,
        0xd400_0001,
    ];
    program(64, 183, &code.map(u32::to_le_bytes).concat(), text)
}

fn amd64(text: &str) -> Vec<u8> {
    let n = text.len() as u8;
    let code = [
        &[0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0x48, 0x8d, 0x35, 16, 0, 0, 0, 0xba, n, 0, 0, 0, 0x0f, 0x05][..],
        &[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05],
    ];
    program(64, 62, &code.concat(), text)
}

fn i386(text: &str) -> Vec<u8> {
    let n = text.len() as u8;
    // The text is 84 bytes of headers and 31 of code above the start.
    let code = [
        &[0xb8, 4, 0, 0, 0, 0xbb, 1, 0, 0, 0, 0xb9, 84 + 31, 0x80, 0x04, 0x08, 0xba, n, 0, 0, 0, 0xcd, 0x80]
            [..],
        &[0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80],
    ];
    program(32, 3, &code.concat(), text)
}

fn context(b: &Builder, recipe: &str, files: &[(&str, Vec<u8>)]) -> String {
    let context = b.place.context_in("foreign", &[("Dockerfile", recipe)]);
    for (name, bytes) in files {
        let path = b.place.path("foreign").join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    context
}

fn registered_on_the_host() -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = fs::read_dir("/proc/sys/fs/binfmt_misc")
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    names.sort();
    names
}

/// Whether steps can have a binfmt_misc of their own: Linux 6.7.
fn new_enough() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    if version < (6, 7) {
        println!("skipped: needs Linux 6.7");
    }
    version >= (6, 7)
}

const HOST_IS_AMD64: bool = cfg!(target_arch = "x86_64");

#[test]
fn an_installed_emulator_is_used_and_not_registered_on_the_host() {
    everybody(|b| {
        if !HOST_IS_AMD64 || !new_enough() || !has(&["qemu-aarch64-static"]) {
            return;
        }
        let before = registered_on_the_host();
        let recipe = "FROM scratch\nCOPY p /p\nRUN [\"/p\"]\nUSER 1234\nRUN --network=none [\"/p\"]\n";
        let folder = context(b, recipe, &[("p", arm64("said by arm64\n"))]);
        let said = b.build_in(&folder, &["--platform", "linux/arm64", "--no-cache", "-t", "arm"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        assert_eq!(said.stderr.matches("said by arm64").count(), 2, "{}", said.stderr);
        assert!(b.run(&["inspect", "arm"]).ok().contains("\"arm64\""));
        assert_eq!(registered_on_the_host(), before);
        // A program of this machine in an image for another one.
        let folder = context(b, recipe, &[("p", amd64("said by amd64\n"))]);
        let said = b.build_in(&folder, &["--platform", "linux/arm64", "--no-cache"]);
        assert_eq!(said.stderr.matches("said by amd64").count(), 2, "{}", said.stderr);
    });
}

/// chown("/owned", 33, 44), setresuid(8, 8, 8), creat("/tmp/own", 0600); the exit code is 0 if the first two worked.
fn ids_on_arm64() -> Vec<u8> {
    let (owned, own) = ("/owned\0", "/tmp/own\0");
    let set = |register: u32, value: u32| 0xd280_0000 | value << 5 | register;
    let (call, here) = (0xd400_0001, 0x9280_0c60);
    // The address of what follows `ahead` instructions and `bytes` later.
    let address = |ahead: usize, bytes: usize| {
        let distance = (ahead * 4 + bytes) as u32;
        0x1000_0001 | (distance & 3) << 29 | (distance >> 2) << 5
    };
    let code = [
        &[here, address(22, 0), set(2, 33), set(3, 44), set(4, 0), set(8, 54), call, 0xaa00_03f3][..],
        &[set(0, 8), set(1, 8), set(2, 8), set(8, 147), call, 0xaa00_0273],
        &[here, address(8, owned.len()), set(2, 0x41), set(3, 0o600), set(8, 56), call],
        &[0xaa13_03e0, set(8, 93), call],
    ];
    let code = code.concat();
    assert_eq!(code.len(), 23);
    program(
        64,
        183,
        &code.iter().flat_map(|i: &u32| i.to_le_bytes()).collect::<Vec<_>>(),
        &format!("{owned}{own}"),
    )
}

/// What a user namespace of the step's own must not change.
#[test]
fn ids_are_the_same_under_an_emulator() {
    everybody(|b| {
        if !HOST_IS_AMD64 || !new_enough() || !has(&["qemu-aarch64-static"]) {
            return;
        }
        let recipe = "FROM scratch\nCOPY p owned /\nCOPY --chmod=1777 tmp /tmp\nRUN [\"/p\"]\n";
        let folder = context(b, recipe, &[("p", ids_on_arm64()), ("owned", Vec::new())]);
        fs::create_dir_all(b.place.path("foreign/tmp")).unwrap();
        let tar = b.place.path(if b.is_root() { "home/ids.tar" } else { "user/ids.tar" });
        let output = format!("type=tar,dest={}", tar.display());
        let said = b.build_in(&folder, &["--platform", "linux/arm64", "--no-cache", "-o", &output]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let files = run(Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(&tar)).ok();
        let line = |name: &str| files.lines().find(|l| l.ends_with(name)).unwrap_or_default().to_string();
        assert!(line(" owned").starts_with("-rwxr-xr-x 33/44 "), "{files}");
        assert!(line(" tmp/own").starts_with("-rw------- 8/0 "), "{files}");
    });
}

#[test]
fn several_platforms_make_one_index() {
    everybody(|b| {
        if !HOST_IS_AMD64 || !new_enough() || !has(&["qemu-aarch64-static", "skopeo"]) {
            return;
        }
        let recipe = "FROM scratch\nARG TARGETARCH\nCOPY p-$TARGETARCH /p\nRUN [\"/p\"]\n";
        let files = [("p-amd64", amd64("I am amd64\n")), ("p-arm64", arm64("I am arm64\n"))];
        let folder = context(b, recipe, &files);
        let archive = b.place.path(if b.is_root() { "home/both.tar" } else { "user/both.tar" });
        let output = format!("type=oci,dest={}", archive.display());
        let said =
            b.build_in(&folder, &["--platform", "linux/amd64,linux/arm64", "--no-cache", "-o", &output]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        assert!(said.stderr.contains("I am amd64") && said.stderr.contains("I am arm64"), "{}", said.stderr);
        let raw = run(Command::new("skopeo")
            .args(["inspect", "--raw"])
            .arg(format!("oci-archive:{}", archive.display())));
        let index: serde_json::Value = serde_json::from_str(&raw.ok()).unwrap();
        let platforms: Vec<&str> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["platform"]["architecture"].as_str().unwrap())
            .collect();
        assert_eq!(platforms, ["amd64", "arm64"]);
        let digest = said.stdout.trim();
        let sum = run(Command::new("sh")
            .args(["-c", "skopeo inspect --raw \"$0\" | sha256sum"])
            .arg(format!("oci-archive:{}", archive.display())));
        assert_eq!(format!("sha256:{}", sum.ok().split(' ').next().unwrap()), digest);
    });
}

#[test]
fn programs_of_32_bits_run_as_they_are() {
    everybody(|b| {
        if !HOST_IS_AMD64 {
            return println!("skipped: needs amd64");
        }
        let recipe = "FROM scratch\nCOPY p /p\nRUN [\"/p\"]\n";
        let folder = context(b, recipe, &[("p", i386("said by i386\n"))]);
        for platform in ["linux/386", "linux/amd64"] {
            let said = b.build_in(&folder, &["--platform", platform, "--no-cache"]);
            assert!(said.code == Some(0) && said.stderr.contains("said by i386"), "{}", said.stderr);
        }
    });
}

#[test]
fn foreign_programs_name_what_is_missing() {
    everybody(|b| {
        // A machine that qemu doesn't know.
        let mut of_ia64 = amd64("");
        of_ia64[18] = 50;
        let recipe = "FROM scratch\nCOPY p /p\nRUN [\"/p\"]\n";
        let folder = context(b, recipe, &[("p", of_ia64)]);
        let said = b.build_in(&folder, &["--platform", "linux/ia64"]).err();
        assert!(said.contains("exec format error") && said.contains("qemu-user-static"), "{said}");
    });
}
