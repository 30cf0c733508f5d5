//! `ctrbuild store`.

use crate::args::{Global, StoreCommand};
use crate::{machine, table};
use ::store::Finding;
use ctrbuild::Error;
use ctrbuild::layer_check::LayerCheck;
use ctrbuild::mend::Mended;
use ctrbuild::relocate::Relocated;
use std::path::Path;
use std::process::ExitCode;

/// Exit code where nothing is damaged, but others could have changed the store.
const UNTRUSTED: u8 = 2;

pub fn run(global: &Global, command: &StoreCommand) -> Result<ExitCode, Error> {
    match command {
        StoreCommand::Verify { repair } => verify(global, *repair),
        StoreCommand::Dedup => {
            super::prune::share(&machine::session(global)?.store)?;
            Ok(ExitCode::SUCCESS)
        }
        StoreCommand::Move { path } => relocate(global, path),
    }
}

fn relocate(global: &Global, path: &Path) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let from = session.store.root().to_path_buf();
    let (to, how) = match ctrbuild::relocate::relocate(&session.store, path)? {
        Relocated::Renamed { to } => (to, "renamed"),
        Relocated::Copied { to } => (to, "copied and compared"),
    };
    eprintln!("{how}; {} now leads there", from.display());
    println!("{}", to.display());
    Ok(ExitCode::SUCCESS)
}

fn verify(global: &Global, repair: bool) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let options = if repair { ::store::VerifyOptions::Repair } else { ::store::VerifyOptions::Report };
    let layers = LayerCheck::new(&session.store)?;
    let check = |files: &Path, snapshot: &::store::SnapshotV1| layers.is_sound(files, snapshot);
    let report = session.store.verify(options, Some(&check))?;
    for finding in &report.findings {
        println!("{}", words(finding));
    }
    let mended = match repair {
        true => match super::wait(ctrbuild::mend::mend(&session, &report))? {
            Ok(mended) => mended,
            Err(code) => return Ok(code),
        },
        false => Mended::default(),
    };
    for digest in &mended.fetched {
        println!("fetched {digest} again");
    }
    for digest in &mended.unpacked {
        println!("layer {digest} is left as files, and is packed anew when it is sent");
    }
    for what in &mended.lost {
        println!("not mended: {what}");
    }
    println!(
        "{} blobs ({}), {} snapshots, {} records, {} references: {} findings, {} repaired",
        report.blobs,
        table::size(report.blob_bytes),
        report.snapshots,
        report.records,
        report.refs,
        report.findings.len(),
        report.repaired
    );
    // What is left after a repair is what counts.
    let left = match repair {
        true => session.store.verify(::store::VerifyOptions::Report, Some(&check))?,
        false => report,
    };
    if repair {
        left.findings.iter().for_each(|f| println!("left: {}", words(f)));
    }
    Ok(match (left.is_sound() && mended.lost.is_empty(), left.is_trusted()) {
        (false, _) => ExitCode::FAILURE,
        (true, false) => ExitCode::from(UNTRUSTED),
        (true, true) => ExitCode::SUCCESS,
    })
}

fn words(finding: &Finding) -> String {
    match finding {
        Finding::DamagedBlob { digest } => format!("damaged blob {digest}"),
        Finding::UnreadableBlob { digest, reason } => format!("unreadable blob {digest}: {reason}"),
        Finding::DamagedSnapshot { id, reason } => format!("damaged snapshot {id}: {reason}"),
        Finding::OrphanSnapshot { id } => format!("snapshot {id} has no record"),
        Finding::Unfinished { kind, id } => {
            format!(
                "unfinished when power was lost ({}): {id}; a collection removes it",
                super::df::name(*kind)
            )
        }
        Finding::UselessRecord { key } => format!("cache record {key} has lost what it needs"),
        Finding::UselessLayer { diff_id } => format!("layer {diff_id} has neither files nor blobs"),
        Finding::MalformedRef { file } => format!("malformed reference {file}"),
        Finding::DamagedContainer { id, reason } => format!("damaged container {id}: {reason}"),
        Finding::DanglingRef { name, digest } => format!("{name} points at {digest}, which is not there"),
        Finding::LostConfig { name, digest } => format!("{name} has lost its configuration {digest}"),
        Finding::Exposed { path, reason } => format!("untrusted: {}: {reason}", path.display()),
        Finding::IncompleteImage { name, digest } => format!("{name} lacks {digest} (not pulled)"),
    }
}
