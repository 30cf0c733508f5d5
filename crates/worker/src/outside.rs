//! A step's way out under `--network=isolated`: a network namespace of its own behind a network stack in user mode.
//!
//! Nothing of the host's loopback is within reach, so that name servers there are asked by the builder: it listens
//! in the step's namespace, passes questions on to them and answers back, byte for byte.

use crate::egress::join;
use crate::exec::pipe;
use rustix::event::{PollFd, PollFlags, poll};
use sandbox::{NetworkStack, OutsideNetwork, Runtime};
use solver::ErrorKind;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Where the builder listens for questions in the step's namespace.
const NAMES: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 53);
const NAMES_PORT: u16 = 53;
/// How long a name server may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Questions that are passed on at the same time.
const MAX_QUESTIONS: usize = 128;

/// A network that works until this is dropped.
pub(crate) struct Outside {
    pub namespace: OwnedFd,
    /// Content of `/etc/resolv.conf`.
    pub resolv_conf: Vec<u8>,
    _network: OutsideNetwork,
    /// Its end stops the thread that passes questions on.
    _stop: Option<OwnedFd>,
}

impl Outside {
    /// Make the network. `resolv_conf` is what a step on the host's network would get.
    pub fn start(
        runtime: &Runtime,
        stack: &NetworkStack,
        resolv_conf: Vec<u8>,
    ) -> Result<Outside, ErrorKind> {
        let failed = |e: io::Error| ErrorKind::other(format!("can't serve a step's network: {e}"));
        let address = SocketAddr::from((NAMES, NAMES_PORT));
        let inside = match on_behalf(&resolv_conf) {
            Some(_) => vec![address],
            None => Vec::new(),
        };
        let mut network = runtime.outside(stack, &inside, &inside).map_err(crate::copy::io)?;
        let namespace = network.namespace.try_clone().map_err(failed)?;
        let Some((servers, resolv_conf)) = on_behalf(&resolv_conf) else {
            return Ok(Outside { namespace, resolv_conf, _network: network, _stop: None });
        };
        let (stopped, stop) = pipe()?;
        let (tcp, udp) = (network.tcp.pop(), network.udp.pop());
        if let (Some(tcp), Some(udp)) = (tcp, udp) {
            tcp.set_nonblocking(true).map_err(failed)?;
            let names = Names { servers, udp, open: AtomicUsize::new(0) };
            std::thread::Builder::new()
                .name("names".into())
                .spawn(move || serve(&Arc::new(names), &tcp, &stopped))
                .map_err(failed)?;
        }
        Ok(Outside { namespace, resolv_conf, _network: network, _stop: Some(stop) })
    }
}

/// The name servers that the builder has to ask in place of the step, and the step's `resolv.conf` then. `None`
/// where the step reaches them all: by IPv4, which every stack has, and not on loopback.
fn on_behalf(resolv_conf: &[u8]) -> Option<(Vec<IpAddr>, Vec<u8>)> {
    let text = String::from_utf8_lossy(resolv_conf);
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next().and_then(|a| a.parse::<IpAddr>().ok()))
    };
    let named: Vec<Option<IpAddr>> = text.lines().filter_map(server).collect();
    let reachable = |address: &Option<IpAddr>| {
        address.is_some_and(|a| a.is_ipv4() && !a.is_loopback() && !a.is_unspecified())
    };
    if !named.is_empty() && named.iter().all(reachable) {
        return None;
    }
    let mut servers: Vec<IpAddr> = named.into_iter().flatten().collect();
    if servers.is_empty() {
        // What the C library asks then.
        servers.push(Ipv4Addr::LOCALHOST.into());
    }
    let mut out = format!("nameserver {NAMES}\n");
    for line in text.lines().filter(|line| server(line).is_none()) {
        out.push_str(line);
        out.push('\n');
    }
    Some((servers, out.into_bytes()))
}

struct Names {
    servers: Vec<IpAddr>,
    udp: UdpSocket,
    open: AtomicUsize,
}

fn serve(names: &Arc<Names>, tcp: &TcpListener, stopped: &OwnedFd) {
    let mut question = [0; 4096];
    loop {
        let mut fds = [
            PollFd::new(stopped, PollFlags::IN),
            PollFd::new(&names.udp, PollFlags::IN),
            PollFd::new(tcp, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) if !fds[0].revents().is_empty() => return,
            Ok(_) => {}
        }
        let [_, udp, stream] = fds.each_ref().map(|fd| !fd.revents().is_empty());
        if udp && let Ok((n, from)) = names.udp.recv_from(&mut question) {
            let question = question[..n].to_vec();
            on_a_thread(names, move |names| names.ask(&question, from));
        }
        if stream && let Ok((client, _)) = tcp.accept() {
            on_a_thread(names, move |names| names.connect(&client));
        }
    }
}

/// Too many at once are not answered; the step asks again.
fn on_a_thread(names: &Arc<Names>, act: impl FnOnce(&Names) + Send + 'static) {
    let names = names.clone();
    let leave = |names: &Names| names.open.fetch_sub(1, Ordering::SeqCst);
    if names.open.fetch_add(1, Ordering::SeqCst) >= MAX_QUESTIONS {
        leave(&names);
        return;
    }
    let this = names.clone();
    let spawned = std::thread::Builder::new().spawn(move || {
        act(&this);
        leave(&this);
    });
    if spawned.is_err() {
        leave(&names);
    }
}

impl Names {
    fn ask(&self, question: &[u8], from: SocketAddr) {
        for server in &self.servers {
            if let Ok(answer) = ask(*server, question) {
                // A lost answer is asked for again.
                let _lost = self.udp.send_to(&answer, from);
                return;
            }
        }
    }

    fn connect(&self, client: &TcpStream) {
        for server in &self.servers {
            let to = SocketAddr::new(*server, NAMES_PORT);
            if let Ok(server) = TcpStream::connect_timeout(&to, PATIENCE) {
                for stream in [client, &server] {
                    // Without a limit a silent client would keep its thread.
                    let _no_limit = stream.set_read_timeout(Some(PATIENCE * 10));
                }
                let _closed = client.set_nonblocking(false).and_then(|()| join(client, &server));
                return;
            }
        }
    }
}

/// The answer of a name server.
fn ask(server: IpAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        "::".parse().map_err(io::Error::other)?
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((server, NAMES_PORT))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(question)?;
    let mut answer = vec![0; 65_535];
    let n = socket.recv(&mut answer)?;
    answer.truncate(n);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(text: &str) -> Option<(String, String)> {
        on_behalf(text.as_bytes())
            .map(|(servers, text)| (format!("{servers:?}"), String::from_utf8(text).unwrap()))
    }

    #[test]
    fn who_is_asked_in_place_of_the_step() {
        assert_eq!(settled("search a\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n"), None);
        for (text, servers, left) in [
            ("nameserver 127.0.0.53\noptions edns0\n", "[127.0.0.53]", "options edns0\n"),
            ("search x\nnameserver 192.0.2.1\nnameserver ::1\n", "[192.0.2.1, ::1]", "search x\n"),
            ("nameserver 2001:db8::1\n", "[2001:db8::1]", ""),
            ("", "[127.0.0.1]", ""),
            ("nameserver\nnameserver x\n", "[127.0.0.1]", ""),
        ] {
            let expected = (servers.to_string(), format!("nameserver 127.77.0.53\n{left}"));
            assert_eq!(settled(text), Some(expected), "{text}");
        }
    }
}
