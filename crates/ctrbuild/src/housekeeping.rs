//! Keeping the store small by itself: a floor of free space, and a cap if one is set.
//!
//! Called after builds. What a reference or a running process needs is never removed; of the rest, what
//! was unused for longest goes first.

use crate::Error;
use std::time::Duration;
use store::{GcPolicy, LocalStore};

/// Below this share of the file system the store begins to give space back.
const FREE_SHARE: u64 = 20;
/// No more free space than this is asked for, in bytes.
const FREE_AT_MOST: u64 = 10 << 30;
/// What was used within this time is kept even then.
const KEEP_RECENT: Duration = Duration::from_secs(3600);

/// What the user has set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes that the store may take.
    pub keep_bytes: Option<u64>,
    /// Fewest bytes that stay free on its file system; without it a twentieth, but 10 GiB at most.
    pub free_bytes: Option<u64>,
}

/// Free and all bytes of the file system that the store is on.
fn space(store: &LocalStore) -> Result<(u64, u64), Error> {
    let stat = rustix::fs::statvfs(store.root()).map_err(|e| {
        Error::world(format!("can't look at the file system of {}: {e}", store.root().display()))
    })?;
    Ok((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
}

/// Bytes that the store may take if `free_bytes` are to be free on its file system.
pub fn keep_for(store: &LocalStore, free_bytes: u64) -> Result<u64, Error> {
    let used: u64 = store.df()?.values().map(|u| u.bytes).sum();
    let (free, _) = space(store)?;
    Ok(used.saturating_sub(free_bytes.saturating_sub(free)))
}

/// Collect if there is need. Returns the bytes that were freed.
pub fn tidy(store: &LocalStore, limits: Limits) -> Result<u64, Error> {
    let need = || -> Result<Option<GcPolicy>, Error> {
        let (free, total) = space(store)?;
        let floor = limits.free_bytes.unwrap_or((total / FREE_SHARE).min(FREE_AT_MOST));
        let too_full = free < floor;
        if !too_full && limits.keep_bytes.is_none() {
            return Ok(None);
        }
        let used: u64 = store.df()?.values().map(|u| u.bytes).sum();
        let over_cap = limits.keep_bytes.is_some_and(|cap| used > cap);
        if !too_full && !over_cap {
            return Ok(None);
        }
        let wanted = used.saturating_sub(floor.saturating_sub(free));
        let keep = if too_full { wanted } else { used };
        // A cap is kept whatever was used lately; the floor spares what the next build will want.
        let (keep, unused_for) = match limits.keep_bytes {
            Some(cap) if over_cap => (keep.min(cap), Duration::ZERO),
            _ => (keep, KEEP_RECENT),
        };
        Ok(Some(GcPolicy { keep_bytes: Some(keep), unused_for: Some(unused_for), ..GcPolicy::default() }))
    };
    if need()?.is_none() {
        return Ok(0);
    }
    // What several layers have in common costs nobody anything to give back.
    let shared = crate::dedup::deduplicate(store)?.bytes;
    let freed = match need()? {
        Some(policy) => store.gc(&policy)?.freed,
        None => 0,
    };
    Ok(shared + freed)
}
