//! The protocol between the builder and its runner: one request, then reports, over a Unix stream socket.
//! Both ends are the same binary, so that the format needs no versions: integers in little endian, lengths
//! before everything, descriptors as indices into the ones that travel along (`SCM_RIGHTS`).

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use crate::error::Error;
use crate::overlay::MountFd;
use crate::spec::*;

/// Descriptors in one message; the kernel takes 253.
const FDS_A_MESSAGE: usize = 128;

#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

pub struct Reader {
    bytes: VecDeque<u8>,
    fds: Vec<Option<OwnedFd>>,
}

/// A value that can cross the socket.
pub trait Wire: Sized {
    fn put(self, to: &mut Writer);
    fn get(from: &mut Reader) -> io::Result<Self>;
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed message between builder and runner")
}

macro_rules! wire_integers {
    ($($t:ty),*) => {$(
        impl Wire for $t {
            fn put(self, to: &mut Writer) {
                to.bytes.extend_from_slice(&self.to_le_bytes());
            }
            fn get(from: &mut Reader) -> io::Result<Self> {
                let mut raw = [0; size_of::<$t>()];
                for byte in &mut raw {
                    *byte = from.bytes.pop_front().ok_or_else(malformed)?;
                }
                Ok(<$t>::from_le_bytes(raw))
            }
        }
    )*};
}
wire_integers!(u8, u32, u64, i32, f64);

