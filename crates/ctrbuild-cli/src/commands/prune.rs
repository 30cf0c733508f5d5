//! `ctrbuild prune`.

use crate::args::{Global, PruneArgs};
use crate::{machine, table};
use ctrbuild::{Error, ErrorKind, housekeeping};
use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::{GcPolicy, Kind, Kinds, LocalStore};

pub fn run(global: &Global, args: &PruneArgs) -> Result<ExitCode, Error> {
    let mut policy = policy(args, SystemTime::now())?;
    let free = size("--min-free-space", args.min_free_space.as_ref())?;
    let session = machine::session(global)?;
    if !args.dry_run {
        if args.all && !args.force && std::io::stdin().is_terminal() && !confirmed()? {
            return Ok(ExitCode::FAILURE);
        }
        let untagged = ctrbuild::images::remove_untagged(&session.store)?;
        if untagged > 0 {
            println!("Untagged images: {untagged}");
        }
        share(&session.store)?;
    }
    if let Some(free) = free {
        let keep = housekeeping::keep_for(&session.store, free)?;
        policy.keep_bytes = Some(policy.keep_bytes.map_or(keep, |cap| cap.min(keep)));
    }
    let report = match args.dry_run {
        true => session.store.gc_preview(&policy)?,
        false => session.store.gc(&policy)?,
    };
    for removed in &report.removed {
        println!("{} {}: {}", super::df::name(removed.kind), removed.id, table::size(removed.bytes));
    }
    println!("Total reclaimed space: {}", table::size(report.freed));
    if policy.keep_bytes.is_some_and(|cap| report.kept > cap) {
        let kept = table::size(report.kept);
        eprintln!("note: {kept} are left: images with a name, running builds, and what the filters spare");
    }
    Ok(ExitCode::SUCCESS)
}

/// Keep equal files once, and say what that gave.
pub fn share(store: &LocalStore) -> Result<(), Error> {
    let done = ctrbuild::dedup::deduplicate(store)?;
    if done.files > 0 {
        println!(
            "Equal files kept once: {} of {} layers, {}",
            done.files,
            done.layers,
            table::size(done.bytes)
        );
    }
    Ok(())
}

fn policy(args: &PruneArgs, now: SystemTime) -> Result<GcPolicy, Error> {
    let mut policy =
        GcPolicy { keep_bytes: size("--keep-storage", args.keep_storage.as_ref())?, ..GcPolicy::default() };
    policy.unused_for = args.unused_for.as_deref().map(|t| duration("--unused-for", t)).transpose()?;
    policy.older_than = args.older_than.as_deref().map(|t| duration("--older-than", t)).transpose()?;
    let mut kinds = Kinds::NONE;
    for filter in &args.filter {
        let (key, value) = filter.split_once('=').ok_or_else(|| unknown(filter))?;
        match key {
            "until" => policy.older_than = Some(until(value, now)?),
            "unused-for" => policy.unused_for = Some(duration(key, value)?),
            // The names of `docker builder prune`, where there is one for the same thing.
            "kind" | "type" => match value {
                "cache" | "regular" => kinds = kinds.with(Kind::CacheRecord).with(Kind::LayerRecord),
                "layer" => kinds = kinds.with(Kind::LayerRecord),
                "mount" | "exec.cachemount" => kinds = kinds.with(Kind::CacheMount),
                "download" => kinds = kinds.with(Kind::Partial),
                _ => return Err(unknown(filter)),
            },
            _ => return Err(unknown(filter)),
        }
    }
    if kinds != Kinds::NONE {
        policy.kinds = kinds;
    }
    let chosen = policy.unused_for.is_some() || policy.older_than.is_some() || policy.keep_bytes.is_some();
    if args.all || !chosen && kinds != Kinds::NONE {
        policy.unused_for = policy.unused_for.or(Some(Duration::ZERO));
    }
    Ok(policy)
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::Recipe, message)
}

fn unknown(filter: &str) -> Error {
    wrong(format!("there is no filter {filter:?}"))
        .hint("filters are until=DURATION|TIME, unused-for=DURATION and kind=cache|layer|mount|download")
}

fn size(what: &str, text: Option<&String>) -> Result<Option<u64>, Error> {
    let parse = |t: &String| {
        machine::bytes(t).ok_or_else(|| wrong(format!("{what} {t:?} is no size")).hint("write 500m or 20g"))
    };
    text.map(parse).transpose()
}

fn duration(what: &str, text: &str) -> Result<Duration, Error> {
    machine::duration(text)
        .ok_or_else(|| wrong(format!("{what} {text:?} is no duration")).hint("write 90m, 36h or 7d"))
}

/// A time of RFC 3339, a date, seconds since 1970, or how long ago.
fn until(text: &str, now: SystemTime) -> Result<Duration, Error> {
    let date = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_string() };
    let seconds = match date.parse::<oci::Timestamp>() {
        Ok(time) => Some(time.seconds),
        // More digits than any number of hours has.
        Err(()) if text.len() >= 9 => text.parse().ok(),
        Err(()) => None,
    };
    match seconds {
        Some(seconds) => {
            let then = UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            Ok(now.duration_since(then).unwrap_or_default())
        }
        None => machine::duration(text).ok_or_else(|| {
            wrong(format!("until {text:?} is no time")).hint("write 24h, 2026-01-31 or 2026-01-31T12:00:00Z")
        }),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn args(filter: &[&str]) -> PruneArgs {
        PruneArgs {
            all: false,
            unused_for: None,
            older_than: None,
            filter: filter.iter().map(|f| f.to_string()).collect(),
            keep_storage: None,
            min_free_space: None,
            dry_run: false,
            force: false,
        }
    }

    #[test]
    fn filters_become_policies() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let of = |filter: &[&str]| policy(&args(filter), now).unwrap();
        assert_eq!(of(&[]), GcPolicy::GARBAGE);
        assert_eq!(of(&["until=24h"]).older_than, Some(Duration::from_secs(86_400)));
        assert_eq!(of(&["until=2023-11-14T21:13:20Z"]).older_than, Some(Duration::from_secs(3600)));
        assert_eq!(of(&["until=1699999990"]).older_than, Some(Duration::from_secs(10)));
        assert_eq!(of(&["until=2033-01-01"]).older_than, Some(Duration::ZERO));
        assert_eq!(of(&["unused-for=2d"]).unused_for, Some(Duration::from_secs(172_800)));
        let mounts = of(&["type=exec.cachemount"]);
        assert!(mounts.kinds.has(Kind::CacheMount) && !mounts.kinds.has(Kind::CacheRecord));
        assert_eq!(mounts.unused_for, Some(Duration::ZERO), "all of the kind");
        assert_eq!(of(&["kind=cache", "until=1h"]).unused_for, None, "only what is old enough");
        for bad in ["until", "until=x", "until=2023-13-45", "kind=all", "colour=red", "unused-for=-1h"] {
            assert!(policy(&args(&[bad]), now).is_err(), "{bad}");
        }
        let all = PruneArgs { all: true, older_than: Some("1h".into()), ..args(&[]) };
        let all = policy(&all, now).unwrap();
        assert_eq!((all.unused_for, all.older_than), (Some(Duration::ZERO), Some(Duration::from_secs(3600))));
    }
}
