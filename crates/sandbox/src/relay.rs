//! The way of a step's packets to the outside: a process between the step's interface and a network stack in
//! user mode (`passt`, `slirp4netns`) that makes connections of the host out of them.
//!
//! The stack believes the packets it gets. One that a step makes by hand (it has `CAP_NET_RAW`) and addresses to
//! 127.0.0.1 would be connected to the *host's* loopback, whatever options forbid of it. Hence the stack never sees
//! the interface itself: this process passes frames on and drops those that name the host's loopback.
//!
//! Invariants:
//! - neither this process nor the stack has any capability, and as root both have a user id of their own;
//! - both live in a pid namespace of which this process is the first: its end is the stack's;
//! - it ends when the builder's end of the socket closes, or with its parent.

use std::ffi::{CString, OsString};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Uid};
use rustix::mount::{MountAttrFlags, MountPropagationFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;
use rustix::thread;

use crate::overlay::tmpfs;
use crate::sys::{self, Forked};
use crate::tap::{HARDWARE, Wire};

/// `argv[0]` of this process.
pub(crate) const MARKER: &str = "ctrbuild-network-relay";
/// What it says once packets get through.
pub(crate) const READY: u8 = b'r';

/// The largest frame: a packet of 65535 bytes and its header.
const MAX_FRAME: usize = 65_535 + ETHERNET;
const ETHERNET: usize = 14;
/// Frames that are passed on at once.
const BATCH: usize = 256 * 1024;
/// How long the stack may take until it answers.
const PATIENCE: Duration = Duration::from_secs(5);
/// A stack that lives this long without an answer is one without IPv4.
const SILENCE: Duration = Duration::from_secs(1);
/// Where slirp4netns listens, in a file system of its own.
const SLIRP_FOLDER: &str = "/run";
const SLIRP_SOCKET: &str = "/run/slirp";
/// The stack's end of its socket.
const STACK_FD: i32 = 3;

/// The program that is the network stack.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkStack {
    /// `passt`, the program that `pasta` is another name of.
    Passt(PathBuf),
    /// `slirp4netns`: IPv4 only.
    Slirp4netns(PathBuf),
}

impl NetworkStack {
    /// Addresses that the stack serves.
    pub(crate) fn wire(&self) -> Wire {
        let mtu = match self {
            NetworkStack::Passt(_) => 65_520,
            // It can take more, and is no faster with it.
            NetworkStack::Slirp4netns(_) => 1500,
        };
        Wire {
            address: Ipv4Addr::new(10, 0, 2, 100),
            mask: Ipv4Addr::new(255, 255, 255, 0),
            gateway: Ipv4Addr::new(10, 0, 2, 2),
            mtu,
        }
    }

    /// The arguments of a relay, after its name.
    pub(crate) fn arguments(&self) -> [OsString; 2] {
        match self {
            NetworkStack::Passt(path) => ["passt".into(), path.into()],
            NetworkStack::Slirp4netns(path) => ["slirp4netns".into(), path.into()],
        }
    }

    fn from_arguments(mut args: impl Iterator<Item = OsString>) -> Option<NetworkStack> {
        let kind = args.next()?;
        let path = PathBuf::from(args.next()?);
        match kind.to_str()? {
            "passt" => Some(NetworkStack::Passt(path)),
            "slirp4netns" => Some(NetworkStack::Slirp4netns(path)),
            _ => None,
        }
    }

    fn program(&self) -> &Path {
        match self {
            NetworkStack::Passt(path) | NetworkStack::Slirp4netns(path) => path,
        }
    }

    /// Its command line.
    fn command(&self) -> Vec<OsString> {
        let Wire { address, gateway, mtu, .. } = self.wire();
        let text = match self {
            NetworkStack::Passt(_) => format!(
                "passt --foreground --quiet --fd {STACK_FD} --address {address} --netmask 24 --gateway {gateway} \
                 --mtu {mtu} --no-map-gw --no-dhcp --no-dhcpv6 --tcp-ports none --udp-ports none"
            ),
            NetworkStack::Slirp4netns(_) => format!(
                "slirp4netns --target-type=bess --disable-host-loopback --disable-dns --enable-seccomp --mtu={mtu} \
                 {SLIRP_SOCKET}"
            ),
        };
        text.split_ascii_whitespace().map(OsString::from).collect()
    }
}

/// Serves the interface at descriptor 1 for the builder at descriptor 0. What goes wrong is said at descriptor 2.
pub(crate) fn main() -> ! {
    let code = match start() {
        Ok(code) => code,
        Err(e) => {
            complain(&e);
            1
        }
    };
    std::process::exit(code)
}

fn complain(error: &io::Error) {
    // A builder that is gone hears nothing.
    let _unheard = writeln!(io::stderr(), "{error}");
}

