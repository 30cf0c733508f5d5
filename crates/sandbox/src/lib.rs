//! The sandbox of build steps: a small container runtime that knows nothing of images.
//!
//! The one privileged crate of the workspace and the only one with `unsafe` code. Three things are here:
//! detached mounts ([`Overlay`], [`MountFd`]), file operations that can't leave a folder ([`RootDir`]), and
//! running a program in namespaces ([`Runtime`], [`SandboxSpec`], [`Child`]); besides, [`userns`] lets the whole
//! builder run for ordinary users.
//!
//! Invariants:
//! - nothing is ever mounted in the host's mount namespace, so that a killed builder leaves no mount;
//! - a process with threads never forks: steps are made by a runner, which is this program started anew
//!   ([`reexec`]);
//! - no path of a root file system is resolved but below its root;
//! - a step's processes all die with its first one, and that one with its runner or builder.
#![allow(unsafe_code)]

mod beside;
mod binfmt;
mod bpf;
mod cgroup;
mod error;
mod netns;
mod outside;
mod overlay;
mod relay;
mod rootdir;
mod runner;
mod runtime;
mod seccomp;
mod spec;
mod sys;
mod tap;
pub mod userns;
mod wire;

pub use beside::run_beside;
#[doc(hidden)]
pub use cgroup::count_hierarchies;
pub use error::Error;
pub use netns::IsolatedNetwork;
pub use outside::OutsideNetwork;
pub use overlay::{Folder, MAX_LOWERS, MountFd, Overlay, OverlayOptions, Sync, Upper, XattrPrefix};
pub use relay::NetworkStack;
pub use rootdir::{DirEntry, RootDir};
pub use runtime::{Child, Killer, Runtime, Stdio};
pub use spec::{
    Access, BindSource, DEFAULT_HOSTNAME, Emulator, Exit, Identity, Input, Limits, Mount, MountKind, Network,
    SandboxSpec, Security, Status, Stub, Ulimit, Usage, hosts_file,
};

/// Must be the first call of `main`, before any thread exists. Returns at once, unless this process was started
/// as the runner or the network relay of a step: then it never returns.
pub fn reexec() {
    match std::env::args_os().next() {
        Some(name) if name == runtime::MARKER => runner::main(),
        Some(name) if name == relay::MARKER => relay::main(),
        _ => {}
    }
}
