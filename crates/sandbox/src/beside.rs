//! Programs of the host that see a detached mount: they run in a mount namespace of their own in which it is attached.
//!
//! This confines nothing: the program is the caller's own. It is there so that a mount can be shown to programs without
//! being in the host's namespace, where it would outlive a builder that is killed.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use rustix::fs::CWD;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount};
use rustix::thread::UnshareFlags;

use crate::error::Error;
use crate::overlay::MountFd;

/// Run `command` to its end with `mount` attached at the folder `at`, which only it and its children see there. `mount`
/// must be the only descriptor of the mount. Ok means that nobody can reach the mount any more.
///
/// # Errors
/// Fails where a process that the command left behind still has something open in it, or where it mounted something there.
pub fn run_beside(mount: MountFd, at: &Path, mut command: Command) -> Result<ExitStatus, Error> {
    // SAFETY: prctl(2) alone, which may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            // Else it would go on in a folder that is being removed.
            Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
        });
    }
    let work = move || -> io::Result<ExitStatus> {
        // SAFETY: this thread was made for the purpose and ends right after; a separate fs and mount namespace
        // is invisible to all other threads, and nothing here relies on sharing them.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS) }?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        move_mount(&mount, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        drop(mount);
        // The signal comes when this thread ends, which waits.
        let status = command.status().map_err(|e| {
            io::Error::new(e.kind(), format!("{}: {e}", command.get_program().to_string_lossy()))
        })?;
        unmount(at, UnmountFlags::empty())?;
        Ok(status)
    };
    let ended = std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("beside".into())
            .spawn_scoped(scope, work)?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that mounts ended unexpectedly")))
    });
    ended.map_err(|e| match e.raw_os_error() == Some(libc::EBUSY) {
        true => Error::LeftBehind,
        false => Error::io("can't run a program beside a mount", e),
    })
}
