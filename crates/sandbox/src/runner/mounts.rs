//! The file systems of a step: from a detached root to a pivoted one with all mounts in it.
//!
//! All of it happens in the step's own mount namespace. A private staging file system in memory carries the root
//! while it is furnished, and what has to be attached somewhere before it can be cloned; it goes away with the old
//! root. Every place inside the root is reached through [`RootDir`], never by a path of the host.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, StatxFlags, Uid};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::cgroup::Hierarchies;
use crate::error::Error;
use crate::overlay::{MountFd, is_dir, new_filesystem, tmpfs};
use crate::rootdir::RootDir;
use crate::runner::nodes::{self, Making};
use crate::runner::stubs::times_of;
use crate::spec::{Access, BindSource, Mount, MountKind, SandboxSpec, Security};
use crate::sys::{self, Recursive};
use crate::wire::StubRecord;

/// Hidden from ordinary steps: they tell about the host or let it be driven.
const MASKED_PROC: [&str; 10] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
const MASKED_SYS: [&str; 2] = ["firmware", "devices/virtual/powercap"];
/// Readable only.
const READ_ONLY_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

const DEFAULT_SHM: u64 = 64 << 20;

fn secure() -> MountAttrFlags {
    MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC | MountAttrFlags::MOUNT_ATTR_NODEV
}

fn failed<E: Into<io::Error>>(target: &Path, action: &str) -> impl FnOnce(E) -> Error {
    let (target, action) = (target.to_owned(), action.to_owned());
    move |e| Error::Mount { target, action, source: e.into() }
}

/// Attaches a detached mount on top of an open folder or file.
pub fn attach(mount: impl AsFd, place: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", place, "", flags)?)
}

/// A detached clone of what is open, with all mounts below it.
fn clone_tree(fd: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    Ok(rustix::mount::open_tree(fd, "", flags)?)
}

/// As [`RootDir::open_file`], with the kernel's bare error.
fn find(root: &RootDir, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    root.open_file(path, OFlags::PATH).map_err(|e| match e {
        Error::Io { source, .. } => source,
        other => io::Error::other(other),
    })
}

struct Builder {
    stage: RootDir,
    root: RootDir,
    root_mount: Option<u64>,
    security: Security,
    devices_confined: bool,
    stubs: Vec<(PathBuf, bool, PathBuf)>,
    /// Folders that got stubs: open, with their times before.
    parents: BTreeMap<PathBuf, (OwnedFd, rustix::fs::Stat)>,
    serial: u32,
}