fn start() -> io::Result<i32> {
    let stack = NetworkStack::from_arguments(std::env::args_os().skip(1))
        .ok_or_else(|| io::Error::other("started without a network stack"))?;
    let take = |number| {
        let fd = sys::inherited(number).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
        // Keeps the standard numbers for the stack.
        Ok::<_, io::Error>(rustix::io::fcntl_dupfd_cloexec(&fd, 10)?)
    };
    let (builder, tap) = (take(0)?, take(1)?);
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for number in 0..2 {
        sys::put_at(&null, number)?;
    }
    sys::cloexec_from(3);
    let _own_session = rustix::process::setsid();
    let namespaces = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    match sys::fork_into(namespaces, None)? {
        Forked::Child => {
            let code = match serve(&stack, &builder, &tap) {
                Ok(()) => 0,
                Err(e) => {
                    complain(&e);
                    1
                }
            };
            // SAFETY: ends the forked process at once; the stack ends with its pid namespace.
            unsafe { libc::_exit(code) }
        }
        Forked::Parent { pid, .. } => {
            drop((builder, tap));
            let status = sys::reap(pid)?.status;
            Ok(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 1 })
        }
    }
}

/// The first process of the pid namespace.
fn serve(stack: &NetworkStack, builder: &OwnedFd, tap: &OwnedFd) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::process::chdir("/")?;
    let id = own_id();
    let (ours, theirs) = match stack {
        NetworkStack::Passt(_) => {
            let (ours, theirs) = UnixStream::pair()?;
            (Some(OwnedFd::from(ours)), Some(OwnedFd::from(theirs)))
        }
        NetworkStack::Slirp4netns(_) => {
            private_folder(id)?;
            (None, None)
        }
    };
    let process = match sys::fork_into(0, None)? {
        Forked::Child => {
            complain(&become_stack(stack, theirs, id));
            // SAFETY: ends the forked process at once.
            unsafe { libc::_exit(127) }
        }
        Forked::Parent { pidfd, .. } => pidfd,
    };
    drop(theirs);
    give_up_rights(id)?;
    // The change of ids has cleared it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let link = match ours {
        Some(socket) => Link::Stream { socket, received: Vec::new() },
        None => Link::Packets { socket: connect(&process)? },
    };
    relay(link, builder, tap, &process, stack.wire())
}

/// The id that this process and the stack run under: as root one that nobody has, so that nobody else is in
/// their reach; in a user namespace the last one there is.
fn own_id() -> u32 {
    if crate::userns::inside() {
        return last_id(&std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default());
    }
    0x8000_0000 | std::process::id()
}

fn last_id(map: &str) -> u32 {
    let ends = map.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(|n| n.parse::<u32>().ok());
        let (inside, _, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        inside.checked_add(count.checked_sub(1)?)
    });
    ends.max().unwrap_or(0)
}

/// A file system for the stack's socket that only this mount namespace has.
fn private_folder(id: u32) -> io::Result<()> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let (own, flags) = (id.to_string(), MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV);
    let folder = tmpfs(&[("mode", "700"), ("uid", &own), ("gid", &own)], flags)?;
    crate::runner::attach(&folder, std::fs::File::open(SLIRP_FOLDER)?)
}

/// Leaves everything behind that this process may do beyond an ordinary user's rights.
fn give_up_rights(id: u32) -> io::Result<()> {
    for number in 0..=sys::last_capability() {
        // Older kernels know fewer, and without the right to there is nothing to drop.
        let _unknown = sys::prctl(libc::PR_CAPBSET_DROP, u64::from(number), 0);
    }
    sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)?;
    match thread::set_thread_groups(&[]) {
        // Where ids are mapped without the help of newgidmap, the kernel forbids it.
        Err(rustix::io::Errno::PERM) => {}
        other => other?,
    }
    let gid = Gid::from_raw(id);
    thread::set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(id);
    thread::set_thread_res_uid(uid, uid, uid)?;
    sys::set_capabilities(0, 0)?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0)?;
    Ok(())
}

/// Becomes the stack's program; returns only what went wrong.
fn become_stack(stack: &NetworkStack, socket: Option<OwnedFd>, id: u32) -> io::Error {
    let prepare = || -> io::Result<(CString, Vec<CString>)> {
        if let Some(socket) = &socket {
            sys::put_at(socket, STACK_FD)?;
        }
        give_up_rights(id)?;
        let args: io::Result<Vec<CString>> = stack.command().iter().map(|arg| sys::cstring(arg)).collect();
        Ok((sys::cstring(stack.program().as_os_str())?, args?))
    };
    match prepare() {
        Ok((program, args)) => {
            sys::reset_signals();
            sys::execve(&program, &args, &[])
        }
        Err(e) => e,
    }
}

