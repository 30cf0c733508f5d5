//! `ctrbuild copy`, `ctrbuild add`: files into a working container.

use super::{build, working};
use crate::args::{CopyArgs, Global};
use crate::machine;
use ctrbuild::Error;
use ctrbuild::containers::{self, CopyRequest};
use std::process::ExitCode;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Copy,
    Add,
}

pub fn run(global: &Global, args: &CopyArgs, kind: Kind) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let (named, dest) = match args.paths.as_slice() {
        // As buildah: to the working directory.
        [source] => (vec![source.clone()], ".".to_string()),
        [sources @ .., dest] => (sources.to_vec(), dest.clone()),
        [] => return Err(build::usage("there is nothing to copy")),
    };
    if kind == Kind::Add && args.from.name.is_some() {
        return Err(
            build::usage("ADD can't copy from a container or an image").hint("use `ctrbuild copy --from`")
        );
    }
    let inside = args.from.name.is_some() || args.contextdir.is_some();
    let mut sources = Vec::new();
    for source in &named {
        let remote = kind == Kind::Add && (plan::is_http_url(source) || plan::is_git_url(source));
        sources.push(match inside || remote {
            true => source.clone(),
            // The whole machine is the context, so that a path means what it means elsewhere.
            false => {
                let whole = std::path::absolute(source).ok().and_then(|p| p.to_str().map(str::to_string));
                whole.ok_or_else(|| build::usage(format!("{source:?} is no path that can be copied")))?
            }
        });
    }
    let context = match &args.contextdir {
        Some(_) => working::context(args.contextdir.as_ref())?,
        None => "/".into(),
    };
    let request = CopyRequest {
        add: kind == Kind::Add,
        sources,
        named,
        dest,
        chown: args.chown.clone(),
        chmod: args.chmod.clone(),
        from: args.from.name.clone(),
        excludes: args.exclude.clone(),
    };
    let setup = working::setup(&session, "default", context)?;
    let observer = working::observer();
    super::wait_or_exit(async {
        containers::copy(&session, &setup, &*observer, &args.container, &request).await?;
        Ok(ExitCode::SUCCESS)
    })
}