/// Furnishes the root of `spec` and makes it the process's root. Returns the mount points it had to make.
pub fn enter_root(
    spec: SandboxSpec,
    hierarchies: &Hierarchies,
    devices_confined: bool,
) -> Result<Vec<StubRecord>, Error> {
    let slash = Path::new("/");
    rustix::mount::mount_change(slash, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(failed(slash, "making mounts private"))?;
    let stage =
        tmpfs(&[("mode", "700")], MountAttrFlags::MOUNT_ATTR_NOSUID).map_err(failed(slash, "staging"))?;
    let host_root =
        rustix::fs::open(slash, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed(slash, "opening"))?;
    attach(&stage, &host_root).map_err(failed(slash, "staging"))?;
    let stage = RootDir::from(stage);
    for name in ["root", "empty"] {
        stage.mkdir(name, 0o700)?;
    }
    let insecure = spec.security == Security::Insecure;
    if !devices_confined && !insecure {
        // Device nodes of the image or made by the step must not be opened. In a user namespace they can't anyway.
        sys::mount_setattr(&spec.root, Recursive::No, libc::MOUNT_ATTR_NODEV, 0)
            .map_err(failed(slash, "forbidding devices"))?;
    }
    attach(&spec.root, find(&stage, "root").map_err(failed(slash, "staging"))?)
        .map_err(failed(slash, "attaching"))?;
    let root = RootDir::from(OwnedFd::from(spec.root));
    let root_mount = mount_id(&root);
    let cwd = spec.cwd.clone();
    let mut builder = Builder {
        stage,
        root,
        root_mount,
        security: spec.security,
        devices_confined,
        stubs: Vec::new(),
        parents: BTreeMap::new(),
        serial: 0,
    };
    let owner = (spec.identity.uid, spec.identity.gid);
    builder.root.mkdir_all(&spec.cwd, 0o755, Some(owner)).map_err(|e| match e {
        Error::Io { source, .. } => Error::WorkingDir { path: spec.cwd.clone(), source },
        other => other,
    })?;
    builder.proc()?;
    builder.dev(&spec.devices, spec.limits.shm_size.unwrap_or(DEFAULT_SHM))?;
    builder.sys(hierarchies)?;

    let file =
        |target: &str, content| Mount::new(target, MountKind::File { content, mode: 0o644, uid: 0, gid: 0 });
    let mut mounts = Vec::new();
    mounts.extend(spec.resolv_conf.map(|content| file("/etc/resolv.conf", content)));
    mounts.extend(spec.hosts.map(|content| file("/etc/hosts", content)));
    let own = mounts.len();
    mounts.extend(spec.mounts);
    // The last one for a target counts; outer ones come before inner ones.
    let mut last: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for (index, mount) in mounts.iter().enumerate() {
        last.insert(crate::runtime::clean(&mount.target), index);
    }
    let last_at =
        |index: usize, mount: &Mount| last.get(&crate::runtime::clean(&mount.target)) == Some(&index);
    let own = mounts.iter().enumerate().take(own).filter(|(index, mount)| last_at(*index, mount)).count();
    let mut index = 0;
    mounts.retain(|mount| {
        index += 1;
        last_at(index - 1, mount)
    });
    // The sandbox's own files come first: a mount over /etc hides them.
    mounts[own..].sort_by_key(|mount| crate::runtime::clean(&mount.target).components().count());
    for mount in mounts {
        builder.user_mount(mount)?;
    }
    // Once more, since a mount may hide the one that was made; what can't be made shows when it is entered.
    if find(&builder.root, &cwd).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        let _shows_later = builder.root.mkdir_all(&cwd, 0o755, Some(owner));
    }
    builder.finish(spec.root_access)
}

/// The number of the mount that `fd` is in; `None` before Linux 5.8.
fn mount_id(fd: impl AsFd) -> Option<u64> {
    let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id)
}

impl Builder {
    fn insecure(&self) -> bool {
        self.security == Security::Insecure
    }