impl<T: Wire> Wire for Vec<T> {
    fn put(self, to: &mut Writer) {
        (self.len() as u32).put(to);
        self.into_iter().for_each(|item| item.put(to));
    }
    fn get(from: &mut Reader) -> io::Result<Self> {
        let len = u32::get(from)?;
        (0..len).map(|_| T::get(from)).collect()
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(self, to: &mut Writer) {
        match self {
            None => 0u8.put(to),
            Some(value) => {
                1u8.put(to);
                value.put(to);
            }
        }
    }
    fn get(from: &mut Reader) -> io::Result<Self> {
        Ok(if u8::get(from)? == 0 { None } else { Some(T::get(from)?) })
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(self, to: &mut Writer) {
        self.0.put(to);
        self.1.put(to);
    }
    fn get(from: &mut Reader) -> io::Result<Self> {
        Ok((A::get(from)?, B::get(from)?))
    }
}

/// Types that are another type on the wire.
macro_rules! wire_as {
    ($($t:ty as $w:ty: $put:expr, $get:expr;)*) => {$(
        impl Wire for $t {
            fn put(self, to: &mut Writer) {
                let convert: fn($t) -> $w = $put;
                convert(self).put(to);
            }
            fn get(from: &mut Reader) -> io::Result<Self> {
                let convert: fn($w) -> io::Result<$t> = $get;
                convert(<$w>::get(from)?)
            }
        }
    )*};
}
wire_as! {
    bool as u8: u8::from, |b| Ok(b != 0);
    OsString as Vec<u8>: OsString::into_vec, |b| Ok(OsString::from_vec(b));
    PathBuf as OsString: PathBuf::into_os_string, |s| Ok(PathBuf::from(s));
    String as Vec<u8>: String::into_bytes, |b| String::from_utf8(b).map_err(|_| malformed());
    Duration as (u64, u32): |d| (d.as_secs(), d.subsec_nanos()), |(s, n)| Ok(Duration::new(s, n));
    MountFd as OwnedFd: OwnedFd::from, |fd| Ok(MountFd::from_fd(fd));
    Access as u8: |a| a as u8, |n| match n { 0 => Ok(Access::ReadWrite), 1 => Ok(Access::ReadOnly), _ => Err(malformed()) };
    Security as u8: |a| a as u8, |n| match n { 0 => Ok(Security::Sandbox), 1 => Ok(Security::Insecure), _ => Err(malformed()) };
    io::Error as (i32, String): |e| (e.raw_os_error().unwrap_or(0), e.to_string()), |(code, text)| Ok(match code {
        0 => io::Error::other(text),
        code => io::Error::from_raw_os_error(code),
    });
}

impl Wire for OwnedFd {
    fn put(self, to: &mut Writer) {
        (to.fds.len() as u32).put(to);
        to.fds.push(self);
    }
    fn get(from: &mut Reader) -> io::Result<Self> {
        let index = u32::get(from)? as usize;
        from.fds.get_mut(index).and_then(Option::take).ok_or_else(malformed)
    }
}

macro_rules! wire_structs {
    ($($t:ident { $($field:ident),* })*) => {$(
        impl Wire for $t {
            fn put(self, to: &mut Writer) {
                $(self.$field.put(to);)*
            }
            fn get(from: &mut Reader) -> io::Result<Self> {
                $(let $field = Wire::get(from)?;)*
                Ok($t { $($field),* })
            }
        }
    )*};
}

/// Enums: a number, then the fields.
macro_rules! wire_enums {
    ($($t:ident { $($n:literal = $variant:ident $({ $($field:ident),* })? $(( $($item:ident),* ))?),* })*) => {$(
        impl Wire for $t {
            fn put(self, to: &mut Writer) {
                match self {
                    $($t::$variant $({ $($field),* })? $(( $($item),* ))? => {
                        ($n as u8).put(to);
                        $($($field.put(to);)*)?
                        $($($item.put(to);)*)?
                    })*
                }
            }
            fn get(from: &mut Reader) -> io::Result<Self> {
                Ok(match u8::get(from)? {
                    $($n => {
                        $($(let $field = Wire::get(from)?;)*)?
                        $($(let $item = Wire::get(from)?;)*)?
                        $t::$variant $({ $($field),* })? $(( $($item),* ))?
                    })*
                    _ => return Err(malformed()),
                })
            }
        }
    )*};
}

wire_structs! {
    SandboxSpec {
        root, root_access, mounts, args, env, cwd, identity, hostname, input, network, security, limits, hosts, resolv_conf,
        devices, emulator
    }
    Emulator { architecture, program }
    Identity { uid, gid, groups }
    Mount { target, kind }
    Limits {
        memory, memory_swap, cpus, cpu_shares, cpuset_cpus, cpuset_mems, pids, shm_size, ulimits, cgroup_parent,
        timeout
    }
    Ulimit { name, soft, hard }
    Exit { status, usage, stubs }
    Usage { cpu_user, cpu_sys, peak_memory, io_read_blocks, io_write_blocks, wall }
    Stub { path, removed }
    Request { spec, filter, cgroup_name }
    StubRecord { path, folder, before, after }
    Times { access, modification }
}
wire_enums! {
    MountKind {
        0 = Bind { source, access },
        1 = Tmpfs { size, mode, uid, gid },
        2 = File { content, mode, uid, gid }
    }
    BindSource { 0 = Tree { mount, subpath }, 1 = Host(fd) }
    Input { 0 = Empty, 1 = Stream(fd), 2 = Terminal(fd) }
    Network { 0 = Host, 1 = None, 2 = Namespace(fd) }
    Status { 0 = Code(code), 1 = Signal(signal), 2 = OutOfMemory, 3 = TimedOut }
    Report { 0 = Started { process }, 1 = Failed(error), 2 = Ended(exit) }
    Progress { 0 = Ready { stubs }, 1 = Failed(error) }
}

impl Wire for Error {
    fn put(self, to: &mut Writer) {
        match self {
            Error::NotInPath { program } => (0u8, program).put(to),
            Error::Exec { program, cause } => (1u8, (program, cause)).put(to),
            Error::WorkingDir { path, source } => (2u8, (path, source)).put(to),
            Error::User { uid, gid, source } => (3u8, ((uid, gid), source)).put(to),
            Error::Mount { target, action, source } => (4u8, ((target, action), source)).put(to),
            Error::Spec(text) => (5u8, text).put(to),
            Error::Limit { limit, reason } => (6u8, (limit.to_owned(), reason)).put(to),
            Error::Namespaces { source } => (7u8, source).put(to),
            Error::FileSystem { what, source } => (8u8, (what, source)).put(to),
            Error::RunnerDied(text) => (9u8, text).put(to),
            Error::Io { action, source } => (10u8, (action, source)).put(to),
            Error::MountPlace { target, reason } => (11u8, (target, reason)).put(to),
            // Never made by the runner.
            Error::IdMap { reason, .. } | Error::Outside { reason, .. } => (9u8, reason).put(to),
            e @ Error::LeftBehind => (9u8, e.to_string()).put(to),
        }
    }
    fn get(from: &mut Reader) -> io::Result<Self> {
        Ok(match u8::get(from)? {
            0 => Error::NotInPath { program: Wire::get(from)? },
            1 => Error::Exec { program: Wire::get(from)?, cause: Wire::get(from)? },
            2 => Error::WorkingDir { path: Wire::get(from)?, source: Wire::get(from)? },
            3 => Error::User { uid: Wire::get(from)?, gid: Wire::get(from)?, source: Wire::get(from)? },
            4 => {
                Error::Mount { target: Wire::get(from)?, action: Wire::get(from)?, source: Wire::get(from)? }
            }
            5 => Error::Spec(Wire::get(from)?),
            6 => {
                let name = String::get(from)?;
                let limit =
                    crate::cgroup::LIMIT_NAMES.into_iter().find(|n| *n == name).ok_or_else(malformed)?;
                Error::Limit { limit, reason: Wire::get(from)? }
            }
            7 => Error::Namespaces { source: Wire::get(from)? },
            8 => Error::FileSystem { what: Wire::get(from)?, source: Wire::get(from)? },
            9 => Error::RunnerDied(Wire::get(from)?),
            10 => Error::Io { action: Wire::get(from)?, source: Wire::get(from)? },
            11 => Error::MountPlace { target: Wire::get(from)?, reason: Wire::get(from)? },
            _ => return Err(malformed()),
        })
    }
}

/// What the builder asks for.
pub struct Request {
    pub spec: SandboxSpec,
    /// The compiled seccomp program; `None` for insecure steps.
    pub filter: Option<Vec<u64>>,
    /// Name of the step's cgroups, unique on the host.
    pub cgroup_name: String,
}

/// What the runner says.
pub enum Report {
    /// The program runs; a pidfd of it.
    Started { process: OwnedFd },
    /// It could not be started.
    Failed(Error),
    /// It has ended, and all is cleaned up.
    Ended(Exit),
}

/// What the step's first process says to the runner before it becomes the program.
pub enum Progress {
    /// All is set up; the next call is `execve`.
    Ready { stubs: Vec<StubRecord> },
    /// Something failed.
    Failed(Error),
}

/// A mount point that has been made.
#[derive(Clone, Debug)]
pub struct StubRecord {
    /// Real path inside the root.
    pub path: PathBuf,
    pub folder: bool,
    /// Times of the parent folder before it was made, and after all mount points were made.
    pub before: Times,
    pub after: Times,
}

/// Seconds and nanoseconds; the seconds are the bits of an `i64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    pub access: (u64, u32),
    pub modification: (u64, u32),
}

fn send_all(socket: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Sends one message with its descriptors, which are closed here.
pub fn send(socket: impl AsFd, message: impl Wire) -> io::Result<()> {
    let socket = socket.as_fd();
    let mut writer = Writer::default();
    message.put(&mut writer);
    let mut header = (writer.bytes.len() as u64).to_le_bytes().to_vec();
    header.extend_from_slice(&(writer.fds.len() as u32).to_le_bytes());
    send_all(socket, &header)?;
    // Each batch rides on one byte, which keeps the batches apart on a stream.
    for batch in writer.fds.chunks(FDS_A_MESSAGE) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_A_MESSAGE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<_> = batch.iter().map(AsFd::as_fd).collect();
        if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::Error::from_raw_os_error(libc::E2BIG));
        }
        loop {
            match rustix::net::sendmsg(socket, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    send_all(socket, &writer.bytes)
}

fn receive_exact(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match rustix::net::recv(socket, &mut buffer[done..], RecvFlags::empty()) {
            Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((_, got)) => done += got,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Receives one message. `UnexpectedEof` if the other side has closed.
pub fn receive<T: Wire>(socket: impl AsFd) -> io::Result<T> {
    let socket = socket.as_fd();
    let mut header = [0; 12];
    receive_exact(socket, &mut header)?;
    let len = u64::from_le_bytes(header[..8].try_into().map_err(|_| malformed())?);
    let count = u32::from_le_bytes(header[8..].try_into().map_err(|_| malformed())?) as usize;
    let mut fds = Vec::new();
    while fds.len() < count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_A_MESSAGE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let before = fds.len();
        match rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fds.extend(received.map(Some));
            }
        }
        if fds.len() == before {
            // The kernel drops what exceeds the limit of open files.
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| malformed())?];
    receive_exact(socket, &mut bytes)?;
    let mut reader = Reader { bytes: bytes.into(), fds };
    let value = T::get(&mut reader)?;
    if reader.bytes.is_empty() { Ok(value) } else { Err(malformed()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back<T: Wire + Send>(message: T) -> io::Result<T> {
        let (a, b) = std::os::unix::net::UnixStream::pair()?;
        std::thread::scope(|scope| {
            let sender = scope.spawn(move || send(&a, message));
            let received = receive(&b);
            sender.join().map_err(|_| io::Error::other("panic"))??;
            received
        })
    }

    #[test]
    fn errors_keep_their_words_and_numbers() {
        let source = || io::Error::from_raw_os_error(libc::EACCES);
        let errors = [
            Error::NotInPath { program: "x".into() },
            Error::Exec { program: "x".into(), cause: source() },
            Error::WorkingDir { path: "/x".into(), source: source() },
            Error::User { uid: 1, gid: 2, source: source() },
            Error::Mount { target: "/x".into(), action: "y".into(), source: source() },
            Error::Spec("x".into()),
            Error::Limit { limit: "pids", reason: "x".into() },
            Error::Namespaces { source: source() },
            Error::FileSystem { what: "x".into(), source: source() },
            Error::RunnerDied("x".into()),
            Error::Io { action: "x".into(), source: io::Error::other("y") },
            Error::MountPlace { target: "/x".into(), reason: "y".into() },
        ];
        for error in errors {
            let before = format!("{error:?}");
            // An error without a number keeps its text only.
            let after = format!("{:?}", there_and_back(error).unwrap());
            assert_eq!(before, after);
        }
    }

    #[test]
    fn many_descriptors_and_much_data_arrive_in_order() {
        use std::io::{Read, Seek};
        let files: Vec<OwnedFd> = (0..300)
            .map(|n| {
                let mut file = tempfile::tempfile().unwrap();
                std::io::Write::write_all(&mut file, &[n as u8]).unwrap();
                file.into()
            })
            .collect();
        let big = vec![7u8; 3 << 20];
        let (bytes, files) = there_and_back((big.clone(), files)).unwrap();
        assert!(bytes == big && files.len() == 300);
        for (n, file) in files.into_iter().enumerate() {
            let mut file = std::fs::File::from(file);
            file.rewind().unwrap();
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            assert_eq!(content, [n as u8]);
        }
    }

    #[test]
    fn damaged_messages_are_errors() {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        send_all(a.as_fd(), &[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9]).unwrap();
        drop(a);
        assert!(receive::<Report>(&b).is_err_and(|e| e.kind() == io::ErrorKind::InvalidData));
        assert!(receive::<Report>(&b).is_err_and(|e| e.kind() == io::ErrorKind::UnexpectedEof));
    }
}