/// Waits for slirp4netns to listen.
fn connect(process: &OwnedFd) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(SLIRP_SOCKET)?;
    let started = Instant::now();
    loop {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(e) if started.elapsed() > PATIENCE => return Err(e.into()),
            Err(_) => {}
        }
        let mut fds = [PollFd::new(process, PollFlags::IN)];
        if poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 5_000_000 }))? > 0 {
            return Err(ended_early());
        }
    }
}

fn ended_early() -> io::Error {
    io::Error::other("the network stack has ended")
}

/// The socket of the stack.
enum Link {
    /// Each frame follows its length, four bytes, as qemu has it.
    Stream { socket: OwnedFd, received: Vec<u8> },
    /// Each frame is a packet.
    Packets { socket: OwnedFd },
}

impl Link {
    fn socket(&self) -> &OwnedFd {
        match self {
            Link::Stream { socket, .. } | Link::Packets { socket } => socket,
        }
    }

    /// `frame` as it is to be sent, after what already is in `out`.
    fn wrap(&self, frame: &[u8], out: &mut Vec<u8>) {
        if let Link::Stream { .. } = self {
            out.extend((frame.len() as u32).to_be_bytes());
        }
        out.extend_from_slice(frame);
    }

    /// How many bytes of frames may wait together.
    fn batch(&self) -> usize {
        match self {
            Link::Stream { .. } => BATCH,
            Link::Packets { .. } => 1,
        }
    }

