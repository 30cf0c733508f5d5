//! `ctrbuild store`.

use crate::args::{Global, StoreCommand};
use crate::{machine, table};
use ::store::Finding;
use ctrbuild::Error;
use std::process::ExitCode;

pub fn run(global: &Global, command: &StoreCommand) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    match command {
        StoreCommand::Verify { repair } => {
            let options =
                if *repair { ::store::VerifyOptions::Repair } else { ::store::VerifyOptions::Report };
            let report = session.store.verify(options, None)?;
            for finding in &report.findings {
                println!("{}", words(finding));
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
            Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

fn words(finding: &Finding) -> String {
    match finding {
        Finding::DamagedBlob { digest } => format!("damaged blob {digest}"),
        Finding::UnreadableBlob { digest, reason } => format!("unreadable blob {digest}: {reason}"),
        Finding::DamagedSnapshot { id, reason } => format!("damaged snapshot {id}: {reason}"),
        Finding::OrphanSnapshot { id } => format!("snapshot {id} has no record"),
        Finding::UselessRecord { key } => format!("cache record {key} has lost what it needs"),
        Finding::UselessLayer { diff_id } => format!("layer {diff_id} has neither files nor blobs"),
        Finding::MalformedRef { file } => format!("malformed reference {file}"),
        Finding::DanglingRef { name, digest } => format!("{name} points at {digest}, which is not there"),
        Finding::IncompleteImage { name, digest } => format!("{name} lacks {digest} (not pulled)"),
    }
}
