//! HTTP sources: one file by URL, kept with what its server said, so that an unchanged one is not
//! transferred again.
//!
//! The mode, the name and the modification time of the file follow BuildKit: 0600 unless told otherwise,
//! `Last-Modified` or else 1970. A body is stored as it is sent; no content coding is asked for.

mod transfer;

use crate::secret::{self, Secrets};
use crate::url::{self, Downgrade, Reach, check_reach, host_of};
use crate::{Error, Fetched, HttpFailure, date};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use digest::{CacheKey, Digest, StableHasher, TreeHash};
use graph::HttpSource;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, LAST_MODIFIED, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Client, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use store::{Active, LocalStore, RecordV1, SnapshotId};

/// Makes the HTTP client, when the first request needs it. The client must follow no redirects.
pub type ClientSource = Arc<dyn Fn() -> Result<Client, Error> + Send + Sync>;

/// How HTTP servers are talked to.
#[derive(Clone)]
pub struct HttpSettings {
    pub client: ClientSource,
    /// Whether connections may end at a proxy, whose address then says nothing about the server's.
    pub route: Route,
    pub timeouts: Timeouts,
    pub retries: Retries,
}

/// Where connections lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Direct,
    Proxied,
}

/// Times after which a server counts as dead. A transfer as a whole has no limit.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Without an answer, or with fewer than 1,024 bytes of a body.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { idle: Duration::from_secs(60) }
    }
}

/// What is done about transient failures.
#[derive(Debug, Clone, Copy)]
pub struct Retries {
    /// Attempts in all, at least one. They start anew after each mebibyte that arrived.
    pub attempts: u32,
    /// The first pause; each further one is twice as long.
    pub first_pause: Duration,
    /// The longest pause. A server that asks for a longer one is not waited for.
    pub longest_pause: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Retries {
            attempts: 5,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(30),
        }
    }
}

impl Retries {
    /// Wait after failed attempt `n`, or give the failure back.
    async fn pause(&self, n: u32, failure: HttpFailure) -> Result<(), HttpFailure> {
        let asked = match &failure {
            HttpFailure::Status { retry_after, .. } => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        if !failure.is_transient() || n >= self.attempts || asked > self.longest_pause {
            return Err(failure);
        }
        tokio::time::sleep(self.plain(n).max(asked)).await;
        Ok(())
    }

    /// The pause after failed attempt `n`.
    pub(crate) fn plain(&self, n: u32) -> Duration {
        self.first_pause.saturating_mul(1 << n.saturating_sub(1).min(16)).min(self.longest_pause)
    }
}

const MAX_REDIRECTS: usize = 10;
/// Longest name of a file (NAME_MAX).
const MAX_NAME: usize = 255;
const DEFAULT_MODE: u32 = 0o600;

/// Fetches HTTP sources.
#[derive(Clone)]
pub struct Http {
    settings: HttpSettings,
    made: Arc<OnceLock<Client>>,
}

/// What the server said of a file that is in the store (payload of a cache record).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KnownV1 {
    version: u32,
    digest: Digest,
    etag: Option<String>,
    last_modified: Option<String>,
}

/// A file in the store.
struct Known {
    snapshot: SnapshotId,
    said: KnownV1,
}

/// A source with everything that is needed to ask for it.
struct Wanted<'a> {
    source: &'a HttpSource,
    url: Url,
    authorization: Option<HeaderValue>,
}

impl Wanted<'_> {
    fn failed(&self, failure: HttpFailure) -> Error {
        Error::Http { url: url::redact(self.url.as_str()), failure }
    }

    fn downgrade(&self) -> Downgrade {
        match self.source.checksum {
            Some(_) => Downgrade::Pinned,
            None => Downgrade::Refused,
        }
    }

    fn key(&self, digest: Option<&Digest>) -> CacheKey {
        let HttpSource { url, filename, mode, uid, gid, checksum: _ } = self.source;
        let mut h = StableHasher::new("ctrbuild.http-source.v1");
        h.put(url).put(filename).put(mode).put(uid).put(gid).put(&digest.map(|d| *d.bytes()).is_some());
        if let Some(digest) = digest {
            h.fixed(digest.bytes());
        }
        CacheKey::from_bytes(h.finish())
    }

    fn fetched(&self, known: Known) -> Fetched {
        let HttpSource { filename, mode, uid, gid, checksum, .. } = self.source;
        let mut h = StableHasher::new("ctrbuild.http-file.v1");
        h.put(filename).put(&mode.unwrap_or(DEFAULT_MODE)).put(uid).put(gid).fixed(known.said.digest.bytes());
        // A pinned file is the same whenever it was modified.
        let modified =
            known.said.last_modified.as_deref().and_then(date::parse).filter(|_| checksum.is_none());
        h.put(&modified.map(|m| m as u64));
        Fetched { snapshot: known.snapshot, hash: TreeHash::from_bytes(h.finish()) }
    }
}

