//! What the caller brings: a way to run programs inside the new root.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// One program run. The environment is complete: nothing of the caller's is to be added.
#[derive(Debug, Clone, Copy)]
pub struct ChrootCommand<'a> {
    /// The new root on the host.
    pub root: &'a Path,
    /// Program (an absolute path inside the root) and arguments; never empty.
    pub argv: &'a [String],
    pub env: &'a BTreeMap<String, String>,
    /// All of its standard input.
    pub stdin: &'a [u8],
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// What a program left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChrootOutput {
    pub exit: Exit,
    /// Standard output and standard error as they came, perhaps cut in front.
    pub log: Vec<u8>,
}

/// Runs programs as root (of at least a user namespace) inside a folder.
///
/// Contract: the program sees the folder as `/`, with `/proc`, `/sys` and `/dev` as in a build step; it needs
/// no network; nothing that it started is left when `run` returns, and neither are mounts. It should keep
/// the container capabilities CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID, SETFCAP, SYS_CHROOT and
/// MKNOD. A runner may turn `fsync`, `sync` and the like into no-ops, which makes dpkg about twice as fast:
/// the tree counts only once the caller has committed it.
pub trait ChrootRunner: Send + Sync {
    /// `Ok` if the program ran, however it ended.
    fn run(
        &self,
        command: &ChrootCommand<'_>,
    ) -> std::result::Result<ChrootOutput, Box<dyn std::error::Error + Send + Sync>>;
}
