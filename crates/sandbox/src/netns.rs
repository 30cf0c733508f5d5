//! A network namespace of its own in which only `lo` is up, with sockets of the builder inside: the one way out of it
//! is through whoever serves those sockets.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::thread::UnshareFlags;

use crate::error::Error;
use crate::sys;

/// A namespace for [`crate::Network::Namespace`]. It lives as long as a descriptor of it or a process in it.
#[derive(Debug)]
pub struct IsolatedNetwork {
    /// For the step.
    pub namespace: OwnedFd,
    /// In the order of the addresses that were asked for. They stay in the namespace whoever holds them.
    pub tcp: Vec<TcpListener>,
    /// Likewise.
    pub udp: Vec<UdpSocket>,
}

impl IsolatedNetwork {
    /// Makes the namespace and binds sockets in it, on addresses of 127.0.0.0/8 or `[::1]`. Ports below 1024 are
    /// allowed. Needs the rights that steps need (see [`crate::userns::needed`]).
    pub fn new(tcp: &[SocketAddr], udp: &[SocketAddr]) -> Result<IsolatedNetwork, Error> {
        let made = IsolatedNetwork::with(tcp, udp, || Ok(()));
        made.map(|(network, ())| network).map_err(|e| Error::io("can't make a network namespace", e))
    }

    /// The same, with what `more` does in the namespace.
    pub(crate) fn with<T: Send>(
        tcp: &[SocketAddr],
        udp: &[SocketAddr],
        more: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<(IsolatedNetwork, T)> {
        let enter = || -> io::Result<(IsolatedNetwork, T)> {
            // SAFETY: only the network namespace of this thread changes, and the thread ends here.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
            sys::loopback_up()?;
            let network = IsolatedNetwork {
                namespace: std::fs::File::open("/proc/thread-self/ns/net")?.into(),
                tcp: tcp.iter().map(TcpListener::bind).collect::<io::Result<_>>()?,
                udp: udp.iter().map(UdpSocket::bind).collect::<io::Result<_>>()?,
            };
            Ok((network, more()?))
        };
        // Threads have network namespaces of their own, so that the builder keeps its.
        let made = std::thread::scope(|scope| scope.spawn(enter).join());
        made.unwrap_or_else(|_| Err(io::Error::other("panic")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sockets_are_elsewhere() {
        if crate::userns::needed() {
            return eprintln!("skipped: needs root");
        }
        let address: SocketAddr = "127.3.2.1:443".parse().unwrap();
        let network = IsolatedNetwork::new(&[address], &[address]).unwrap();
        assert_eq!(network.tcp[0].local_addr().unwrap(), address);
        assert_eq!(network.udp.len(), 1);
        // Bound there, not here.
        assert!(std::net::TcpStream::connect(address).is_err());
        assert!(IsolatedNetwork::new(&["192.0.2.1:80".parse().unwrap()], &[]).is_err());
    }
}