impl Http {
    pub fn new(settings: HttpSettings) -> Self {
        Http { settings, made: Arc::default() }
    }

    async fn client(&self) -> Result<Client, Error> {
        if let Some(client) = self.made.get() {
            return Ok(client.clone());
        }
        let source = self.settings.client.clone();
        let client = par::blocking(move || source()).await?;
        Ok(self.made.get_or_init(|| client).clone())
    }

    pub async fn fetch(
        &self,
        store: &LocalStore,
        source: &HttpSource,
        secrets: &Arc<dyn Secrets>,
    ) -> Result<Fetched, Error> {
        check_name(&source.filename)?;
        let (url, user) = url::parse_http(&source.url)?;
        let mut wanted = Wanted { source, url, authorization: None };
        let pinned = source.checksum.map(|d| wanted.key(Some(&d)));
        let latest = wanted.key(None);
        // Others that want the same URL wait, and then find it.
        let (s, key) = (store.clone(), latest);
        let _lock = par::blocking(move || s.key_lock(&key)).await?;
        if let Some(pinned) = pinned
            && let Some(known) =
                known(store, pinned).await?.filter(|k| Some(k.said.digest) == source.checksum)
        {
            return Ok(wanted.fetched(known));
        }
        let known = known(store, latest).await?;
        wanted.authorization = authorization(&wanted.url, user, secrets).await?;
        let known = self.bring(store, &wanted, known).await?;
        if let Some(expected) = source.checksum.filter(|d| *d != known.said.digest) {
            return Err(Error::Checksum {
                url: url::redact(&source.url),
                expected: expected.to_string(),
                actual: known.said.digest.to_string(),
            });
        }
        Ok(wanted.fetched(known))
    }

    /// Ask the server, with what is known, and download what is not.
    async fn bring(
        &self,
        store: &LocalStore,
        wanted: &Wanted<'_>,
        known: Option<Known>,
    ) -> Result<Known, Error> {
        let mut attempt = 0;
        let response = loop {
            attempt += 1;
            let conditions = known.as_ref().map(|k| conditions(&k.said)).unwrap_or_default();
            match self.ask(wanted, conditions).await? {
                Ok(response) => break response,
                Err(failure) => {
                    self.settings.retries.pause(attempt, failure).await.map_err(|f| wanted.failed(f))?
                }
            }
        };
        match known {
            Some(known) if is_unchanged(&response, &known.said) => return Ok(known),
            _ if response.status() == StatusCode::NOT_MODIFIED => {
                // Nothing was said that it could be compared with.
                let (host, status) = (host_of(&wanted.url), 304);
                return Err(wanted.failed(HttpFailure::Status { host, status, retry_after: None }));
            }
            _ => {}
        }
        let said =
            |name: HeaderName| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_string);
        let (etag, last_modified) = (said(ETAG), said(LAST_MODIFIED));
        let s = store.clone();
        let active = par::blocking(move || s.prepare()).await?;
        let (file, digest) = self.download(wanted, &active, response).await?;
        let said = KnownV1 { version: 1, digest, etag, last_modified };
        self.keep(store, wanted, active, file, said).await
    }

    /// Commit a downloaded file. One with the wrong checksum is not kept.
    async fn keep(
        &self,
        store: &LocalStore,
        wanted: &Wanted<'_>,
        active: Active,
        file: std::fs::File,
        said: KnownV1,
    ) -> Result<Known, Error> {
        if let Some(expected) = wanted.source.checksum.filter(|d| *d != said.digest) {
            return Err(Error::Checksum {
                url: url::redact(&wanted.source.url),
                expected: expected.to_string(),
                actual: said.digest.to_string(),
            });
        }
        let source = wanted.source.clone();
        let keys = [wanted.key(None), wanted.key(Some(&said.digest))];
        let store = store.clone();
        par::blocking(move || {
            let modified = said.last_modified.as_deref().and_then(date::parse).unwrap_or(0);
            transfer::settle(&file, &active.upper(), &source, source.mode.unwrap_or(DEFAULT_MODE), modified)?;
            drop(file);
            let snapshot = store.commit(active, Default::default())?;
            let payload =
                serde_json::to_value(&said).map_err(|_| Error::Internal("a record that is no JSON"))?;
            let record = RecordV1 { payload, ..RecordV1::of(vec![snapshot.clone()]) };
            for key in keys {
                store.cache_put(&key, record.clone())?;
            }
            Ok(Known { snapshot, said })
        })
        .await
    }

    /// One request, redirects followed. The answer is 304 or has content.
    async fn ask(
        &self,
        wanted: &Wanted<'_>,
        headers: HeaderMap,
    ) -> Result<Result<Response, HttpFailure>, Error> {
        let client = self.client().await?;
        Ok(self.follow(&client, wanted, headers).await)
    }

    async fn follow(
        &self,
        client: &Client,
        wanted: &Wanted<'_>,
        headers: HeaderMap,
    ) -> Result<Response, HttpFailure> {
        let mut url = wanted.url.clone();
        let mut home = Reach::of(&url);
        let asks_for_part = headers.contains_key(RANGE);
        for hop in 0..=MAX_REDIRECTS {
            let mut headers = headers.clone();
            headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            if let Some(authorization) = &wanted.authorization
                && url.origin() == wanted.url.origin()
            {
                headers.insert(AUTHORIZATION, authorization.clone());
            }
            let host = host_of(&url);
            let request = client.get(url.clone()).headers(headers).send();
            let response = match tokio::time::timeout(self.settings.timeouts.idle, request).await {
                Ok(answer) => answer.map_err(|e| transfer::failure(&host, e))?,
                Err(_) => {
                    let seconds = self.settings.timeouts.idle.as_secs();
                    return Err(HttpFailure::Stalled { host, seconds });
                }
            };
            if let Some(address) = response.remote_addr().filter(|_| self.settings.route == Route::Direct) {
                let reach = Reach::of_address(address.ip());
                match hop {
                    0 => home = home.max(reach),
                    _ => check_reach(&host, &url, reach, home)?,
                }
            }
            let status = response.status();
            if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                let location = response.headers().get(LOCATION).and_then(|v| v.to_str().ok());
                url = url::redirect(&url, location, home, wanted.downgrade())?;
                continue;
            }
            // A part that nobody asked for is no file.
            let odd = status == StatusCode::PARTIAL_CONTENT && !asks_for_part;
            if (status.is_success() && !odd) || status == StatusCode::NOT_MODIFIED {
                return Ok(response);
            }
            let retry_after = response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|v| v.to_str().ok()?.trim().parse::<u32>().ok())
                .map(|s| Duration::from_secs(s.into()));
            return Err(HttpFailure::Status { host, status: status.as_u16(), retry_after });
        }
        Err(HttpFailure::Redirects { host: host_of(&url) })
    }
}

