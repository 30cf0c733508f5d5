//! `ctrbuild df`.

use crate::args::Global;
use crate::{machine, table};
use ctrbuild::Error;
use std::process::ExitCode;

pub fn run(global: &Global) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let mut rows = vec![["TYPE", "TOTAL", "SIZE", "RECLAIMABLE", "SAVED"].map(str::to_string).to_vec()];
    for (kind, usage) in session.store.df()? {
        rows.push(vec![
            name(kind).to_string(),
            usage.count.to_string(),
            table::size(usage.bytes),
            table::size(usage.reclaimable),
            table::size(usage.saved),
        ]);
    }
    print!("{}", table::render(&rows));
    Ok(ExitCode::SUCCESS)
}

/// What people call a kind of thing.
pub fn name(kind: store::Kind) -> &'static str {
    match kind {
        store::Kind::Blob => "Blobs",
        store::Kind::Snapshot => "Unpacked layers",
        store::Kind::LayerRecord => "Layer records",
        store::Kind::CacheRecord => "Cache records",
        store::Kind::Partial => "Unfinished downloads",
        store::Kind::Unfinished => "Running builds",
        store::Kind::Quarantined => "Damaged blobs",
        store::Kind::CacheMount => "Cache mounts",
        store::Kind::Download => "Base image downloads",
        store::Kind::Log => "Logs",
    }
}