    /// `/proc` or `/sys`: a real folder, made if it is missing; it stays afterwards, as builders have always left it.
    fn system_folder(&self, path: &Path) -> Result<OwnedFd, Error> {
        match self.root.open_file(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(fd) if is_dir(&fd).map_err(failed(path, "stat"))? => Ok(fd),
            Ok(_) => Err(failed(path, "it is not a folder in the root")(io::Error::from_raw_os_error(
                libc::ENOTDIR,
            ))),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.root.mkdir(path, 0o755)?;
                self.root.open_file(path, OFlags::PATH | OFlags::NOFOLLOW)
            }
            Err(e) => Err(e),
        }
    }

    fn proc(&mut self) -> Result<(), Error> {
        let target = Path::new("/proc");
        let place = self.system_folder(target)?;
        let proc = match new_filesystem("proc", &[], secure()) {
            Ok(proc) => proc,
            // In a container whose /proc has masked parts, a user namespace gets no new one. The old one shows the
            // processes of the builder's pid namespace, which the step can't touch for want of capabilities.
            Err(e) if crate::userns::inside() && e.raw_os_error() == Some(libc::EPERM) => {
                clone_tree(find_host("/proc").map_err(failed(target, "opening the host's"))?)
                    .map_err(failed(target, "binding the host's"))?
            }
            Err(e) => return Err(failed(target, "proc")(e)),
        };
        attach(&proc, &place).map_err(failed(target, "attaching"))?;
        if !self.insecure() {
            let proc = RootDir::from(proc);
            for name in READ_ONLY_PROC {
                read_only(&proc, name).map_err(failed(&target.join(name), "as read-only"))?;
            }
            self.mask(&proc, target, &MASKED_PROC)?;
        }
        Ok(())
    }

    /// Hides folders below an empty read-only one, and files below the null device.
    fn mask(&self, dir: &RootDir, shown: &Path, names: &[&str]) -> Result<(), Error> {
        for name in names {
            let Ok(place) = find(dir, name) else { continue };
            let hide = || -> io::Result<()> {
                let cover = if is_dir(&place)? {
                    let cover = clone_tree(find(&self.stage, "empty")?)?;
                    sys::mount_setattr(&cover, Recursive::No, libc::MOUNT_ATTR_RDONLY, 0)?;
                    cover
                } else {
                    clone_tree(find_host("/dev/null")?)?
                };
                attach(cover, &place)
            };
            hide().map_err(failed(&shown.join(name), "hiding"))?;
        }
        Ok(())
    }

    fn dev(&mut self, extra: &[PathBuf], shm_size: u64) -> Result<(), Error> {
        let target = Path::new("/dev");
        self.root.mkdir_all(target, 0o755, None)?;
        let place = find(&self.root, target).map_err(failed(target, "opening"))?;
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
        let making = if self.devices_confined || self.insecure() { Making::InPlace } else { Making::Bound };
        if making == Making::Bound {
            attributes |= MountAttrFlags::MOUNT_ATTR_NODEV;
        }
        let dev =
            tmpfs(&[("mode", "755"), ("size", "65536k")], attributes).map_err(failed(target, "tmpfs"))?;
        attach(&dev, &place).map_err(failed(target, "attaching"))?;
        let dev = RootDir::from(dev);
        for node in nodes::default_nodes() {
            nodes::put(&dev, &self.stage, &node, making)?;
        }
        let mut extra = extra.to_vec();
        if self.insecure() && !crate::userns::inside() {
            extra.extend(nodes::insecure_nodes());
        }
        for path in &extra {
            let node = nodes::host_node(path).map_err(failed(path, "looking at the device"))?;
            if !dev.exists(&node.name) {
                nodes::put(&dev, &self.stage, &node, making)?;
            }
        }
        for (text, name) in [
            ("/proc/self/fd", "fd"),
            ("/proc/self/fd/0", "stdin"),
            ("/proc/self/fd/1", "stdout"),
            ("/proc/self/fd/2", "stderr"),
            ("pts/ptmx", "ptmx"),
        ] {
            dev.symlink(text, name)?;
        }
        let noexec = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let base = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
        let with_gid: Vec<_> = base.into_iter().chain([("gid", "5")]).collect();
        // Group 5 (tty) may have no mapping.
        let pts =
            new_filesystem("devpts", &with_gid, noexec).or_else(|_| new_filesystem("devpts", &base, noexec));
        let size = shm_size.to_string();
        let shm = tmpfs(&[("mode", "1777"), ("size", &size)], secure());
        let mqueue = new_filesystem("mqueue", &[], secure());
        for (name, mount) in [("pts", pts), ("shm", shm), ("mqueue", mqueue)] {
            let path = target.join(name);
            if name == "mqueue" && mount.as_ref().is_err_and(|e| e.raw_os_error() == Some(libc::ENODEV)) {
                // A kernel without message queues.
                continue;
            }
            let mount = mount.map_err(failed(&path, name))?;
            dev.mkdir(name, 0o755)?;
            attach(mount, find(&dev, name).map_err(failed(&path, "opening"))?)
                .map_err(failed(&path, "attaching"))?;
        }
        Ok(())
    }

    fn sys(&mut self, hierarchies: &Hierarchies) -> Result<(), Error> {
        let target = Path::new("/sys");
        let place = self.system_folder(target)?;
        let mut attributes = secure();
        if !self.insecure() {
            attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        match new_filesystem("sysfs", &[], attributes) {
            Ok(sys) => {
                attach(&sys, &place).map_err(failed(target, "attaching"))?;
                let sys = RootDir::from(sys);
                self.cgroup(&sys, hierarchies, attributes)?;
                if !self.insecure() {
                    self.mask(&sys, target, &MASKED_SYS)?;
                }
            }
            // A user namespace that doesn't own the network namespace: what the host shows, but read-only.
            Err(_) => {
                let sys = clone_tree(find_host("/sys").map_err(failed(target, "opening the host's"))?)
                    .map_err(failed(target, "binding the host's"))?;
                let attributes = libc::MOUNT_ATTR_RDONLY
                    | libc::MOUNT_ATTR_NOSUID
                    | libc::MOUNT_ATTR_NODEV
                    | libc::MOUNT_ATTR_NOEXEC;
                sys::mount_setattr(&sys, Recursive::Yes, attributes, 0)
                    .map_err(failed(target, "as read-only"))?;
                attach(&sys, &place).map_err(failed(target, "attaching"))?;
                self.mask(&RootDir::from(sys), target, &MASKED_SYS)?;
            }
        }
        Ok(())
    }

    /// The step's own view of its cgroups: v2 at the top, or one folder a v1 hierarchy.
    fn cgroup(
        &self,
        sys: &RootDir,
        hierarchies: &Hierarchies,
        attributes: MountAttrFlags,
    ) -> Result<(), Error> {
        let target = Path::new("/sys/fs/cgroup");
        let Ok(place) = find(sys, "fs/cgroup") else { return Ok(()) };
        let v1: Vec<_> = hierarchies.v1_mounts().collect();
        if v1.is_empty() {
            // Without cgroups, or without the right to see them, the folder stays empty.
            if let Ok(cgroup) = new_filesystem("cgroup2", &[], attributes) {
                attach(cgroup, &place).map_err(failed(target, "attaching"))?;
            }
            return Ok(());
        }
        let base = tmpfs(&[("mode", "755")], secure()).map_err(failed(target, "tmpfs"))?;
        attach(&base, &place).map_err(failed(target, "attaching"))?;
        let base = RootDir::from(base);
        for (controllers, mount) in v1 {
            let Some(name) = mount.file_name() else { continue };
            let known: Vec<(&str, &str)> = controllers
                .iter()
                .filter(|c| !matches!(c.as_str(), "rw" | "ro" | "xattr" | "clone_children" | "noprefix"))
                .filter(|c| !c.starts_with("release_agent="))
                .map(|c| match c.strip_prefix("name=") {
                    Some(value) => ("name", value),
                    None => (c.as_str(), ""),
                })
                .collect();
            let options: Vec<_> = if known.iter().any(|(k, _)| *k == "name") {
                [("none", "")].into_iter().chain(known).collect()
            } else {
                known
            };
            if let Ok(cgroup) = new_filesystem("cgroup", &options, attributes) {
                base.mkdir(name, 0o755)?;
                attach(cgroup, find(&base, name).map_err(failed(target, "opening"))?)
                    .map_err(failed(&target.join(name), "attaching"))?;
            }
        }
        if !self.insecure() {
            sys::mount_setattr(&base, Recursive::No, libc::MOUNT_ATTR_RDONLY, 0)
                .map_err(failed(target, "as read-only"))?;
        }
        Ok(())
    }

    /// A detached mount for what the specification asks for, and whether it is a folder.
    fn source(&mut self, kind: MountKind, target: &Path) -> Result<(OwnedFd, bool), Error> {
        self.serial += 1;
        let name = format!("source-{}", self.serial);
        Ok(match kind {
            MountKind::Tmpfs { size, mode, uid, gid } => {
                let (size, mode) = (size.map(|s| s.to_string()), format!("{mode:o}"));
                let (uid, gid) = (uid.to_string(), gid.to_string());
                let mut options = vec![("mode", mode.as_str()), ("uid", &uid), ("gid", &gid)];
                options.extend(size.as_deref().map(|size| ("size", size)));
                let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
                (tmpfs(&options, attributes).map_err(failed(target, "tmpfs"))?, true)
            }
            MountKind::File { content, mode, uid, gid } => {
                let make = || -> io::Result<OwnedFd> {
                    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                    let fd = rustix::fs::openat(&self.stage, &name, flags, Mode::from_raw_mode(0o600))?;
                    let mut file = std::fs::File::from(fd);
                    file.write_all(&content)?;
                    rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
                    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
                    drop(file);
                    let clone = clone_tree(find(&self.stage, &name)?)?;
                    let attributes =
                        libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
                    sys::mount_setattr(&clone, Recursive::No, attributes, 0)?;
                    Ok(clone)
                };
                (make().map_err(failed(target, "writing the file"))?, false)
            }
            MountKind::Bind { source, access } => {
                let tree: OwnedFd = match source {
                    // The builder has made a detached clone of it.
                    BindSource::Host(fd) => fd,
                    BindSource::Tree { mount, subpath } => self.subtree(mount, &subpath, &name, target)?,
                };
                if access == Access::ReadOnly {
                    sys::mount_setattr(&tree, Recursive::Yes, libc::MOUNT_ATTR_RDONLY, 0)
                        .map_err(failed(target, "as read-only"))?;
                }
                if !self.devices_confined && !self.insecure() {
                    sys::mount_setattr(&tree, Recursive::Yes, libc::MOUNT_ATTR_NODEV, 0)
                        .map_err(failed(target, "forbidding devices"))?;
                }
                let folder = is_dir(&tree).map_err(failed(target, "stat of the source"))?;
                (tree, folder)
            }
        })
    }

    /// A part of a detached mount. It is attached in the staging area first, since older kernels clone attached
    /// mounts only.
    fn subtree(&self, mount: MountFd, subpath: &Path, name: &str, target: &Path) -> Result<OwnedFd, Error> {
        let mount = OwnedFd::from(mount);
        if crate::runtime::clean(subpath) == Path::new("/") {
            return Ok(mount);
        }
        self.stage.mkdir(name, 0o700)?;
        let place = find(&self.stage, name).map_err(failed(target, "staging the source"))?;
        attach(&mount, place).map_err(failed(target, "staging the source"))?;
        let source = find(&RootDir::from(mount), subpath)
            .map_err(failed(target, &format!("opening its source {}", subpath.display())))?;
        clone_tree(source).map_err(failed(target, "binding its source"))
    }

    fn user_mount(&mut self, mount: Mount) -> Result<(), Error> {
        let target = mount.target;
        let (source, folder) = self.source(mount.kind, &target)?;
        let (stubs, parents, root_mount) = (&mut self.stubs, &mut self.parents, self.root_mount);
        let root_device = rustix::fs::fstat(&self.root).map_err(failed(&target, "stat of the root"))?.st_dev;
        let before = |parent: BorrowedFd<'_>, place: &Path, name: &OsStr| -> io::Result<()> {
            let stat = rustix::fs::statat(parent, "", AtFlags::EMPTY_PATH)?;
            let on_root = match (mount_id(parent), root_mount) {
                (Some(id), Some(root)) => id == root,
                _ => stat.st_dev == root_device,
            };
            if on_root {
                if !parents.contains_key(place) {
                    parents.insert(place.to_owned(), (parent.try_clone_to_owned()?, stat));
                }
                stubs.push((place.join(name), true, place.to_owned()));
            }
            Ok(())
        };
        let place =
            self.root.mount_point(&target, folder, before).map_err(|e| self.no_mount_point(&target, e))?;
        if let Some((path, is_folder, _)) = self.stubs.last_mut()
            && !folder
            && self.root.resolve(&target).is_ok_and(|real| real == *path)
        {
            *is_folder = false;
        }
        if is_kernels(&place).map_err(failed(&target, "stat of the file system"))? {
            return Err(in_the_kernels(&target));
        }
        match (folder, is_dir(&place).map_err(failed(&target, "stat of the mount point"))?) {
            (true, false) => return Err(misplaced(&target, "a folder can't be mounted on a file")),
            (false, true) => return Err(misplaced(&target, "a file can't be mounted on a folder")),
            _ => {}
        }
        attach(&source, &place).map_err(failed(&target, "attaching"))
    }

    /// Why there is no mount point: the kernel's file systems take no new names, and say so in many ways.
    fn no_mount_point(&self, target: &Path, error: io::Error) -> Error {
        let above = target.ancestors().skip(1).find_map(|above| find(&self.root, above).ok());
        match above.is_some_and(|above| is_kernels(&above).unwrap_or(false)) {
            true => in_the_kernels(target),
            false => failed(target, "making the mount point")(error),
        }
    }

    /// Pivots. The old root with the staging area on top of it goes away.
    fn finish(self, access: Access) -> Result<Vec<StubRecord>, Error> {
        let slash = Path::new("/");
        let mut records = Vec::new();
        for (path, folder, parent) in self.stubs {
            let Some((fd, before)) = self.parents.get(&parent) else { continue };
            let after = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH).map_err(failed(&path, "stat"))?;
            records.push(StubRecord { path, folder, before: times_of(before), after: times_of(&after) });
        }
        let mut root: OwnedFd =
            self.root.as_fd().try_clone_to_owned().map_err(failed(slash, "duplicating"))?;
        if access == Access::ReadOnly {
            // A clone, so that the runner can still remove mount points through the original.
            root = clone_tree(&root).map_err(failed(slash, "cloning"))?;
            sys::mount_setattr(&root, Recursive::No, libc::MOUNT_ATTR_RDONLY, 0)
                .map_err(failed(slash, "as read-only"))?;
            let place = find(&self.stage, "empty").map_err(failed(slash, "staging"))?;
            attach(&root, place).map_err(failed(slash, "attaching"))?;
        }
        rustix::process::fchdir(&root).map_err(failed(slash, "entering"))?;
        rustix::process::pivot_root(".", ".")
            .map_err(failed(slash, "pivoting (the builder's root must not be an initramfs)"))?;
        rustix::process::chdir("/").map_err(failed(slash, "entering"))?;
        // The old root now lies on top of the new one, and the staging area on top of it. A name like "/.." leads
        // to what lies topmost, so that every single one has to go.
        let own = mount_at(&root, "").map_err(failed(slash, "stat"))?;
        for _ in 0..MAX_STACKED {
            if mount_at(CWD, "/..").map_err(failed(slash, "stat"))? == own {
                return Ok(records);
            }
            rustix::mount::unmount("/..", UnmountFlags::DETACH)
                .map_err(failed(slash, "detaching the old root"))?;
        }
        Err(failed(slash, "detaching the old root")(io::Error::from_raw_os_error(libc::EBUSY)))
    }
}

