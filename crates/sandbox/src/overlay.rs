//! Detached mounts: overlays, clones of folders, in-memory file systems. A [`MountFd`] is in no mount namespace
//! of the host, so that the kernel drops it when its last descriptor is closed: a killed builder leaks nothing.
//! Attaching one is the business of the runner, inside of a step's own mount namespace.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};

use crate::error::Error;
use crate::rootdir::RootDir;
use crate::spec::Access;
use crate::sys::{self, Recursive};

/// Most lower folders one overlay takes (`OVL_MAX_STACK` of the kernel).
pub const MAX_LOWERS: usize = 500;

/// The root of a detached mount. File operations work through it as long as it lives, also after a step has
/// used (and thereby attached) the mount.
#[derive(Debug)]
pub struct MountFd(OwnedFd);

impl AsFd for MountFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<MountFd> for OwnedFd {
    fn from(mount: MountFd) -> OwnedFd {
        mount.0
    }
}

impl MountFd {
    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        MountFd(fd)
    }

    /// Another descriptor of the same mount, not another mount: only one of them can be given to a step.
    pub fn try_clone(&self) -> Result<MountFd, Error> {
        self.0.try_clone().map(MountFd).map_err(|e| Error::io("can't duplicate a descriptor", e))
    }

    /// Confined file operations below the root of this mount.
    pub fn root(&self) -> Result<RootDir, Error> {
        RootDir::open(self.as_fd(), ".")
    }

    /// A detached bind mount of a folder or file of the host's mount namespace, with all that is mounted below.
    /// Fails with `EINVAL` before Linux 6.15 if `source` itself is in a detached mount.
    pub fn clone_of(source: impl AsFd, access: Access) -> Result<MountFd, Error> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        let fd = rustix::mount::open_tree(source.as_fd(), "", flags).map_err(|e| Error::FileSystem {
            what: "a bind of an open folder or file".into(),
            source: e.into(),
        })?;
        // Else what a step mounts in it would appear on the host.
        sys::make_private(&fd)
            .map_err(|source| Error::FileSystem { what: "a bind as private".into(), source })?;
        if access == Access::ReadOnly {
            sys::mount_setattr(&fd, Recursive::Yes, libc::MOUNT_ATTR_RDONLY, 0)
                .map_err(|source| Error::FileSystem { what: "a bind as read-only".into(), source })?;
        }
        Ok(MountFd(fd))
    }

    /// As [`MountFd::clone_of`] a folder that is to be a step's root: it is writable, and programs, setuid programs
    /// and devices work in it whatever the flags of its file system are, if they may be changed here.
    pub fn root_of(folder: impl AsFd) -> Result<MountFd, Error> {
        let mount = MountFd::clone_of(folder, Access::ReadWrite)?;
        for flag in [libc::MOUNT_ATTR_NOEXEC, libc::MOUNT_ATTR_NOSUID, libc::MOUNT_ATTR_NODEV] {
            // A user namespace can't lift what the host's owner has set; the step will tell.
            let _locked = sys::mount_setattr(&mount.0, Recursive::No, 0, flag);
        }
        Ok(mount)
    }
}

/// Where an overlay keeps its extended attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum XattrPrefix {
    /// `trusted.overlay.`: needs `CAP_SYS_ADMIN` in the initial user namespace.
    #[default]
    Trusted,
    /// `user.overlay.`: the only choice inside of a user namespace.
    User,
}

/// Whether an overlay hands syncs of its files on to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Sync {
    /// `fsync` in the overlay syncs the upper folder's file system.
    #[default]
    Durable,
    /// Syncs do nothing: faster for steps that sync each file (dpkg). Who commits the upper folder syncs it
    /// then, and the work folder can't be used again. Ignored by kernels before 5.10.
    Volatile,
}

/// Options of [`Overlay::mount`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OverlayOptions {
    /// Choose [`XattrPrefix::User`] where [`crate::userns::inside`] says so.
    pub xattrs: XattrPrefix,
    /// The mount's own access; without an upper folder it is always read-only.
    pub access: Access,
    /// See [`Sync`].
    pub sync: Sync,
}

/// A folder that takes part in an overlay: by path, or opened before (`O_PATH` is enough).
#[derive(Clone, Copy, Debug)]
pub enum Folder<'a> {
    /// Resolved now, following symlinks.
    Path(&'a Path),
    /// Already open.
    Fd(BorrowedFd<'a>),
}

impl<'a> From<&'a Path> for Folder<'a> {
    fn from(path: &'a Path) -> Self {
        Folder::Path(path)
    }
}

impl<'a> From<BorrowedFd<'a>> for Folder<'a> {
    fn from(fd: BorrowedFd<'a>) -> Self {
        Folder::Fd(fd)
    }
}

/// The writable part of an overlay. Both folders lie in the same file system; `work` is empty and fresh.
#[derive(Clone, Copy, Debug)]
pub struct Upper<'a> {
    /// Takes what is written.
    pub upper: Folder<'a>,
    /// The kernel's own.
    pub work: Folder<'a>,
}

