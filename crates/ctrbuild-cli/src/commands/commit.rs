//! `ctrbuild commit`: an image of a working container.

use super::{build, working};
use crate::args::{CommitArgs, Global};
use crate::{machine, table};
use ctrbuild::containers::{self, CommitRequest};
use ctrbuild::{Error, images};
use std::process::ExitCode;

pub fn run(global: &Global, args: &CommitArgs) -> Result<ExitCode, Error> {
    let epoch = source_date_epoch()?;
    if args.rewrite_timestamp && epoch.is_none() {
        return Err(build::usage("--rewrite-timestamp needs SOURCE_DATE_EPOCH in the environment"));
    }
    let request = CommitRequest {
        name: args.name.as_deref().map(images::parse_name).transpose()?,
        author: args.author.clone(),
        publisher: args.publisher.clone(),
        version: args.image_version.clone(),
        message: args.message.clone(),
        changes: args.change.clone(),
        created: epoch.unwrap_or_else(table::now),
        rewrite_timestamp: args.rewrite_timestamp,
    };
    let session = machine::session(global)?;
    let setup = working::setup(&session, "default", "/".into())?;
    let observer = working::observer();
    super::wait_or_exit(async {
        let mut container = containers::open_unmounted(&session, &args.container, &*observer).await?;
        let image = containers::commit(&session, &setup, &*observer, &mut container, &request).await?;
        let id = container.id().to_string();
        drop(container);
        if let Some(path) = &args.iidfile {
            std::fs::write(path, image.id().to_string())
                .map_err(|e| Error::world(format!("can't write {}: {e}", path.display())))?;
        }
        println!("{}", image.id().hex());
        if args.rm {
            containers::remove(&session.store, &id)?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The time that SOURCE_DATE_EPOCH names, in seconds since 1970.
pub fn source_date_epoch() -> Result<Option<i64>, Error> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) if !text.is_empty() => text.trim().parse().map(Some).map_err(|_| {
            build::usage(format!("SOURCE_DATE_EPOCH={text:?} is no time")).hint("give seconds since 1970")
        }),
        _ => Ok(None),
    }
}
