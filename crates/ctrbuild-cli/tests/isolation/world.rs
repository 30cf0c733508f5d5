//! A network that stands for the outside: a namespace in which ctrbuild runs, with a server on its loopback, and
//! behind its only route another namespace with a server.

use crate::place::{Outcome, has, run};
use rustix::thread::LinkNameSpaceType;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What is far away.
pub const FAR: &str = "203.0.113.7";
/// What the host's own services listen on.
pub const LOCAL_PORT: u16 = 8080;
/// The name that the host's name server knows, and its address.
pub const NAME: &str = "name.test";
pub const ADDRESS: [u8; 4] = [192, 0, 2, 99];

const SETUP: &str = r#"
set -e
mount -t tmpfs none /dev/net
mknod -m 666 /dev/net/tun c 10 200
mount --bind "$1/resolv.conf" /etc/resolv.conf
ip link set lo up
ip link add out type veth peer name far
ip addr add 198.51.100.2/24 dev out
ip link set out up
unshare --net sleep 1000000 &
far=$!
while [ "$(readlink /proc/$far/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
ip link set far netns $far
nsenter --net=/proc/$far/ns/net sh -c 'ip link set lo up; ip addr add 198.51.100.1/24 dev far; ip link set far up; ip addr add 203.0.113.7/32 dev lo'
ip route add default via 198.51.100.1
nsenter --net=/proc/$far/ns/net busybox httpd -p 203.0.113.7:80 -h "$1/far"
busybox httpd -p 127.0.0.1:8080 -h "$1/near"
# What enters has its pids outside.
umount /proc
echo ready
exec sleep 1000000
"#;

pub struct World {
    holder: Child,
    _dir: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        // With it all processes of its pid namespace.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl World {
    /// `None` (with a word) where it can't be made.
    pub fn new() -> Option<World> {
        if !has(&["unshare", "nsenter", "ip", "busybox"]) {
            return None;
        }
        if !Path::new("/dev/net/tun").exists() {
            println!("skipped: the kernel has no TUN/TAP devices");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("ctrbuild-world-").tempdir().unwrap();
        for (folder, text) in [("far", "from afar\n"), ("near", "the host's own\n")] {
            fs::create_dir(dir.path().join(folder)).unwrap();
            fs::write(dir.path().join(folder).join("index.html"), text).unwrap();
        }
        fs::write(dir.path().join("resolv.conf"), "nameserver 127.0.0.53\nsearch test\n").unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["sh", "-c", SETUP, "sh"]).arg(dir.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut holder = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let world = World { holder, _dir: dir };
        assert_eq!(line, "ready\n", "the network could not be set up");
        Some(world)
    }

    /// The process in the namespaces: the child of `unshare`.
    fn inside(&self) -> u32 {
        let pid = self.holder.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().next().unwrap().parse().unwrap()
    }

    fn namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.inside()).into()
    }

    /// The same command in this network. `hidden` are files that are not to be found there.
    pub fn wrap(&self, command: &Command, hidden: &[&str]) -> Command {
        let mut wrapped = Command::new("nsenter");
        let pid = self.inside().to_string();
        wrapped.args(["--mount", "--net", "--target", &pid, "unshare", "--mount", "sh", "-c"]);
        let hide: String = hidden.iter().map(|p| format!("mount --bind /dev/null {p} && ")).collect();
        wrapped.arg(format!("{hide} cd \"$0\" && exec \"$@\""));
        wrapped.arg(command.get_current_dir().unwrap()).arg(command.get_program()).args(command.get_args());
        wrapped.env_clear().stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                wrapped.env(name, value);
            }
        }
        wrapped
    }

    #[track_caller]
    pub fn run(&self, command: &Command) -> Outcome {
        run(&mut self.wrap(command, &[]))
    }

    /// Runs on a thread in this network.
    fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let namespace = fs::File::open(self.namespace()).unwrap();
        let enter = || {
            rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .unwrap();
            act()
        };
        std::thread::scope(|scope| scope.spawn(enter).join().unwrap())
    }

    /// A name server on the host's loopback that knows one name.
    pub fn serve_names(&self) {
        let socket = self.within(|| std::net::UdpSocket::bind("127.0.0.53:53").unwrap());
        std::thread::spawn(move || {
            let mut query = [0; 1500];
            while let Ok((n, from)) = socket.recv_from(&mut query) {
                let _ = socket.send_to(&answer(&query[..n]), from);
            }
        });
    }

    /// A listener on the host's loopback.
    pub fn listener(&self) -> std::net::TcpListener {
        let listener = self.within(|| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        listener.set_nonblocking(true).unwrap();
        listener
    }

    /// A Unix socket without a file.
    pub fn abstract_socket(&self, name: &str) -> UnixListener {
        let address = SocketAddr::from_abstract_name(name).unwrap();
        self.within(|| UnixListener::bind_addr(&address).unwrap())
    }

    /// Processes that serve steps' networks here: program and `/proc/PID/status`.
    pub fn helpers(&self) -> Vec<(String, String)> {
        let own = fs::read_link(self.namespace()).unwrap();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            let line = read("cmdline");
            let name = line.split('\0').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
            let one_of_them =
                ["ctrbuild-network-relay", "passt", "passt.avx2", "slirp4netns"].contains(&name);
            if one_of_them && fs::read_link(entry.path().join("ns/net")).is_ok_and(|n| n == own) {
                found.push((name.to_string(), read("status")));
            }
        }
        found
    }
}

/// An address for the one name, nothing for others.
fn answer(query: &[u8]) -> Vec<u8> {
    let label = |l: &str| [&[l.len() as u8], l.as_bytes()].concat();
    let name: Vec<u8> = NAME.split('.').flat_map(label).chain([0]).collect();
    let question = &query[12..12 + query[12..].iter().position(|b| *b == 0).unwrap() + 5];
    let known = question.starts_with(&name) && question[name.len()..] == [0, 1, 0, 1];
    let mut out = query[..2].to_vec();
    out.extend([
        0x85,
        if question.starts_with(&name) { 0x80 } else { 0x83 },
        0,
        1,
        0,
        u8::from(known),
        0,
        0,
        0,
        0,
    ]);
    out.extend(question);
    if known {
        out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        out.extend(ADDRESS);
    }
    out
}
