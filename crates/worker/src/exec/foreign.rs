//! Steps for another architecture than this machine's: who runs their programs.
//!
//! What the host has registered with binfmt_misc is used. Else an emulator that is only installed is registered for
//! the step alone (see [`sandbox::Emulator`]).

use oci::Platform;
use sandbox::Emulator;
use std::fs;
use std::path::{Path, PathBuf};

/// Where Linux distributions put emulators.
const FOLDERS: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/usr/libexec/qemu-binfmt"];
const REGISTRY: &str = "/proc/sys/fs/binfmt_misc";

fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// Whether this machine runs the programs as they are.
fn native(architecture: &str) -> bool {
    // Processors of 64 bits run the programs of 32; some of arm's don't, and the kernel says so then.
    matches!(
        (host_architecture(), architecture),
        ("amd64", "amd64" | "386") | ("arm64", "arm64" | "arm") | ("386", "386")
    ) || host_architecture() == architecture
}

/// qemu's name for an architecture.
fn qemu_name(architecture: &str) -> &str {
    match architecture {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "386" => "i386",
        "loong64" => "loongarch64",
        "mips64le" => "mips64el",
        other => other,
    }
}

/// What the host has registered.
enum Registered {
    /// In a way that works in every root file system.
    Fixed,
    /// The emulator would have to be in the root.
    ByPath,
    No,
}

fn registered(name: &str) -> Registered {
    match fs::read_to_string(Path::new(REGISTRY).join(format!("qemu-{name}"))) {
        Ok(text) if text.starts_with("enabled") => {
            let fixed = text.lines().any(|l| l.starts_with("flags:") && l.contains('F'));
            if fixed { Registered::Fixed } else { Registered::ByPath }
        }
        _ => Registered::No,
    }
}

/// The emulator that a step for `platform` needs of us: none where the machine or its host can do without.
pub fn emulator(platform: &Platform) -> Option<Emulator> {
    let architecture = platform.architecture.as_str();
    if native(architecture) || matches!(registered(qemu_name(architecture)), Registered::Fixed) {
        return None;
    }
    let program = installed(qemu_name(architecture))?;
    Some(Emulator { architecture: architecture.to_string(), program })
}

fn installed(name: &str) -> Option<PathBuf> {
    let names = [format!("qemu-{name}-static"), format!("qemu-{name}")];
    let paths = FOLDERS.iter().flat_map(|folder| names.iter().map(move |name| Path::new(folder).join(name)));
    paths.filter(|path| path.is_file()).find(|path| is_static(path))
}

/// Whether a program names no dynamic loader: that one would be looked for in the step's root.
fn is_static(program: &Path) -> bool {
    use std::io::Read;
    let mut head = Vec::new();
    let read = fs::File::open(program).and_then(|f| f.take(4096).read_to_end(&mut head));
    read.is_ok() && names_loader(&head) == Some(false)
}

/// `None` for what is no ELF file of 64 bits in this machine's order.
fn names_loader(head: &[u8]) -> Option<bool> {
    const INTERPRETER: u32 = 3;
    if !head.starts_with(b"\x7fELF\x02") {
        return None;
    }
    let half = |at: usize| head.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes);
    let start = u64::from_ne_bytes(head.get(32..40)?.try_into().ok()?) as usize;
    let (size, count) = (usize::from(half(54)?), usize::from(half(56)?));
    let kinds: Option<Vec<u32>> = (0..count)
        .map(|n| {
            let at = start.checked_add(size.checked_mul(n)?)?;
            head.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
        })
        .collect();
    kinds.map(|kinds| kinds.contains(&INTERPRETER))
}

/// What to do about programs of a platform that don't start. `None` where the platform is this machine's.
pub(super) fn hint(platform: &Platform) -> Option<String> {
    let architecture = platform.architecture.as_str();
    if host_architecture() == architecture {
        return None;
    }
    let name = qemu_name(architecture);
    Some(match registered(name) {
        Registered::Fixed => {
            "an emulator is registered, but it could not start the program: is the base image really of this platform?".into()
        }
        Registered::ByPath => format!(
            "qemu-{name} is registered with binfmt_misc without flag F (fix binary), so that steps can't see it: \
             install qemu-user-static instead of qemu-user"
        ),
        Registered::No if installed(name).is_some() => {
            "an emulator is installed, but it could not start the program: is the base image really of this platform? \
             Before Linux 6.7 it must also be registered (on Debian: apt-get install binfmt-support)"
                .into()
        }
        Registered::No => format!(
            "this machine can't run programs of {platform}: install an emulator (on Debian: apt-get install \
             qemu-user-static, and binfmt-support before Linux 6.7)"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaders_are_seen() {
        let program = |kinds: &[u32]| {
            let mut head = b"\x7fELF\x02".to_vec();
            head.resize(64, 0);
            head[32] = 64;
            head[54] = 56;
            head[56] = kinds.len() as u8;
            for kind in kinds {
                head.extend(kind.to_ne_bytes());
                head.extend([0; 52]);
            }
            head
        };
        assert_eq!(names_loader(&program(&[1, 1, 2])), Some(false));
        assert_eq!(names_loader(&program(&[6, 3, 1])), Some(true));
        assert_eq!(names_loader(&program(&[1, 1])[..100]), None, "cut short");
        assert_eq!(names_loader(b"#!/bin/sh"), None);
    }

    #[test]
    fn what_runs_as_it_is() {
        assert!(
            native(host_architecture()) && emulator(&Platform::new("linux", host_architecture())).is_none()
        );
        assert!(!native("pdp11") && emulator(&Platform::new("linux", "pdp11")).is_none());
    }
}
