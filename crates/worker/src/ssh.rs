//! ssh agents for steps: `RUN --mount=type=ssh`.
//!
//! A step never gets the user's agent itself but a socket of its own, behind which only two requests of the
//! agent protocol are answered: list the keys, and sign. Keys can't be added, removed, locked or read. The
//! socket ends with the step.

mod agent;
mod key;

use agent::{Answer, Upstream};
use solver::ErrorKind;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections to one socket that are served at the same time.
const MAX_CONNECTIONS: usize = 64;
/// Largest key file that is read.
const MAX_KEY_FILE: u64 = 1 << 20;

/// What an ssh mount of one id leads to.
#[derive(Clone)]
pub struct SshAgent(Arc<Source>);

enum Source {
    /// An agent that listens on a socket.
    Socket(PathBuf),
    /// Keys that were read from files.
    Keys(Vec<key::Key>),
}

impl fmt::Debug for SshAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Source::Socket(path) => f.debug_tuple("SshAgent").field(path).finish(),
            Source::Keys(keys) => write!(f, "SshAgent({} keys)", keys.len()),
        }
    }
}

impl SshAgent {
    /// One socket of an agent, or files of unencrypted private keys (OpenSSH's format, or PEM for RSA).
    ///
    /// # Errors
    /// A path that is neither; an encrypted key; sockets mixed with keys.
    pub fn open(paths: &[PathBuf]) -> Result<SshAgent, ErrorKind> {
        let mut keys = Vec::new();
        for path in paths {
            let failed =
                |e: io::Error| ErrorKind::other(format!("can't read ssh key {}: {e}", path.display()));
            let meta = std::fs::metadata(path).map_err(failed)?;
            if std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()) {
                if paths.len() > 1 {
                    return Err(ErrorKind::with_hint(
                        format!("ssh agent {} can't be combined with other sockets or keys", path.display()),
                        "give each its own id: --ssh a=SOCKET --ssh b=KEY",
                    ));
                }
                return Ok(SshAgent(Arc::new(Source::Socket(path.clone()))));
            }
            if !meta.is_file() || meta.len() > MAX_KEY_FILE {
                return Err(ErrorKind::other(format!(
                    "{} is neither a socket nor an ssh key",
                    path.display()
                )));
            }
            let text = std::fs::read(path).map_err(failed)?;
            keys.push(key::Key::parse(&text).map_err(|e| {
                ErrorKind::with_hint(format!("can't use ssh key {}: {e}", path.display()), e.hint())
            })?);
        }
        Ok(SshAgent(Arc::new(Source::Keys(keys))))
    }

    /// A socket in `folder` (of the builder's, out of reach of others) with this owner and mode, served until the
    /// result is dropped.
    pub(crate) fn serve(&self, folder: &Path, owner: (u32, u32), mode: u32) -> Result<Forwarding, ErrorKind> {
        let failed = |e: io::Error| ErrorKind::other(format!("can't make a socket for the ssh agent: {e}"));
        std::fs::create_dir_all(folder).map_err(failed)?;
        let dir = crate::open_host(folder)?;
        // By way of the open folder: the name of a socket has at most 107 bytes, the store's may be longer.
        let short = format!("/proc/self/fd/{}/agent.sock", dir.as_raw_fd());
        let listener = UnixListener::bind(&short).map_err(failed)?;
        std::os::unix::fs::chown(&short, Some(owner.0), Some(owner.1)).map_err(|e| {
            ErrorKind::with_hint(
                format!("can't give the ssh agent's socket to {}:{}: {e}", owner.0, owner.1),
                "the id is outside of the ids mapped for this user: enlarge its range in /etc/subuid and /etc/subgid",
            )
        })?;
        std::fs::set_permissions(&short, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .map_err(failed)?;
        let socket = crate::open_host(&folder.join("agent.sock"))?;
        let (stopped, stop) = crate::exec::pipe()?;
        let agent = self.clone();
        std::thread::Builder::new()
            .name("ssh-agent".into())
            .spawn(move || agent.accept(&listener, &stopped))
            .map_err(failed)?;
        Ok(Forwarding { socket: Some(socket), _stop: stop })
    }

    /// Serves connections until the other end of `stopped` is closed.
    fn accept(&self, listener: &UnixListener, stopped: &OwnedFd) {
        use rustix::event::{PollFd, PollFlags, poll};
        let open = Arc::new(AtomicUsize::new(0));
        loop {
            let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return,
                Ok(_) if !fds[1].revents().is_empty() => return,
                Ok(_) => {}
            }
            let Ok((client, _)) = listener.accept() else { continue };
            if open.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
                continue;
            }
            open.fetch_add(1, Ordering::Relaxed);
            let (agent, counter) = (self.clone(), open.clone());
            let served = std::thread::Builder::new().spawn(move || {
                // A client that breaks the protocol or leaves: its connection ends, nothing more.
                let _ended = agent.talk(client);
                counter.fetch_sub(1, Ordering::Relaxed);
            });
            if served.is_err() {
                open.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn talk(&self, client: UnixStream) -> io::Result<()> {
        match &*self.0 {
            Source::Socket(path) => {
                let mut upstream = Upstream::new(UnixStream::connect(path)?);
                agent::serve(client, &mut upstream)
            }
            Source::Keys(keys) => agent::serve(client, &mut InMemory(keys)),
        }
    }
}

/// An agent of keys that were read from files.
struct InMemory<'a>(&'a [key::Key]);

impl Answer for InMemory<'_> {
    fn list(&mut self) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        Ok(self.0.iter().map(|k| (k.public_blob(), k.comment().as_bytes().to_vec())).collect())
    }
    fn sign(&mut self, blob: &[u8], data: &[u8], flags: u32) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.iter().find(|k| k.public_blob() == blob).and_then(|k| k.sign(data, flags)))
    }
}

/// A socket that is being served.
pub(crate) struct Forwarding {
    /// For the bind mount.
    socket: Option<OwnedFd>,
    /// Dropping it ends the service.
    _stop: OwnedFd,
}

impl Forwarding {
    pub(crate) fn take_socket(&mut self) -> Option<OwnedFd> {
        self.socket.take()
    }
}
