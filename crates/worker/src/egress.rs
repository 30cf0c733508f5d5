//! A step's way out under `--allow-net`: a network namespace with nothing but `lo`, in which the builder serves.
//!
//! - For every name on the list an address of 127.77.0.0/16 stands in `/etc/hosts`; what connects to it on an
//!   allowed port is connected to the real host, byte for byte, so that TLS, ssh and git work without knowing.
//! - `http_proxy` and `https_proxy` name a proxy that passes on requests and tunnels (CONNECT) to allowed places.
//!   Wildcards and literal addresses can be reached through it only.
//! - A name server answers for allowed names and refuses all others.
//!
//! Names are resolved by the builder. Whatever is refused is said in the step's log, once for each place. There
//! is no packet filter: no route leads out of the namespace, so that this works without root, too.

mod dns;
mod list;
mod proxy;

pub use list::{AllowList, AllowListError};

use rustix::event::{PollFd, PollFlags, poll};
use sandbox::IsolatedNetwork;
use solver::ErrorKind;
use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where the proxy listens.
const PROXY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 3128);
/// Where the name server listens.
const DNS: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 53);
/// Connections of a step that are served at the same time.
const MAX_CONNECTIONS: usize = 512;
/// How long a host may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Refusals that are said; a step that tries every port should not fill its log.
const MAX_REFUSALS: usize = 100;

/// A network that is being served until this is dropped.
pub(crate) struct Egress {
    pub namespace: OwnedFd,
    /// Lines for `/etc/hosts`: address, name.
    pub hosts: Vec<(String, String)>,
    /// Content of `/etc/resolv.conf`.
    pub resolv_conf: Vec<u8>,
    /// Variables that tell programs of the proxy.
    pub env: Vec<(String, String)>,
    _stop: OwnedFd,
}

/// Says what was refused.
pub(crate) type Tell = Box<dyn Fn(&str) + Send + Sync>;

/// What all connections share.
struct Shared {
    list: AllowList,
    /// Names with addresses of their own.
    addresses: Vec<(String, Ipv4Addr)>,
    refused: Mutex<BTreeSet<String>>,
    tell: Tell,
    open: AtomicUsize,
}

/// What comes in at a listener.
enum Service {
    Proxy,
    /// Connected to this host and port.
    Forward(String, u16),
}

impl Egress {
    /// Make the network and serve it.
    pub fn start(list: &AllowList, tell: Tell) -> Result<Egress, ErrorKind> {
        let addresses: Vec<(String, Ipv4Addr)> = list
            .names()
            .into_iter()
            .zip(0u16..)
            .map(|(name, n)| (name, Ipv4Addr::new(127, 77, (n / 250) as u8, (n % 250 + 1) as u8)))
            .collect();
        let mut listen = vec![SocketAddr::from(PROXY)];
        let mut services = vec![Service::Proxy];
        for (name, address) in &addresses {
            for port in list.ports(name) {
                listen.push((*address, port).into());
                services.push(Service::Forward(name.clone(), port));
            }
        }
        let failed = |what: &str, e: &dyn std::error::Error| ErrorKind::other(format!("can't {what}: {e}"));
        let network = IsolatedNetwork::new(&listen, &[DNS.into()]).map_err(crate::copy::io)?;
        let IsolatedNetwork { namespace, tcp, udp } = network;
        for socket in &tcp {
            socket.set_nonblocking(true).map_err(|e| failed("serve a step's network", &e))?;
        }
        let (stopped, stop) = crate::exec::pipe()?;
        let shared = Arc::new(Shared {
            list: list.clone(),
            addresses: addresses.clone(),
            refused: Mutex::default(),
            tell,
            open: AtomicUsize::new(0),
        });
        let listeners: Vec<(TcpListener, Service)> = tcp.into_iter().zip(services).collect();
        std::thread::Builder::new()
            .name("egress".into())
            .spawn(move || serve(&shared, &listeners, &udp, &stopped))
            .map_err(|e| failed("serve a step's network", &e))?;
        let proxy = format!("http://{}:{}", PROXY.0, PROXY.1);
        let local = "localhost,127.0.0.0/8,::1";
        let env = [("http_proxy", proxy.as_str()), ("https_proxy", &proxy), ("no_proxy", local)];
        let env =
            env.iter().flat_map(|(n, v)| [(n.to_string(), v.to_string()), (n.to_uppercase(), v.to_string())]);
        Ok(Egress {
            namespace,
            hosts: addresses.into_iter().map(|(name, address)| (address.to_string(), name)).collect(),
            resolv_conf: format!("nameserver {}\n", DNS.0).into_bytes(),
            env: env.collect(),
            _stop: stop,
        })
    }
}

