//! Which suites a mirror has, from their release files.

use crate::bootstrap::{check_name, load_keyring, seconds};
use crate::error::{Error, Result};
use crate::fetch::{Fetcher, Proxies, blocking, without_credentials};
use crate::pgp::verify_cleartext;
use crate::release::Release;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Suites to ask a mirror about when none is named, the newest stable ones first. Mirrors have no list.
pub const KNOWN_SUITES: &[&str] = &["stable", "oldstable", "oldoldstable", "testing", "sid"];

/// One suite of a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suite {
    /// Such as `stable`.
    pub suite: String,
    /// Such as `trixie`: the name that does not change its meaning.
    pub codename: String,
    /// Such as `13.1`.
    pub version: Option<String>,
    pub description: Option<String>,
    pub architectures: Vec<String>,
    pub components: Vec<String>,
    /// Seconds since 1970.
    pub date: u64,
    /// Whether `Valid-Until` has passed.
    pub expired: bool,
    /// The mirror that has it, without credentials.
    pub mirror: String,
}

/// Asks a mirror for suites; those that it does not have are left out. Signatures are checked, expiry is
/// only reported. `keyrings` as in [`crate::Bootstrap`].
pub async fn find_suites(
    mirror: &str,
    names: &[&str],
    keyrings: &[PathBuf],
    cache_dir: &Path,
    proxies: &Proxies,
    now: SystemTime,
) -> Result<Vec<Suite>> {
    let files = keyrings.to_vec();
    let keyring = blocking(move || load_keyring(&files)).await?;
    let fetcher = Fetcher::new(cache_dir, proxies)?;
    let mirror = mirror.trim_end_matches('/');
    let now = seconds(now);
    let mut tasks = tokio::task::JoinSet::new();
    for (number, name) in names.iter().enumerate() {
        check_name("suite", name)?;
        let url = format!("{mirror}/dists/{name}/InRelease");
        let (fetcher, keyring, mirror) = (fetcher.clone(), keyring.clone(), without_credentials(mirror));
        tasks.spawn(async move {
            let data = match fetcher.small(&url, 32 << 20).await {
                Ok(data) => data,
                Err(Error::Fetch { source: crate::FetchError::Status(404 | 403), .. }) => {
                    return Ok((number, None));
                }
                Err(e) => return Err(e),
            };
            let url = without_credentials(&url);
            blocking(move || {
                let verified = verify_cleartext(&data, &keyring, now)
                    .map_err(|source| Error::Signature { url: url.clone(), source })?;
                let r = Release::parse(&verified.text, &url)?;
                let suite = Suite {
                    expired: r.valid_until.is_some_and(|end| end < now),
                    suite: r.suite,
                    codename: r.codename,
                    version: r.version,
                    description: r.description,
                    architectures: r.architectures.into_iter().filter(|a| a != "all").collect(),
                    components: r.components,
                    date: r.date,
                    mirror,
                };
                Ok((number, Some(suite)))
            })
            .await
        });
    }
    let mut found = Vec::new();
    while let Some(result) = tasks.join_next().await {
        found.push(result.map_err(|e| Error::Internal(e.to_string()))??);
    }
    found.sort_by_key(|(number, _)| *number);
    let mut all: Vec<Suite> = found.into_iter().filter_map(|(_, suite)| suite).collect();
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|s| seen.insert(s.codename.clone()));
    Ok(all)
}