/// Whether something is in proc or sysfs.
fn is_kernels(place: impl AsFd) -> io::Result<bool> {
    let kind = rustix::fs::fstatfs(place)?.f_type;
    Ok(kind == libc::PROC_SUPER_MAGIC as _ || kind == libc::SYSFS_MAGIC as _)
}

fn in_the_kernels(target: &Path) -> Error {
    misplaced(target, "nothing may be mounted in /proc or /sys")
}

fn misplaced(target: &Path, reason: &str) -> Error {
    Error::MountPlace { target: target.to_owned(), reason: reason.to_owned() }
}

/// Mounts that may lie on top of the new root after pivoting.
const MAX_STACKED: usize = 64;

/// The mount that a path leads to; an empty one means the open file itself.
fn mount_at(at: impl AsFd, path: &str) -> io::Result<u64> {
    let stat = rustix::fs::statx(at, path, AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    if stat.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        // Before Linux 5.8, which can't have made the mounts.
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    Ok(stat.stx_mnt_id)
}

/// What `path` of the host leads to. The namespace still has the host's mounts then.
fn find_host(path: &str) -> io::Result<OwnedFd> {
    let fd = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind.is_dir() || kind.is_char_device() {
        Ok(fd)
    } else {
        Err(io::Error::from_raw_os_error(libc::ENODEV))
    }
}

/// Covers a part of a file system by a read-only view of itself.
fn read_only(dir: &RootDir, name: &str) -> io::Result<()> {
    let Ok(place) = find(dir, name) else { return Ok(()) };
    let cover = clone_tree(&place)?;
    sys::mount_setattr(&cover, Recursive::Yes, libc::MOUNT_ATTR_RDONLY, 0)?;
    attach(cover, &place)
}
