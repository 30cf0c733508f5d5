//! `ctrbuild prune`.

use crate::args::{Global, PruneArgs};
use crate::{machine, table};
use ctrbuild::{Error, ErrorKind};
use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;
use store::GcPolicy;

pub fn run(global: &Global, args: &PruneArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let keep_bytes = args
        .keep_storage
        .as_ref()
        .map(|t| machine::bytes(t).ok_or_else(|| Error::new(ErrorKind::Recipe, format!("{t:?} is no size"))))
        .transpose()?;
    let mut policy = GcPolicy { keep_bytes, ..GcPolicy::default() };
    if let Some(hours) = args.unused_for {
        policy.unused_for = Some(Duration::from_secs(hours * 3600));
    } else if args.all {
        policy.unused_for = Some(Duration::ZERO);
    }
    let report = if args.dry_run {
        session.store.gc_preview(&policy)?
    } else {
        if args.all && !args.force && std::io::stdin().is_terminal() && !confirmed()? {
            return Ok(ExitCode::FAILURE);
        }
        let untagged = ctrbuild::images::remove_untagged(&session.store)?;
        if untagged > 0 {
            println!("Untagged images: {untagged}");
        }
        session.store.gc(&policy)?
    };
    for removed in &report.removed {
        println!("{} {}: {}", super::df::name(removed.kind), removed.id, table::size(removed.bytes));
    }
    println!("Total reclaimed space: {}", table::size(report.freed));
    Ok(ExitCode::SUCCESS)
}

fn confirmed() -> Result<bool, Error> {
    eprint!("This removes all build cache that no image uses. Go on? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|e| Error::world(format!("can't read the answer: {e}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