    /// Sends what it can of `out`; a packet is sent or stays as a whole.
    fn send(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        while !out.is_empty() {
            match rustix::net::send(self.socket(), out, flags) {
                Ok(sent) => drop(out.drain(..sent)),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Receives frames and hands each to `deliver`. False at the end of the stack.
    fn receive(&mut self, deliver: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        let mut buffer = [0; MAX_FRAME];
        match rustix::net::recv(self.socket(), &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Ok(false),
            Ok((n, _)) => match self {
                Link::Packets { .. } => deliver(&buffer[..n]),
                Link::Stream { received, .. } => {
                    received.extend_from_slice(&buffer[..n]);
                    let used = split_frames(received, deliver)?;
                    received.drain(..used);
                }
            },
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
        Ok(true)
    }
}

/// Hands the whole frames of `bytes` to `deliver`; how many bytes they took.
fn split_frames(bytes: &[u8], deliver: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
    let mut rest = bytes;
    while let Some((length, more)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_FRAME {
            return Err(io::Error::other("the network stack sends frames that are too long"));
        }
        let Some((frame, more)) = more.split_at_checked(length) else { break };
        deliver(frame);
        rest = more;
    }
    Ok(bytes.len() - rest.len())
}

/// Passes frames on until the builder or the stack is gone.
fn relay(mut link: Link, builder: &OwnedFd, tap: &OwnedFd, process: &OwnedFd, wire: Wire) -> io::Result<()> {
    let mut out = Vec::new();
    link.wrap(&who_has(wire.gateway, wire.address), &mut out);
    let started = Instant::now();
    let mut told = false;
    let mut frame = [0; MAX_FRAME];
    loop {
        link.send(&mut out)?;
        let sending = if out.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let reading = if out.len() < link.batch() { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = [
            PollFd::new(builder, PollFlags::IN),
            PollFd::new(process, PollFlags::IN),
            PollFd::new(link.socket(), sending),
            PollFd::new(tap, reading),
        ];
        let wait = (!told).then_some(Timespec { tv_sec: 0, tv_nsec: 50_000_000 });
        match poll(&mut fds, wait.as_ref()) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        let [end, died, answered, asked] = fds.each_ref().map(|fd| !fd.revents().is_empty());
        if end {
            return Ok(());
        }
        let mut replied = false;
        if answered {
            let mut deliver = |frame: &[u8]| {
                replied |= is_arp(frame);
                // A full queue or a frame that is none: the network loses packets at times.
                let _lost = rustix::io::write(tap, frame);
            };
            if !link.receive(&mut deliver)? {
                return Err(ended_early());
            }
        }
        if died {
            return Err(ended_early());
        }
        if !told && (replied || started.elapsed() > SILENCE) {
            told = true;
            let mut builder = std::fs::File::from(builder.as_fd().try_clone_to_owned()?);
            builder.write_all(&[READY])?;
        }
        while asked && out.len() < link.batch() {
            match rustix::io::read(tap, &mut frame[..]) {
                Ok(n) if may_leave(&frame[..n]) => link.wrap(&frame[..n], &mut out),
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];

fn is_arp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&ARP)
}

/// Whether a frame of the step may reach the stack: not where a socket of the host, given its destination, would
/// connect to the host itself without asking any network.
fn may_leave(frame: &[u8]) -> bool {
    let Some((header, packet)) = frame.split_at_checked(ETHERNET) else { return false };
    match [header[12], header[13]] {
        ARP => true,
        IPV4 => match packet.get(16..20).and_then(|b| <[u8; 4]>::try_from(b).ok()) {
            Some(to) => leads_out(Ipv4Addr::from(to)),
            None => false,
        },
        IPV6 => match packet.get(24..40).and_then(|b| <[u8; 16]>::try_from(b).ok()).map(Ipv6Addr::from) {
            Some(to) => !to.is_loopback() && to.to_ipv4().is_none_or(leads_out),
            None => false,
        },
        _ => false,
    }
}

fn leads_out(to: Ipv4Addr) -> bool {
    // Linux takes 0.0.0.0 for this host.
    to.octets()[0] != 127 && to.octets()[0] != 0
}

/// The question for an address, which the stack answers as soon as it works.
fn who_has(wanted: Ipv4Addr, own: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(HARDWARE);
    frame.extend(ARP);
    // Ethernet, IPv4, the lengths of their addresses, a request.
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(HARDWARE);
    frame.extend(own.octets());
    frame.extend([0; 6]);
    frame.extend(wanted.octets());
    frame
}

/// What a relay that is no more and its stack have said, for people.
pub(crate) fn last_words(mut log: impl Read) -> String {
    let mut text = Vec::new();
    let _partial = log.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let said: Vec<&str> = lines.iter().filter(|l| !l.contains("to syslog")).copied().collect();
    said.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ethernet(kind: [u8; 2], packet: &[u8]) -> Vec<u8> {
        [&[0; 12][..], &kind, packet].concat()
    }

    fn ipv4(to: [u8; 4]) -> Vec<u8> {
        ethernet(IPV4, &[&[0x45; 16][..], &to].concat())
    }

    fn ipv6(to: &str) -> Vec<u8> {
        ethernet(IPV6, &[&[0x60; 24][..], &to.parse::<Ipv6Addr>().unwrap().octets()].concat())
    }

    #[test]
    fn nothing_for_the_hosts_loopback_leaves() {
        for frame in [
            ipv4([127, 0, 0, 1]),
            ipv4([127, 255, 1, 2]),
            ipv4([0, 0, 0, 0]),
            ipv4([0, 1, 2, 3]),
            ipv6("::1"),
            ipv6("::"),
            ipv6("::ffff:127.0.0.1"),
            ipv6("::127.0.0.1"),
            ipv6("::ffff:0.0.0.0"),
            // With a VLAN's tag, cut short, of another kind, empty.
            ethernet([0x81, 0x00], &ipv4([192, 0, 2, 1])[12..]),
            ipv4([192, 0, 2, 1])[..33].to_vec(),
            ipv6("2001:db8::1")[..53].to_vec(),
            ethernet([0x88, 0xcc], &[0; 60]),
            vec![0; 13],
            Vec::new(),
        ] {
            assert!(!may_leave(&frame), "{frame:?}");
        }
        for frame in [
            ipv4([192, 0, 2, 1]),
            ipv4([10, 0, 2, 2]),
            ipv4([128, 0, 0, 1]),
            ipv6("2001:db8::1"),
            ipv6("ff02::2"),
            ipv6("fe80::1"),
            who_has(Ipv4Addr::new(10, 0, 2, 2), Ipv4Addr::new(10, 0, 2, 100)),
        ] {
            assert!(may_leave(&frame), "{frame:?}");
        }
    }

    #[test]
    fn frames_are_split_wherever_they_are_cut() {
        let link =
            Link::Stream { socket: std::fs::File::open("/dev/null").unwrap().into(), received: Vec::new() };
        let mut bytes = Vec::new();
        let frames: Vec<Vec<u8>> = [0usize, 1, 60, 3000].iter().map(|n| vec![7; *n]).collect();
        frames.iter().for_each(|f| link.wrap(f, &mut bytes));
        for cut in 0..bytes.len() {
            let mut got = Vec::new();
            let mut deliver = |f: &[u8]| got.push(f.to_vec());
            let used = split_frames(&bytes[..cut], &mut deliver).unwrap();
            let rest = &bytes[used..];
            assert_eq!(split_frames(rest, &mut deliver).unwrap(), rest.len());
            assert_eq!(got, frames, "cut at {cut}");
        }
        assert!(split_frames(&[0, 2, 0, 0], &mut |_| {}).is_err());
    }

    #[test]
    fn the_last_id_of_a_map() {
        assert_eq!(last_id("         0       1000          1\n         1     100000      65536\n"), 65_536);
        assert_eq!(last_id("0 1000 1\n"), 0);
        assert_eq!(last_id(""), 0);
    }
}
