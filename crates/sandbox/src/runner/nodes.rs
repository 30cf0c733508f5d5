//! Device nodes of a step: what the host calls them, and how they get into `/dev`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::OpenTreeFlags;

use crate::bpf::{DeviceRules, NodeType};
use crate::error::Error;
use crate::rootdir::RootDir;
use crate::runner::mounts;

/// A node: name below `/dev`, type, permission bits, device number.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: PathBuf,
    pub kind: FileType,
    pub mode: u32,
    pub device: u64,
}

/// The nodes of every step.
pub fn default_nodes() -> Vec<Node> {
    let node = |(name, major, minor): (&str, u32, u32)| Node {
        name: name.into(),
        kind: FileType::CharacterDevice,
        mode: 0o666,
        device: rustix::fs::makedev(major, minor),
    };
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
        .map(node)
        .into()
}

/// Nodes that insecure steps get besides, where the host has them.
pub fn insecure_nodes() -> Vec<PathBuf> {
    let names = ["kmsg", "cuse", "fuse", "kvm", "net/tun", "loop-control"].map(str::to_owned);
    let loops = (0..16).map(|n| format!("loop{n}"));
    let paths = names.into_iter().chain(loops).map(|name| Path::new("/dev").join(name));
    paths.filter(|path| host_node(path).is_ok()).collect()
}

/// A device of the host by path.
pub fn host_node(path: &Path) -> io::Result<Node> {
    let path = crate::runtime::clean(path);
    let stat = rustix::fs::stat(&path)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let name = path.strip_prefix("/dev").map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?.to_owned();
    if !kind.is_char_device() && !kind.is_block_device() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    Ok(Node { name, kind, mode: stat.st_mode & 0o777, device: stat.st_rdev })
}

/// Rules that let a step open these devices of the host.
pub fn rules_for(devices: &[PathBuf]) -> Result<DeviceRules, Error> {
    let mut rules = DeviceRules::new();
    for path in devices {
        let node =
            host_node(path).map_err(|e| Error::io(format!("can't use device {}", path.display()), e))?;
        let kind = if node.kind.is_block_device() { NodeType::Block } else { NodeType::Character };
        rules.insert((kind, rustix::fs::major(node.device), Some(rustix::fs::minor(node.device))));
    }
    Ok(rules)
}

/// How nodes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Making {
    /// `mknod` in `/dev`; the device rules of the cgroup guard against others.
    InPlace,
    /// Each one a bind mount, since nothing else guards against others and `/dev` is nodev.
    Bound,
}

/// Puts a node into `dev`. Where `mknod` is refused (user namespaces), the host's node is bound.
pub fn put(dev: &RootDir, stage: &RootDir, node: &Node, making: Making) -> Result<(), Error> {
    let target = Path::new("/dev").join(&node.name);
    if let Some(parent) = node.name.parent() {
        dev.mkdir_all(parent, 0o755, None)?;
    }
    if making == Making::InPlace && dev.mknod(&node.name, node.kind, node.mode, node.device).is_ok() {
        return Ok(());
    }
    let failed = |action: &str| {
        let (target, action) = (target.clone(), action.to_owned());
        move |source| Error::Mount { target, action, source }
    };
    let source = staged(stage, node)
        .or_else(|_| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let host = rustix::fs::openat(CWD, Path::new("/dev").join(&node.name), flags, Mode::empty())?;
            let stat = rustix::fs::fstat(&host)?;
            if stat.st_rdev != node.device || FileType::from_raw_mode(stat.st_mode) != node.kind {
                return Err(io::Error::from_raw_os_error(libc::ENODEV));
            }
            clone(&host)
        })
        .map_err(failed("no such device can be had"))?;
    // A refused mknod may have left a node of the wrong kind: no, but a mode that couldn't be set, yes.
    dev.remove_all(&node.name)?;
    drop(dev.create_file(&node.name, node.mode)?);
    let place = dev.open_file(&node.name, OFlags::PATH | OFlags::NOFOLLOW)?;
    mounts::attach(&source, &place).map_err(failed("binding the device"))
}

/// The node in the staging area, cloned from there.
fn staged(stage: &RootDir, node: &Node) -> io::Result<OwnedFd> {
    let name = format!("node-{}", node.device);
    let made = stage.mknod(&name, node.kind, node.mode, node.device);
    made.map_err(|_| io::Error::from_raw_os_error(libc::EPERM))?;
    let fd =
        rustix::fs::openat(stage, &name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    // In a user namespace mknod may succeed for nodes that can't be opened: probe with one that can always be.
    let openable = rustix::fs::openat(
        stage,
        &name,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    if matches!(openable, Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM)) {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    clone(&fd)
}

fn clone(fd: impl AsFd) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(rustix::mount::open_tree(fd, "", flags)?)
}