impl Shared {
    /// Say once that a place was refused.
    fn refuse(&self, place: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(|e| e.into_inner());
        if refused.len() < MAX_REFUSALS && refused.insert(place.to_string()) {
            (self.tell)(&format!("{place} is not on the list of --allow-net"));
        }
    }

    /// Say once that a name can be reached in one way only.
    fn note(&self, name: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(|e| e.into_inner());
        if refused.len() < MAX_REFUSALS && refused.insert(name.to_string()) {
            (self.tell)(&format!(
                "{name} can be reached only through the proxy in http_proxy and https_proxy"
            ));
        }
    }
}

fn serve(shared: &Arc<Shared>, tcp: &[(TcpListener, Service)], udp: &[UdpSocket], stopped: &OwnedFd) {
    loop {
        let mut fds = vec![PollFd::new(stopped, PollFlags::IN)];
        fds.extend(tcp.iter().map(|(socket, _)| PollFd::new(socket, PollFlags::IN)));
        fds.extend(udp.iter().map(|socket| PollFd::new(socket, PollFlags::IN)));
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) if !fds[0].revents().is_empty() => return,
            Ok(_) => {}
        }
        let ready: Vec<bool> = fds[1..].iter().map(|fd| !fd.revents().is_empty()).collect();
        for ((listener, service), _) in tcp.iter().zip(&ready).filter(|(_, ready)| **ready) {
            if let Ok((client, _)) = listener.accept() {
                connected(shared, client, service);
            }
        }
        for (socket, _) in udp.iter().zip(&ready[tcp.len()..]).filter(|(_, ready)| **ready) {
            dns::answer(shared, socket);
        }
    }
}

