//! Containers whose files lie in a folder for a while, where any program of the host can work on them.
//!
//! It is a copy, since a mount would outlive a process that is killed: `mount` lays it out in the container's own
//! folder, and `umount` makes a layer of what was changed. A single program can have a mount, which ends with it.

use super::{Container, Setup, work};
use crate::{BuildObserver, Error, ErrorKind, Session};
use std::path::{Path, PathBuf};

/// What is known of the copy, beside it.
const RECORD: &str = "record";
const FILES: &str = "files";

/// Whether its files are laid out.
pub fn is_mounted(container: &Container) -> bool {
    container.guard.tree().exists()
}

/// Where the files are in a container's copy, if there is one.
pub(super) fn files_in(tree: &Path) -> Option<PathBuf> {
    Some(tree.join(FILES)).filter(|files| files.exists())
}

/// Lay out the files, unless they are already; the folder they are in.
pub async fn mount(
    session: &Session,
    setup: &Setup,
    observer: &dyn BuildObserver,
    container: &Container,
) -> Result<PathBuf, Error> {
    not_windows(container)?;
    let tree = container.guard.tree();
    let files = tree.join(FILES);
    if is_mounted(container) {
        return Ok(files);
    }
    let layers = work::stack(session, setup, observer, container).await?;
    let snapshotter = session.snapshotter.clone();
    par::blocking(move || -> Result<(), Error> {
        let failed = |e: std::io::Error| Error::world(format!("can't lay out the files: {e}"));
        let store = snapshotter.store();
        // Made aside and moved as a whole: what is not finished goes with the lease.
        let active = store.prepare()?;
        let aside = active.scratch();
        std::fs::create_dir_all(aside.join(FILES)).map_err(failed)?;
        let record = snapshotter.lay_out(&layers, &aside.join(FILES)).map_err(|e| Error::from(&e))?;
        std::fs::write(aside.join(RECORD), record).map_err(failed)?;
        // What power loss took of them would look like deleted files.
        let synced = std::fs::File::open(&aside).and_then(|f| Ok(rustix::fs::syncfs(&f)?));
        synced.map_err(failed)?;
        std::fs::rename(&aside, &tree).map_err(failed)
    })
    .await?;
    Ok(files)
}

/// What anybody wrote there would have to be looked at as what COPY brings, and name by name.
fn not_windows(container: &Container) -> Result<(), Error> {
    match container.facts.config.os == "windows" {
        false => Ok(()),
        true => Err(Error::new(ErrorKind::Recipe, "files of a Windows image can't be mounted on Linux")
            .hint("change them with ctrbuild copy and ctrbuild add")),
    }
}

/// Take in what was changed, and remove the copy. Programs that still write to it may lose what they write.
pub async fn umount(session: &Session, container: &mut Container) -> Result<(), Error> {
    let tree = container.guard.tree();
    if !is_mounted(container) {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("container {} is not mounted", container.name()),
        )
        .hint(format!("ctrbuild mount {}", container.name())));
    }
    let snapshotter = session.snapshotter.clone();
    let layer = par::blocking(move || {
        let failed = |e: std::io::Error| Error::world(format!("can't take in the mounted files: {e}"));
        // Out of sight first: taking them in moves them, and what is left halfway is no state to go on from.
        let active = snapshotter.store().prepare()?;
        std::fs::rename(&tree, active.scratch()).map_err(failed)?;
        let record = std::fs::read_to_string(active.scratch().join(RECORD)).map_err(failed)?;
        snapshotter.take_in(&active.scratch().join(FILES), &record).map_err(|e| Error::from(&e))
    })
    .await?;
    container.push(&session.store, layer, "mount".into())
}

/// The variable that tells a program where the files are.
pub const VARIABLE: &str = "CTRBUILD_MOUNT";
/// The variable that tells it which container they are of, by its id.
pub const CONTAINER_VARIABLE: &str = "CTRBUILD_CONTAINER";

/// Run a program of the host that sees the container's files in a folder, and keep what it changes. Its exit code.
pub async fn run_beside(
    session: &Session,
    setup: &Setup,
    observer: &dyn BuildObserver,
    container: &mut Container,
    mut command: std::process::Command,
) -> Result<i32, Error> {
    not_windows(container)?;
    let layers = work::stack(session, setup, observer, container).await?;
    let name = command.get_program().to_string_lossy().into_owned();
    let id = container.id().to_string();
    let snapshotter = session.snapshotter.clone();
    let (code, layer) = par::blocking(move || -> Result<_, Error> {
        let store = snapshotter.store();
        let active = store.prepare()?;
        let prepared = snapshotter.prepare(&active, &layers, sandbox::Sync::Durable);
        let (mount, unsettled) = prepared.map_err(|e| Error::from(&e))?.give();
        let at = active.scratch().join("mount");
        std::fs::create_dir_all(&at)
            .map_err(|e| Error::world(format!("can't make {}: {e}", at.display())))?;
        command.env(VARIABLE, &at).env(CONTAINER_VARIABLE, id);
        let status = sandbox::run_beside(mount, &at, command)?;
        unsettled.settle(&active).map_err(|e| Error::from(&e))?;
        let code = status
            .code()
            .unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0));
        Ok((code, store.commit(active, Default::default())?))
    })
    .await?;
    container.push(&session.store, layer, format!("mount {name}"))?;
    Ok(code)
}
