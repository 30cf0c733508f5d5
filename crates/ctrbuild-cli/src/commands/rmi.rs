//! `ctrbuild rmi`.

use crate::args::{Global, RmiArgs};
use crate::{machine, render};
use ctrbuild::images::RemovedName;
use ctrbuild::{Error, ErrorKind, Session};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

/// With more images than this, what an image leaves is collected by a process in the background: a collection
/// reads all manifests.
const MANY: usize = 1000;

pub fn run(global: &Global, args: &RmiArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    if args.collect {
        session.store.gc(&Default::default())?;
        return Ok(ExitCode::SUCCESS);
    }
    remove(global, session, &args.names, args.force)
}

/// Remove images, in whatever order lets most of them go, and give their space back.
pub fn remove(global: &Global, session: Session, names: &[String], force: bool) -> Result<ExitCode, Error> {
    let mut code = ExitCode::SUCCESS;
    let mut names: Vec<&String> = names.iter().collect();
    while !names.is_empty() {
        let before = names.len();
        let mut in_the_way = Vec::new();
        for name in std::mem::take(&mut names) {
            match ctrbuild::images::remove(&session.store, name, force) {
                Ok(removed) => removed.iter().for_each(tell),
                Err(e) if e.kind == ErrorKind::Conflict => in_the_way.push((name, e)),
                Err(e) => {
                    render::failure(&e, None);
                    // As docker: with --force there is nothing wrong with what is gone already.
                    if !force || e.kind != ErrorKind::NotFound {
                        code = ExitCode::FAILURE;
                    }
                }
            }
        }
        // What one image was in the way of may go once that is gone: the order of the names does not matter.
        if in_the_way.len() == before {
            in_the_way.iter().for_each(|(_, e)| render::failure(e, None));
            code = ExitCode::FAILURE;
            break;
        }
        names = in_the_way.into_iter().map(|(name, _)| name).collect();
    }
    // Space comes back at once, not with the next build.
    if session.store.count_refs()? <= MANY {
        session.store.gc(&Default::default())?;
        return Ok(code);
    }
    // First, or the collection would find in use what was looked at here.
    drop(session);
    if !collect_later(global) {
        machine::session(global)?.store.gc(&Default::default())?;
    }
    Ok(code)
}

fn tell(removed: &RemovedName) {
    match removed {
        RemovedName::Untagged(name) => println!("Untagged: {name}"),
        RemovedName::Deleted(digest) => println!("Deleted: {digest}"),
    }
}

/// Start `rmi --collect` in the background, as git starts its own. Whether that worked. It may be killed at any
/// time: collections are made for that.
fn collect_later(global: &Global) -> bool {
    let (Ok(program), Ok(root)) = (std::env::current_exe(), machine::store_root(global)) else {
        return false;
    };
    let mut command = Command::new(program);
    command.arg("--root").arg(root);
    command.args(["rmi", "--collect"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // In a group of its own: what interrupts the commands after this one is not meant for it.
    command.process_group(0).spawn().is_ok()
}
