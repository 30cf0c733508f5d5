//! A small root file system of busybox for tests, and short ways to run steps in it. Tests that need root or busybox
//! say so on stderr and pass where those are missing.
#![allow(dead_code)]

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use sandbox::{
    Error, Exit, Folder, MountFd, Overlay, OverlayOptions, Runtime, SandboxSpec, Status, Stdio, Sync, Upper,
    XattrPrefix,
};

/// A lower folder with busybox, an upper folder, and what else a test puts into `dir`.
pub struct Image {
    pub dir: tempfile::TempDir,
    pub runtime: Runtime,
}

/// `None` (with a word on stderr) where steps can't run.
pub fn image() -> Option<Image> {
    if sandbox::userns::needed() {
        eprintln!("skipped: needs root");
        return None;
    }
    let Some(busybox) = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists())
    else {
        eprintln!("skipped: needs busybox-static");
        return None;
    };
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let lower = dir.path().join("lower");
    for name in ["bin", "etc", "tmp", "root", "home"] {
        fs::create_dir_all(lower.join(name)).unwrap();
    }
    fs::copy(busybox, lower.join("bin/busybox")).unwrap();
    let applets = Command::new(busybox).arg("--list").output().unwrap();
    for name in String::from_utf8(applets.stdout).unwrap().lines().filter(|n| *n != "busybox") {
        symlink("busybox", lower.join("bin").join(name)).unwrap();
    }
    fs::write(lower.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home:/bin/sh\n")
        .unwrap();
    for name in ["upper", "work"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let runtime = Runtime::with_program(env!("CARGO_BIN_EXE_sandbox-runner")).unwrap();
    Some(Image { dir, runtime })
}

impl Image {
    pub fn lower(&self) -> PathBuf {
        self.dir.path().join("lower")
    }

    pub fn upper(&self) -> PathBuf {
        self.dir.path().join("upper")
    }

    pub fn mount(&self) -> MountFd {
        let work = self.dir.path().join("work");
        let xattrs = if sandbox::userns::inside() { XattrPrefix::User } else { XattrPrefix::Trusted };
        let options = OverlayOptions { xattrs, sync: Sync::Durable, ..OverlayOptions::default() };
        let (lower, upper) = (self.lower(), self.upper());
        let upper = Upper { upper: Folder::Path(&upper), work: Folder::Path(&work) };
        Overlay::mount(&[Folder::Path(&lower)], Some(upper), options).unwrap()
    }

    /// A step that runs `script` with the usual environment.
    pub fn step(&self, script: &str) -> SandboxSpec {
        let mut spec = SandboxSpec::new(self.mount(), ["/bin/sh", "-c", script]);
        spec.env = vec![("PATH".into(), "/usr/bin:/bin".into()), ("HOME".into(), "/root".into())];
        spec
    }

    pub fn run_spec(&self, spec: SandboxSpec) -> Result<(Exit, String), Error> {
        run(&self.runtime, spec)
    }

    /// Runs a script that must succeed and returns its output.
    pub fn sh(&self, script: &str) -> String {
        self.sh_spec(self.step(script))
    }

    pub fn sh_spec(&self, spec: SandboxSpec) -> String {
        let (exit, output) = self.run_spec(spec).unwrap_or_else(|e| panic!("{}", explain(&e)));
        assert_eq!(exit.status, Status::Code(0), "{output}");
        output
    }

    /// Names below the upper folder, sorted: what the layer would hold.
    pub fn changes(&self) -> Vec<String> {
        let mut out = Vec::new();
        let mut todo = vec![self.upper()];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                out.push(path.strip_prefix(self.upper()).unwrap().to_str().unwrap().to_owned());
                if path.symlink_metadata().unwrap().is_dir() {
                    todo.push(path);
                }
            }
        }
        out.sort();
        out
    }
}

/// Runs a step and reads its output (both streams in one) to the end.
pub fn run(runtime: &Runtime, spec: SandboxSpec) -> Result<(Exit, String), Error> {
    let (mut read, write) = pipe();
    let child = runtime.spawn(spec, Stdio::merged(write).unwrap())?;
    let mut output = Vec::new();
    read.read_to_end(&mut output).unwrap();
    let exit = child.wait()?;
    Ok((exit, String::from_utf8_lossy(&output).into_owned()))
}

pub fn pipe() -> (fs::File, OwnedFd) {
    let (read, write) = std::io::pipe().unwrap();
    (OwnedFd::from(read).into(), write.into())
}

/// An error with its causes.
pub fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(cause) = at {
        text.push_str(&format!(": {cause}"));
        at = cause.source();
    }
    text
}

/// Word size of a program.
#[derive(Clone, Copy, PartialEq)]
pub enum Class {
    Bits32,
    Bits64,
}

/// Writes a static x86 program of nothing but `code`.
pub fn write_elf(path: &Path, class: Class, code: &[u8], mode: u32) {
    let base = 0x40_0000u64;
    let wide = class == Class::Bits64;
    let (header, entry) = if wide { (64u64, 56u64) } else { (52, 32) };
    let start = header + entry;
    let size = start + code.len() as u64;
    let mut out = vec![0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |out: &mut Vec<u8>, n: u16| out.extend(n.to_le_bytes());
    let word = |out: &mut Vec<u8>, n: u32| out.extend(n.to_le_bytes());
    let address = |out: &mut Vec<u8>, n: u64| match wide {
        true => out.extend(n.to_le_bytes()),
        false => out.extend((n as u32).to_le_bytes()),
    };
    half(&mut out, 2);
    half(&mut out, if wide { 62 } else { 3 });
    word(&mut out, 1);
    address(&mut out, base + start);
    address(&mut out, header);
    address(&mut out, 0);
    word(&mut out, 0);
    for n in [header as u16, entry as u16, 1, 0, 0, 0] {
        half(&mut out, n);
    }
    word(&mut out, 1);
    if wide {
        word(&mut out, 5);
    }
    for n in [0, base, base, size, size] {
        address(&mut out, n);
    }
    if !wide {
        word(&mut out, 5);
    }
    address(&mut out, 0x1000);
    out.extend(code);
    fs::write(path, out).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