/// What is known under a key.
async fn known(store: &LocalStore, key: CacheKey) -> Result<Option<Known>, Error> {
    let store = store.clone();
    let record = par::blocking(move || store.cache_get(&key)).await?;
    Ok(record.and_then(|r| {
        // A record of another version is as good as none.
        let said: KnownV1 = serde_json::from_value(r.payload).ok().filter(|k: &KnownV1| k.version == 1)?;
        Some(Known { snapshot: r.snapshots.into_iter().next()?, said })
    }))
}

/// Headers that make the server say whether a file changed.
fn conditions(said: &KnownV1) -> HeaderMap {
    let mut out = HeaderMap::new();
    let (name, value) = match (&said.etag, &said.last_modified) {
        (Some(etag), _) => (IF_NONE_MATCH, etag),
        (None, Some(time)) => (IF_MODIFIED_SINCE, time),
        (None, None) => return out,
    };
    if let Ok(value) = HeaderValue::from_str(value) {
        out.insert(name, value);
    }
    out
}

/// 304, or the whole file once more with the tag that is known (some servers know no conditions).
fn is_unchanged(response: &Response, said: &KnownV1) -> bool {
    if response.status() == StatusCode::NOT_MODIFIED {
        return said.etag.is_some() || said.last_modified.is_some();
    }
    let tag = response.headers().get(ETAG).and_then(|v| v.to_str().ok());
    tag.is_some_and(|t| is_strong(t) && said.etag.as_deref() == Some(t))
}

/// Whether an entity tag promises equal bytes.
fn is_strong(tag: &str) -> bool {
    tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"')
}

/// From the secrets of the host, or from the URL.
async fn authorization(
    url: &Url,
    user: Option<(String, String)>,
    secrets: &Arc<dyn Secrets>,
) -> Result<Option<HeaderValue>, Error> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let ids = vec![format!("HTTP_AUTH_TOKEN_{host}"), format!("HTTP_AUTH_HEADER_{host}")];
    let text = match (secret::first(secrets, ids).await?, user) {
        (Some((0, token)), _) => format!("Bearer {token}"),
        (Some((_, header)), _) => header,
        (None, Some((user, password))) => {
            format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
        }
        (None, None) => return Ok(None),
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| Error::Setup {
        message: format!("the credentials for {host} cannot be sent as a header"),
        hint: None,
    })?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// A name is one component of a path, and shows as what it is.
fn check_name(name: &str) -> Result<(), Error> {
    let odd = name.is_empty()
        || matches!(name, "." | "..")
        || name.len() > MAX_NAME
        || name.contains('/')
        || name.chars().any(char::is_control);
    if odd { Err(Error::FileName { name: name.chars().take(MAX_NAME).collect() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_single_components() {
        for good in ["a", "a b.tar.gz", "..a", "__unnamed__", "ü"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "../a", "/", "a\0", "a\nb", &"x".repeat(256)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn weak_tags_promise_nothing() {
        assert!(is_strong("\"a\""));
        assert!(!is_strong("W/\"a\"") && !is_strong("\"") && !is_strong("a") && !is_strong("\"\""));
    }
}