/// An open folder, and what keeps it open.
enum Held<'a> {
    Owned(OwnedFd),
    Borrowed(BorrowedFd<'a>),
}

impl Held<'_> {
    fn open(folder: Folder<'_>) -> Result<Held<'_>, Error> {
        match folder {
            Folder::Fd(fd) => Ok(Held::Borrowed(fd)),
            Folder::Path(path) => {
                rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                    .map(Held::Owned)
                    .map_err(|e| Error::io(format!("can't open {}", path.display()), e))
            }
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Held::Owned(fd) => fd.as_fd(),
            Held::Borrowed(fd) => *fd,
        }
    }

    /// A path that names the open folder whatever its real path holds (commas, colons, 256 letters).
    fn link(&self) -> String {
        format!("/proc/self/fd/{}", self.fd().as_raw_fd())
    }
}

/// Maker of overlay mounts.
#[derive(Debug)]
pub struct Overlay;

impl Overlay {
    /// Mounts `lowers` (the topmost first, at most [`MAX_LOWERS`]) and, if given, an upper folder.
    /// One lower alone becomes a read-only bind. index and metacopy are off and redirects are not even followed, so that the upper
    /// folder is a plain difference that can be read, moved and stacked again.
    pub fn mount(
        lowers: &[Folder<'_>],
        upper: Option<Upper<'_>>,
        options: OverlayOptions,
    ) -> Result<MountFd, Error> {
        if lowers.is_empty() || lowers.len() > MAX_LOWERS {
            return Err(Error::Spec(format!(
                "an overlay takes 1 to {MAX_LOWERS} lower folders, not {}",
                lowers.len()
            )));
        }
        if let ([lower], None) = (lowers, upper) {
            let lower = Held::open(*lower)?;
            // A clone fails for folders of detached mounts; an overlay of one lower isn't possible without upper.
            return MountFd::clone_of(lower.fd(), Access::ReadOnly);
        }
        /// Set once only the old way worked: each try of the new one is a line in the kernel's log.
        static OLD_KERNEL: AtomicBool = AtomicBool::new(false);
        if OLD_KERNEL.load(Ordering::Relaxed) {
            return mount_by_string(lowers, upper, options);
        }
        match mount_by_parameters(lowers, upper, options) {
            // Kernels before 6.7 don't know `lowerdir+`.
            Err(Error::FileSystem { what, source }) if source.raw_os_error() == Some(libc::EINVAL) => {
                let mounted = mount_by_string(lowers, upper, options);
                let unknown = mounted.is_ok() && what.contains("lowerdir+");
                OLD_KERNEL.fetch_or(unknown, Ordering::Relaxed);
                mounted
            }
            other => other,
        }
    }
}

/// The parameters both ways of mounting share.
fn flags_of(options: OverlayOptions, writable: bool) -> Vec<(&'static str, Option<&'static str>)> {
    let mut flags =
        vec![("index", Some("off")), ("metacopy", Some("off")), ("redirect_dir", Some("nofollow"))];
    if writable {
        flags.push(("xino", Some("auto")));
        if options.sync == Sync::Volatile {
            flags.push(("volatile", None));
        }
    }
    if options.xattrs == XattrPrefix::User {
        flags.push(("userxattr", None));
    }
    flags
}

fn mount_by_parameters(
    lowers: &[Folder<'_>],
    upper: Option<Upper<'_>>,
    options: OverlayOptions,
) -> Result<MountFd, Error> {
    let failed = |what: &str| {
        let what = format!("an overlay ({what})");
        move |e: rustix::io::Errno| Error::FileSystem { what, source: e.into() }
    };
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed("fsopen"))?;
    for (name, value) in flags_of(options, upper.is_some()) {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(&context, name, value),
            None => rustix::mount::fsconfig_set_flag(&context, name),
        }
        .map_err(failed(name))?;
    }
    // The kernel resolves each value at once, so that one descriptor at a time is enough.
    for lower in lowers {
        let lower = Held::open(*lower)?;
        rustix::mount::fsconfig_set_string(&context, "lowerdir+", lower.link())
            .map_err(failed("lowerdir+"))?;
    }
    if let Some(Upper { upper, work }) = upper {
        let (upper, work) = (Held::open(upper)?, Held::open(work)?);
        rustix::mount::fsconfig_set_string(&context, "upperdir", upper.link()).map_err(failed("upperdir"))?;
        rustix::mount::fsconfig_set_string(&context, "workdir", work.link()).map_err(failed("workdir"))?;
        rustix::mount::fsconfig_create(&context).map_err(failed("create"))?;
    } else {
        rustix::mount::fsconfig_create(&context).map_err(failed("create"))?;
    }
    let attributes = match (options.access, upper) {
        (Access::ReadWrite, Some(_)) => MountAttrFlags::empty(),
        _ => MountAttrFlags::MOUNT_ATTR_RDONLY,
    };
    let fd = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(failed("fsmount"))?;
    Ok(MountFd(fd))
}

