//! A network namespace that reaches the outside through a network stack in user mode, and nothing of the host.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::fs::OFlags;

use crate::error::Error;
use crate::netns::IsolatedNetwork;
use crate::relay::{self, NetworkStack};
use crate::runtime::Runtime;
use crate::tap;

/// A namespace for [`crate::Network::Namespace`] and the processes that serve it. They end when this is dropped,
/// and with the builder.
#[derive(Debug)]
pub struct OutsideNetwork {
    /// For the step.
    pub namespace: OwnedFd,
    /// In the order of the addresses that were asked for.
    pub tcp: Vec<TcpListener>,
    /// Likewise.
    pub udp: Vec<UdpSocket>,
    _relay: Relay,
}

#[derive(Debug)]
struct Relay {
    process: Child,
    /// Its end tells the relay that nobody needs it.
    builder: Option<UnixStream>,
    /// What it says. Full pipes lose words, but nobody waits.
    log: std::fs::File,
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.builder.take());
        // It has nothing left to do but to end.
        let _status = self.process.wait();
    }
}

impl Runtime {
    /// Makes a network namespace with sockets as [`IsolatedNetwork::new`] does, joins it to the outside, and
    /// returns once it works. Blocks for some tens of milliseconds.
    pub fn outside(
        &self,
        stack: &NetworkStack,
        tcp: &[SocketAddr],
        udp: &[SocketAddr],
    ) -> Result<OutsideNetwork, Error> {
        let outside = |e: io::Error| Error::Outside { reason: e.to_string(), fix: tap::hint(&e) };
        let wire = stack.wire();
        let (network, tap) = IsolatedNetwork::with(tcp, udp, || tap::attach(&wire)).map_err(outside)?;
        let (ours, theirs) = UnixStream::pair().map_err(outside)?;
        let (log, said) = std::io::pipe().map_err(outside)?;
        rustix::fs::fcntl_setfl(&log, OFlags::NONBLOCK).map_err(|e| outside(e.into()))?;
        rustix::fs::fcntl_setfl(&said, OFlags::NONBLOCK).map_err(|e| outside(e.into()))?;
        let mut command = Command::new(self.program_path());
        command.arg0(relay::MARKER).args(stack.arguments()).env_clear();
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::from(tap)).stderr(said);
        let process = command.spawn().map_err(outside)?;
        // The command holds the relay's ends.
        drop(command);
        let log = std::fs::File::from(OwnedFd::from(log));
        let relay = Relay { process, builder: Some(ours), log };
        let mut ready = [0];
        let answer = relay.builder.as_ref().map(|mut socket| socket.read(&mut ready));
        if !matches!(answer, Some(Ok(1))) || ready != [relay::READY] {
            let said = relay::last_words(&relay.log);
            return Err(Error::Outside { reason: said, fix: None });
        }
        let IsolatedNetwork { namespace, tcp, udp } = network;
        Ok(OutsideNetwork { namespace, tcp, udp, _relay: relay })
    }
}