/// Serve one connection on a thread of its own.
fn connected(shared: &Arc<Shared>, client: TcpStream, service: &Service) {
    if shared.open.fetch_add(1, Ordering::SeqCst) >= MAX_CONNECTIONS {
        shared.open.fetch_sub(1, Ordering::SeqCst);
        return;
    }
    let target = match service {
        Service::Proxy => None,
        Service::Forward(name, port) => Some((name.clone(), *port)),
    };
    let this = shared.clone();
    let spawned = std::thread::Builder::new().spawn(move || {
        let served = client.set_nonblocking(false).and_then(|()| match target {
            None => proxy::serve(&this, client),
            Some((name, port)) => match connect(&name, port) {
                Ok(server) => join(&client, &server),
                Err(e) => {
                    (this.tell)(&format!("can't connect to {name}:{port}: {e}"));
                    Ok(())
                }
            },
        });
        // Either side has gone: nobody is left to be told.
        drop(served);
        this.open.fetch_sub(1, Ordering::SeqCst);
    });
    if spawned.is_err() {
        shared.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Connect to the first address of a host that answers.
fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Pass bytes on in both directions until both are at their end.
pub(crate) fn join(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    std::thread::scope(|scope| {
        let up = scope.spawn(|| pass_on(client, server));
        let down = pass_on(server, client);
        // A server that has closed hears nothing more; a client may still be writing to nobody.
        let _closed = client.shutdown(Shutdown::Both);
        let up = up.join().unwrap_or(Ok(()));
        down.and(up)
    })
}

fn pass_on(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let copied = io::copy(&mut from, &mut to);
    let _closed = to.shutdown(Shutdown::Write);
    copied.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// What the tests' own host answers to every connection.
    fn echo_server() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut buffer = [0; 1024];
                    let mut stream = stream;
                    let n = stream.read(&mut buffer).unwrap_or(0);
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
                    let _ = stream.write_all(b"got:");
                    let _ = stream.write_all(&buffer[..n]);
                });
            }
        });
        port
    }

    fn shared(list: &str) -> (Arc<Shared>, Arc<Mutex<Vec<String>>>) {
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = said.clone();
        let shared = Shared {
            list: list.split(',').collect::<Vec<_>>().as_slice().try_into().unwrap(),
            addresses: vec![("deb.example".into(), Ipv4Addr::new(127, 77, 0, 1))],
            refused: Mutex::default(),
            tell: Box::new(move |text| sink.lock().unwrap().push(text.into())),
            open: AtomicUsize::new(0),
        };
        (Arc::new(shared), said)
    }

    fn ask_proxy(shared: &Arc<Shared>, request: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        connected(shared, accepted, &Service::Proxy);
        client.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        client.read_to_string(&mut reply).unwrap();
        reply
    }

    #[test]
    fn requests_pass_and_others_are_refused_by_name() {
        let port = echo_server();
        let (shared, said) = shared(&format!("127.0.0.1:{port}"));
        let reply = ask_proxy(
            &shared,
            &format!(
                "GET http://127.0.0.1:{port}/a?b=http://x HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nProxy-Connection: keep-alive\r\nX: y\r\n\r\n"
            ),
        );
        assert!(reply.contains("got:GET /a?b=http://x HTTP/1.1\r\n"), "{reply}");
        assert!(reply.contains("X: y\r\n") && !reply.contains("Proxy-Connection"), "{reply}");
        assert!(reply.contains("Connection: close\r\n"), "one request a connection: {reply}");
        for request in [
            "GET http://evil.example/ HTTP/1.1\r\n\r\n",
            "CONNECT evil.example:443 HTTP/1.1\r\n\r\n",
            "CONNECT evil.example:443 HTTP/1.1\r\n\r\n",
            &format!("CONNECT localhost:{port} HTTP/1.1\r\n\r\n"),
            "CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n",
        ] {
            let reply = ask_proxy(&shared, request);
            assert!(reply.starts_with("HTTP/1.1 403 "), "{request}: {reply}");
        }
        for bad in [
            "GET / HTTP/1.1\r\n\r\n",
            "CONNECT nothing HTTP/1.1\r\n\r\n",
            "x\r\n\r\n",
            "GET http://u@h:x/ HTTP/1.1\r\n\r\n",
        ] {
            assert!(ask_proxy(&shared, bad).starts_with("HTTP/1.1 400 "), "{bad}");
        }
        let said = said.lock().unwrap();
        let places = ["evil.example:80", "evil.example:443", &format!("localhost:{port}"), "127.0.0.1:1"];
        assert_eq!(*said, places.map(|p| format!("{p} is not on the list of --allow-net")), "each once");
    }

    #[test]
    fn tunnels_carry_bytes() {
        let port = echo_server();
        let (shared, _) = shared(&format!("127.0.0.1:{port}"));
        let reply =
            ask_proxy(&shared, &format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\nraw bytes"));
        assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
        assert!(reply.ends_with("got:raw bytes"), "{reply}");
    }

    #[test]
    fn names_are_answered_or_refused() {
        let (shared, said) = shared("deb.example:80,*.wild.example:443");
        let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3];
        query.extend(b"DEB\x07example\0");
        query.extend([0, 1, 0, 1]);
        let reply = dns::reply(&shared, &query).unwrap();
        assert_eq!((&reply[..2], reply[3] & 15, reply[7]), (&[0x12, 0x34][..], 0, 1));
        assert!(reply.ends_with(&[0, 4, 127, 77, 0, 1]), "{reply:?}");
        let end = query.len();
        query[end - 3] = 28;
        let reply = dns::reply(&shared, &query).unwrap();
        assert_eq!((reply[3] & 15, reply[7]), (0, 0), "no address of version 6, but no error");
        query[15] = b'c';
        assert_eq!(dns::reply(&shared, &query).unwrap()[3] & 15, 3, "no such name");
        assert_eq!(*said.lock().unwrap(), ["dec.example is not on the list of --allow-net"]);
        // Cut short, pointers, no question: no answer.
        for bad in
            [&query[..7], &query[..20], &[0; 12], &[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1]]
        {
            assert_eq!(dns::reply(&shared, bad), None, "{bad:?}");
        }
    }
}