/// The classic option string: one page for all, and only `mount(2)` takes so much. The mount is made in a mount
/// namespace of a thread's own and cloned from there. The folders are named by number, relative to
/// `/proc/thread-self/fd`, so that 500 of them fit into the page.
fn mount_by_string(
    lowers: &[Folder<'_>],
    upper: Option<Upper<'_>>,
    options: OverlayOptions,
) -> Result<MountFd, Error> {
    let lowers = lowers.iter().map(|l| Held::open(*l)).collect::<Result<Vec<_>, _>>()?;
    let upper = upper.map(|u| Ok::<_, Error>((Held::open(u.upper)?, Held::open(u.work)?))).transpose()?;
    let writable = upper.is_some() && options.access == Access::ReadWrite;
    let work = || -> io::Result<OwnedFd> {
        use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
        use rustix::thread::UnshareFlags;
        // SAFETY: this thread was made for the purpose and ends right after; a separate fs and mount namespace
        // is invisible to all other threads, and nothing here relies on sharing them.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS) }?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        let here = lowers.iter().map(reopen).collect::<io::Result<Vec<_>>>()?;
        let numbers: Vec<_> = here.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
        let mut data = format!("lowerdir={}", numbers.join(":"));
        let upper = upper.as_ref().map(|(u, w)| Ok::<_, io::Error>((reopen(u)?, reopen(w)?))).transpose()?;
        if let Some((upper, work)) = &upper {
            data.push_str(&format!(",upperdir={},workdir={}", upper.as_raw_fd(), work.as_raw_fd()));
        }
        for (name, value) in flags_of(options, writable) {
            match value {
                Some(value) => data.push_str(&format!(",{name}={value}")),
                None => data.push_str(&format!(",{name}")),
            }
        }
        let data = sys::cstring(data.as_ref())?;
        rustix::process::chdir("/proc/thread-self/fd")?;
        let flags = if writable { MountFlags::empty() } else { MountFlags::RDONLY };
        // Any folder but the root will do: nobody else sees what is mounted there.
        mount("overlay", "/proc", "overlay", flags, Some(data.as_c_str()))?;
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(rustix::mount::open_tree(CWD, "/proc", clone)?)
    };
    let made = std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("overlay".into())
            .spawn_scoped(scope, work)?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that mounts ended unexpectedly")))
    });
    made.map(MountFd).map_err(|source| Error::FileSystem { what: "an overlay (mount)".into(), source })
}

/// The same folder, opened through the current mount namespace: the kernel stacks no folder of another one.
fn reopen(held: &Held<'_>) -> io::Result<OwnedFd> {
    let path = rustix::fs::readlink(held.link(), Vec::new())?;
    let fd = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let identity = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    if identity(rustix::fs::fstat(&fd)?) != identity(rustix::fs::fstat(held.fd())?) {
        return Err(io::Error::from_raw_os_error(libc::ESTALE));
    }
    Ok(fd)
}

/// An in-memory file system with the given options, detached.
pub(crate) fn tmpfs(options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    new_filesystem("tmpfs", options, attributes)
}

/// A new instance of a file system type, detached. An empty value sets a flag.
pub(crate) fn new_filesystem(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        if value.is_empty() {
            rustix::mount::fsconfig_set_flag(&context, *name)?;
        } else {
            rustix::mount::fsconfig_set_string(&context, *name, *value)?;
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// True if `fd` is a folder.
pub(crate) fn is_dir(fd: impl AsFd) -> io::Result<bool> {
    let stat = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)?;
    Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The way for kernels that don't know `lowerdir+`.
    #[test]
    fn option_strings_hold_as_many_lowers() {
        if crate::userns::needed() {
            return eprintln!("skipped: needs root");
        }
        let dir = tempfile::tempdir().unwrap();
        let lowers: Vec<_> = (0..MAX_LOWERS).map(|n| dir.path().join(n.to_string())).collect();
        for (n, lower) in lowers.iter().enumerate() {
            std::fs::create_dir(lower).unwrap();
            std::fs::write(lower.join("top"), n.to_string()).unwrap();
            std::fs::write(lower.join(format!("f{n}")), n.to_string()).unwrap();
        }
        let folders: Vec<_> = lowers.iter().map(|l| Folder::Path(l)).collect();
        let (upper, work) = (dir.path().join("upper"), dir.path().join("work"));
        std::fs::create_dir(&upper).unwrap();
        std::fs::create_dir(&work).unwrap();
        let parts = Upper { upper: Folder::Path(&upper), work: Folder::Path(&work) };
        let before = std::fs::read("/proc/self/mountinfo").unwrap();
        let root = mount_by_string(&folders, Some(parts), OverlayOptions::default()).unwrap().root().unwrap();
        assert_eq!(root.read_limited("top", 9).unwrap(), b"0");
        assert_eq!(root.read_limited("f499", 9).unwrap(), b"499");
        root.remove_file("f7").unwrap();
        assert!(std::fs::symlink_metadata(upper.join("f7")).is_ok());
        let read_only =
            mount_by_string(&folders[..2], None, OverlayOptions::default()).unwrap().root().unwrap();
        assert!(read_only.mkdir("x", 0o755).is_err());
        assert_eq!(std::fs::read("/proc/self/mountinfo").unwrap(), before);
    }
}
