//! Programs of other machines, for one step: a user namespace with a binfmt_misc of its own (Linux 6.7), in which an
//! emulator is registered. Nothing is registered on the host, and all of it goes away with the step.
//!
//! The namespace maps every id to itself, so that files belong to whom they would belong without it. What it takes from
//! a step is what the kernel gives to no user namespace but the first: making device nodes.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;

use crate::overlay::new_filesystem;
use crate::rootdir::RootDir;
use crate::spec::Emulator;
use crate::sys::{self, Forked};
use crate::wire;

/// Keep it until the step is over.
pub struct Emulation {
    /// For the step's first process to enter.
    pub user_namespace: OwnedFd,
    /// The registration is gone with the last descriptor of its file system.
    _registry: OwnedFd,
}

impl Emulation {
    /// Makes the namespace. Must only be called by a single-threaded process.
    pub fn new(emulator: &Emulator) -> io::Result<Emulation> {
        let line = registration(emulator)
            .ok_or_else(|| io::Error::other("nothing is known about programs of this architecture"))?;
        let (ours, theirs) = UnixStream::pair()?;
        match sys::fork_into(libc::CLONE_NEWUSER | libc::CLONE_NEWNS, None)? {
            Forked::Child => {
                drop(ours);
                let code = i32::from(register(&line, &theirs.into()).is_err());
                // SAFETY: ends the forked process at once.
                unsafe { libc::_exit(code) }
            }
            Forked::Parent { pid, .. } => {
                drop(theirs);
                let ours = OwnedFd::from(ours);
                let made = same_ids(pid)
                    .and_then(|()| wire::send(&ours, 0u8))
                    .and_then(|()| wire::receive::<(OwnedFd, OwnedFd)>(&ours));
                drop(ours);
                let _status = sys::reap(pid);
                made.map(|(user_namespace, registry)| Emulation { user_namespace, _registry: registry })
            }
        }
    }
}

/// Maps the ids of the namespace of `pid` to the same ones of ours.
fn same_ids(pid: libc::pid_t) -> io::Result<()> {
    for file in ["uid_map", "gid_map"] {
        let own = std::fs::read_to_string(format!("/proc/self/{file}"))?;
        let lines = own.lines().filter_map(|line| {
            let mut numbers = line.split_whitespace();
            let (inside, _, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
            Some(format!("{inside} {inside} {count}\n"))
        });
        std::fs::write(format!("/proc/{pid}/{file}"), lines.collect::<String>())?;
    }
    Ok(())
}

/// In the new namespaces: registers the emulator and hands over what keeps the registration alive.
fn register(line: &str, parent: &OwnedFd) -> io::Result<()> {
    // Only with its ids the emulator can be opened.
    wire::receive::<u8>(parent)?;
    let registry = new_filesystem("binfmt_misc", &[], MountAttrFlags::empty())?;
    let root = RootDir::from(registry.try_clone()?);
    let file = root.open_file("register", OFlags::WRONLY).map_err(io::Error::other)?;
    rustix::io::write(&file, line.as_bytes())?;
    let own = rustix::fs::open("/proc/self/ns/user", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    wire::send(parent, (own, registry))
}

/// Width of addresses, order of bytes, number of the machine: what an ELF header says of an architecture, which is
/// named as images name it.
fn header(architecture: &str) -> Option<(u8, u8, u16)> {
    const LITTLE: u8 = 1;
    const BIG: u8 = 2;
    Some(match architecture {
        "amd64" => (2, LITTLE, 62),
        "386" => (1, LITTLE, 3),
        "arm64" => (2, LITTLE, 183),
        "arm" => (1, LITTLE, 40),
        "riscv64" => (2, LITTLE, 243),
        "ppc64le" => (2, LITTLE, 21),
        "s390x" => (2, BIG, 22),
        "loong64" => (2, LITTLE, 258),
        "mips64le" => (2, LITTLE, 8),
        _ => return None,
    })
}

/// What is written to `register`: programs and shared objects with this header are for the emulator, which is opened
/// now (`F`), so that it need not be in the step's root, and gets them open (`O`), with their setuid bits (`C`).
fn registration(emulator: &Emulator) -> Option<String> {
    let (class, order, machine) = header(&emulator.architecture)?;
    let (machine, kind, kind_mask) = match order {
        1 => (machine.to_le_bytes(), [2, 0], [0xfe, 0xff]),
        _ => (machine.to_be_bytes(), [0, 2], [0xff, 0xfe]),
    };
    // The eighth byte names an ABI that few care about.
    let magic = [&[0x7f, b'E', b'L', b'F', class, order, 1][..], &[0; 9], &kind, &machine].concat();
    let mask = [&[0xff; 7][..], &[0], &[0xff; 8], &kind_mask, &[0xff; 2]].concat();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("\\x{b:02x}")).collect::<String>();
    let program = interpreter(&emulator.program)?;
    Some(format!(":ctrbuild:M::{}:{}:{program}:OCF", hex(&magic), hex(&mask)))
}

/// The kernel takes no separator in the path, and no more than 127 bytes of it.
fn interpreter(program: &Path) -> Option<&str> {
    program.to_str().filter(|p| p.starts_with('/') && p.len() < 128 && !p.contains([':', '\n']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_are_those_of_qemu() {
        let line = |architecture: &str| {
            registration(&Emulator { architecture: architecture.into(), program: "/usr/bin/qemu".into() })
        };
        // From qemu-binfmt-conf.sh, apart from flags.
        let arm64 = r":ctrbuild:M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu:OCF";
        assert_eq!(line("arm64").as_deref(), Some(arm64));
        let s390x = r":ctrbuild:M::\x7f\x45\x4c\x46\x02\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x16:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff:/usr/bin/qemu:OCF";
        assert_eq!(line("s390x").as_deref(), Some(s390x));
        assert_eq!(line("pdp11"), None);
        for bad in ["qemu", "/a:b", "/a\nb", &format!("/{}", "x".repeat(127))] {
            assert_eq!(interpreter(Path::new(bad)), None, "{bad}");
        }
    }
}
