//! Files from a mirror: over HTTP(S) or from a folder, retried, resumed, verified and kept.
//!
//! The kept files are named by their SHA-256 (`blobs/HEX` below the cache folder) and are verified again
//! whenever they are used, so that a damaged cache mends itself. Several processes may share the folder.
//!
//! Nothing here reads the environment: proxies are given by the caller.

use crate::error::{Error, Result};
use digest::{Digest, Sha256};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why one file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("the address is not one of http, https or file")]
    Address,
    #[error("the mirror answered {0}")]
    Status(u16),
    #[error("the connection failed: {0}")]
    Connection(String),
    #[error("it is longer than the {limit} bytes that were promised")]
    TooLong { limit: u64 },
    #[error(
        "it is not what was promised: {wanted} of {wanted_size} bytes, but got {got} of {got_size} bytes"
    )]
    Mismatch { wanted: Digest, wanted_size: u64, got: Digest, got_size: u64 },
    #[error("a local file operation failed")]
    Io(#[from] std::io::Error),
}

impl FetchError {
    /// What may help; `url` is what was asked for.
    pub fn hint(&self, url: &str) -> Option<String> {
        Some(match self {
            FetchError::Address => "write the mirror as http://host/debian, https://host/debian or file:///folder".into(),
            FetchError::Status(404) if url.ends_with("/InRelease") => {
                "the mirror has no such suite: check its name and the mirror's address; old suites move to \
                 http://archive.debian.org/debian"
                    .into()
            }
            FetchError::Status(404) | FetchError::Mismatch { .. } | FetchError::TooLong { .. } => {
                "the mirror may be in the middle of an update: try again in a few minutes, or choose another mirror"
                    .into()
            }
            FetchError::Status(407) => "the proxy wants a user name and password: set them in http_proxy".into(),
            FetchError::Status(_) => "the mirror has trouble: try again later, or choose another mirror".into(),
            FetchError::Connection(_) => {
                "check the network, the mirror's address and http_proxy; --mirror chooses another mirror".into()
            }
            FetchError::Io(e) if e.kind() == std::io::ErrorKind::StorageFull => "the disk is full".into(),
            FetchError::Io(_) => return None,
        })
    }

    fn is_transient(&self) -> bool {
        match self {
            FetchError::Connection(_) | FetchError::Mismatch { .. } => true,
            FetchError::Status(status) => matches!(status, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }
}

/// Proxies, as the variables `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` name them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    pub http: Option<String>,
    pub https: Option<String>,
    /// Hosts reached directly: a comma-separated list.
    pub direct: Option<String>,
}

impl Proxies {
    /// Picks the proxies out of environment variables. Lower-case names win; `HTTP_PROXY` in upper case
    /// counts too.
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Proxies {
        let mut found: std::collections::BTreeMap<String, String> = Default::default();
        for (name, value) in vars {
            let lower = name.to_ascii_lowercase();
            if value.is_empty() || !matches!(&*lower, "http_proxy" | "https_proxy" | "all_proxy" | "no_proxy")
            {
                continue;
            }
            if name == lower || !found.contains_key(&lower) {
                found.insert(lower, value);
            }
        }
        let mut take = |name: &str| found.remove(name);
        let all = take("all_proxy");
        Proxies {
            http: take("http_proxy").or_else(|| all.clone()),
            https: take("https_proxy").or(all),
            direct: take("no_proxy"),
        }
    }
}

/// An address without user name and password, for messages and for what is written into images.
pub(crate) fn without_credentials(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.find('/').map_or((rest, ""), |n| rest.split_at(n));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => url.to_string(),
    }
}

/// What a file must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    pub digest: Digest,
    pub size: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Fetcher {
    client: reqwest::Client,
    cache: PathBuf,
}

const ATTEMPTS: u32 = 5;

/// How long to wait before attempt `n`, counted from 1.
fn pause(n: u32, asked: Option<Duration>) -> Duration {
    asked.unwrap_or_else(|| Duration::from_millis(200 << n.min(8))).min(Duration::from_secs(30))
}

/// The message of an error and its causes, since reqwest's own says little. Credentials are left out.
fn chain(error: reqwest::Error) -> FetchError {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(c) = cause {
        let next = c.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = c.source();
    }
    FetchError::Connection(text)
}

enum Failure {
    /// Try again, perhaps after this long.
    Again(FetchError, Option<Duration>),
    Final(FetchError),
}

impl From<FetchError> for Failure {
    fn from(e: FetchError) -> Self {
        if e.is_transient() { Failure::Again(e, None) } else { Failure::Final(e) }
    }
}

impl Fetcher {
    pub fn new(cache: &Path, proxies: &Proxies) -> Result<Fetcher> {
        // The first provider that a process installs stays; all of ours are the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("ctrbuild/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(20))
            .read_timeout(Duration::from_secs(60))
            .no_proxy();
        let direct = proxies.direct.as_deref().and_then(reqwest::NoProxy::from_string);
        for (url, make) in [
            (&proxies.http, reqwest::Proxy::http as fn(String) -> reqwest::Result<reqwest::Proxy>),
            (&proxies.https, reqwest::Proxy::https),
        ] {
            let Some(url) = url else { continue };
            let full = if url.contains("://") { url.clone() } else { format!("http://{url}") };
            let proxy =
                make(full).map_err(|e| Error::Fetch { url: without_credentials(url), source: chain(e) })?;
            builder = builder.proxy(proxy.no_proxy(direct.clone()));
        }
        let client = builder.build().map_err(|e| Error::Internal(e.to_string()))?;
        let blobs = cache.join("blobs");
        std::fs::create_dir_all(&blobs).map_err(Error::io("create", &blobs))?;
        Ok(Fetcher { client, cache: blobs })
    }

    /// Where a verified file is kept.
    pub fn place(&self, digest: &Digest) -> PathBuf {
        self.cache.join(digest.hex())
    }

    /// A small file whose hash is not known yet, at most `limit` bytes.
    pub async fn small(&self, url: &str, limit: u64) -> Result<Vec<u8>> {
        let mut n = 0;
        loop {
            let mut data = Vec::new();
            match self.attempt(url, limit, &mut data).await {
                Ok(()) => return Ok(data),
                Err(Failure::Again(_, wait)) if n + 1 < ATTEMPTS => {
                    n += 1;
                    tokio::time::sleep(pause(n, wait)).await;
                }
                Err(Failure::Again(source, _) | Failure::Final(source)) => {
                    return Err(Error::Fetch { url: without_credentials(url), source });
                }
            }
        }
    }

    /// Whether the kept copy of a file is there and good. Reads all of it: call from a thread that may block.
    pub fn has(&self, expected: &Expected) -> bool {
        match std::fs::File::open(self.place(&expected.digest))
            .and_then(|mut f| measure(&mut f, expected.size))
        {
            Ok((digest, size)) => digest == expected.digest && size == expected.size,
            Err(_) => false,
        }
    }

    /// Brings a file of known hash into the cache; the first of `urls` that has it is used. Idempotent: Ok
    /// means that the file is there and verified, not that this call fetched it. `arrived` is told bytes as
    /// they come.
    pub async fn blob(
        &self,
        urls: &[String],
        expected: Expected,
        arrived: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<PathBuf> {
        let place = self.place(&expected.digest);
        let known = {
            let this = self.clone();
            blocking(move || Ok(this.has(&expected))).await?
        };
        if known {
            arrived(expected.size);
            return Ok(place);
        }
        let mut last = None;
        for url in urls {
            match self.download(url, expected, &place, arrived).await {
                Ok(()) => return Ok(place),
                Err(source @ FetchError::Status(404)) => {
                    last.get_or_insert(Error::Fetch { url: without_credentials(url), source });
                }
                Err(source) => return Err(Error::Fetch { url: without_credentials(url), source }),
            }
        }
        Err(last.unwrap_or_else(|| Error::Internal("no address to fetch from".into())))
    }

    async fn download(
        &self,
        url: &str,
        expected: Expected,
        place: &Path,
        arrived: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), FetchError> {
        let mut file = tempfile::Builder::new().prefix("part-").tempfile_in(&self.cache)?;
        let mut written = 0u64;
        let mut n = 0;
        loop {
            let mut sink = Partial { file: &mut file, written: &mut written, arrived };
            let result = match self.attempt_into(url, expected.size, &mut sink).await {
                Ok(()) => {
                    let mut reader = file.reopen()?;
                    let size = expected.size;
                    let (got, got_size) = tokio::task::spawn_blocking(move || measure(&mut reader, size))
                        .await
                        .map_err(|e| std::io::Error::other(e.to_string()))??;
                    if got == expected.digest && got_size == expected.size {
                        match file.persist(place) {
                            Ok(_) => return Ok(()),
                            Err(e) => return Err(e.error.into()),
                        }
                    }
                    // Damaged on the way, or a mirror in change: once more from the start.
                    file.as_file_mut().set_len(0)?;
                    written = 0;
                    let mismatch = FetchError::Mismatch {
                        wanted: expected.digest,
                        wanted_size: expected.size,
                        got,
                        got_size,
                    };
                    n = n.max(ATTEMPTS - 3);
                    Failure::Again(mismatch, None)
                }
                Err(failure) => failure,
            };
            match result {
                Failure::Again(_, wait) if n + 1 < ATTEMPTS => {
                    n += 1;
                    tokio::time::sleep(pause(n, wait)).await;
                }
                Failure::Again(e, _) | Failure::Final(e) => return Err(e),
            }
        }
    }

    async fn attempt(&self, url: &str, limit: u64, data: &mut Vec<u8>) -> Result<(), Failure> {
        let mut sink = Memory(data);
        self.attempt_into(url, limit, &mut sink).await
    }

    /// One request; what `sink` already holds is asked for no more.
    async fn attempt_into(&self, url: &str, limit: u64, sink: &mut dyn Sink) -> Result<(), Failure> {
        if let Some(path) = url.strip_prefix("file://") {
            let read = |e: std::io::Error| match e.kind() {
                std::io::ErrorKind::NotFound => FetchError::Status(404),
                _ => FetchError::Io(e),
            };
            sink.restart()?;
            let mut file = tokio::fs::File::open(path).await.map_err(read)?;
            let mut buffer = vec![0; 64 << 10];
            loop {
                let n = tokio::io::AsyncReadExt::read(&mut file, &mut buffer).await.map_err(read)?;
                if n == 0 {
                    return Ok(());
                }
                if sink.len() + n as u64 > limit {
                    return Err(FetchError::TooLong { limit }.into());
                }
                sink.push(&buffer[..n])?;
            }
        }
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(FetchError::Address.into());
        }
        let have = sink.len();
        let mut request = self.client.get(url);
        if have > 0 {
            request = request.header(reqwest::header::RANGE, format!("bytes={have}-"));
        }
        let mut response = request.send().await.map_err(chain)?;
        let status = response.status().as_u16();
        match status {
            206 if have > 0 && starts_at(&response, have) => {}
            200 => sink.restart()?,
            206 | 416 if have > 0 => {
                sink.restart()?;
                return Err(Failure::Again(FetchError::Status(status), Some(Duration::ZERO)));
            }
            _ => {
                let wait = response
                    .headers()
                    .get(reqwest::header::RETRY_AFTER)
                    .and_then(|v| v.to_str().ok()?.trim().parse().ok())
                    .map(Duration::from_secs);
                let error = FetchError::Status(status);
                return Err(if error.is_transient() {
                    Failure::Again(error, wait)
                } else {
                    Failure::Final(error)
                });
            }
        }
        while let Some(chunk) = response.chunk().await.map_err(chain)? {
            if sink.len() + chunk.len() as u64 > limit {
                return Err(FetchError::TooLong { limit }.into());
            }
            sink.push(&chunk)?;
        }
        Ok(())
    }
}

fn starts_at(response: &reqwest::Response, offset: u64) -> bool {
    response
        .headers()
        .get(reqwest::header::CONTENT_RANGE)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("bytes "))
        .and_then(|v| v.split('-').next()?.trim().parse().ok())
        == Some(offset)
}

/// Where the bytes of a file go.
trait Sink: Send {
    fn len(&self) -> u64;
    fn restart(&mut self) -> Result<(), FetchError>;
    fn push(&mut self, data: &[u8]) -> Result<(), FetchError>;
}

struct Memory<'a>(&'a mut Vec<u8>);

impl Sink for Memory<'_> {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
    fn restart(&mut self) -> Result<(), FetchError> {
        self.0.clear();
        Ok(())
    }
    fn push(&mut self, data: &[u8]) -> Result<(), FetchError> {
        self.0.extend_from_slice(data);
        Ok(())
    }
}

struct Partial<'a> {
    file: &'a mut tempfile::NamedTempFile,
    written: &'a mut u64,
    arrived: &'a (dyn Fn(u64) + Send + Sync),
}

impl Sink for Partial<'_> {
    fn len(&self) -> u64 {
        *self.written
    }
    fn restart(&mut self) -> Result<(), FetchError> {
        self.file.as_file_mut().set_len(0)?;
        std::io::Seek::rewind(self.file.as_file_mut())?;
        *self.written = 0;
        Ok(())
    }
    fn push(&mut self, data: &[u8]) -> Result<(), FetchError> {
        self.file.as_file_mut().write_all(data)?;
        *self.written += data.len() as u64;
        (self.arrived)(data.len() as u64);
        Ok(())
    }
}

/// SHA-256 and length of a file; stops when it is longer than `limit`.
fn measure(file: &mut std::fs::File, limit: u64) -> std::io::Result<(Digest, u64)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        let n = match file.read(&mut buffer) {
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if n == 0 || size > limit {
            return Ok((hasher.finish(), size));
        }
        hasher.update(&buffer[..n]);
        size += n as u64;
    }
}

/// Runs `work` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::Internal(e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_come_from_variables() {
        let vars = |list: &[(&str, &str)]| {
            Proxies::from_vars(list.iter().map(|(a, b)| (a.to_string(), b.to_string())))
        };
        let p = vars(&[
            ("HTTP_PROXY", "http://up"),
            ("http_proxy", "http://low"),
            ("no_proxy", "x"),
            ("PATH", "y"),
        ]);
        assert_eq!(
            (p.http.as_deref(), p.https.as_deref(), p.direct.as_deref()),
            (Some("http://low"), None, Some("x"))
        );
        let p = vars(&[("ALL_PROXY", "a:1"), ("https_proxy", "b:2"), ("http_proxy", "")]);
        assert_eq!((p.http.as_deref(), p.https.as_deref()), (Some("a:1"), Some("b:2")));
    }

    #[test]
    fn credentials_never_show() {
        assert_eq!(without_credentials("http://me:pw@host:1/debian@x"), "http://host:1/debian@x");
        assert_eq!(without_credentials("http://host"), "http://host");
        assert_eq!(without_credentials("file:///srv/x"), "file:///srv/x");
    }

    #[test]
    fn pauses_grow_and_end() {
        assert!(pause(1, None) < pause(2, None));
        assert_eq!(pause(99, None), Duration::from_secs(30));
        assert_eq!(pause(1, Some(Duration::from_secs(3600))), Duration::from_secs(30));
    }

    /// A server on the loopback that answers each connection with the next of `answers`: bytes to send before
    /// it hangs up. Gives its address and what it was asked.
    fn serve(answers: Vec<Vec<u8>>) -> (String, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let log = std::sync::Arc::clone(&asked);
        std::thread::spawn(move || {
            for answer in answers {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut buffer) {
                        Ok(n) if n > 0 => request.extend_from_slice(&buffer[..n]),
                        _ => break,
                    }
                }
                log.lock().unwrap().push(String::from_utf8_lossy(&request).to_ascii_lowercase());
                let _ = stream.write_all(&answer);
            }
        });
        (address, asked)
    }

    fn answer(status: &str, headers: &str, length: usize, body: &[u8]) -> Vec<u8> {
        let head =
            format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
        [head.as_bytes(), body].concat()
    }

    fn fetch(url: &str, body: &[u8]) -> (Result<PathBuf>, tempfile::TempDir, u64) {
        let cache = tempfile::tempdir().unwrap();
        let fetcher = Fetcher::new(cache.path(), &Proxies::default()).unwrap();
        let expected = Expected { digest: Digest::of(body), size: body.len() as u64 };
        let arrived = std::sync::atomic::AtomicU64::new(0);
        let count = |n| {
            arrived.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let urls = [format!("{url}/by-hash/x"), format!("{url}/x")];
        let result = runtime.block_on(fetcher.blob(&urls, expected, &count));
        let leftovers = std::fs::read_dir(cache.path().join("blobs")).unwrap().count();
        assert_eq!(leftovers, usize::from(result.is_ok()), "only whole files stay");
        (result, cache, arrived.into_inner())
    }

    #[test]
    fn trouble_is_overcome() {
        let body: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let range = "Content-Range: bytes 40000-99999/100000\r\n";
        let (url, asked) = serve(vec![
            answer("404 Not Found", "", 0, b""),
            answer("503 Busy", "Retry-After: 0\r\n", 0, b""),
            answer("200 OK", "", 100_000, &body[..40_000]),
            answer("206 Partial Content", range, 60_000, &body[40_000..]),
        ]);
        let (result, _cache, arrived) = fetch(&url, &body);
        assert_eq!(std::fs::read(result.unwrap()).unwrap(), body);
        assert_eq!(arrived, 100_000);
        let asked = asked.lock().unwrap();
        assert!(asked[0].starts_with("get /by-hash/x ") && asked[1].starts_with("get /x "));
        assert!(asked[3].contains("range: bytes=40000-"), "{}", asked[3]);
    }

    #[test]
    fn a_server_without_ranges_starts_again() {
        let body = vec![7; 50_000];
        let (url, _) =
            serve(vec![answer("200 OK", "", 50_000, &body[..10_000]), answer("200 OK", "", 50_000, &body)]);
        let (result, _cache, _) = fetch(&url, &body);
        assert_eq!(std::fs::read(result.unwrap()).unwrap(), body);
    }

    #[test]
    fn wrong_bytes_never_arrive() {
        let body = vec![7; 1000];
        let wrong = vec![8; 1000];
        let (url, _) = serve(vec![answer("200 OK", "", 1000, &wrong), answer("200 OK", "", 1000, &body)]);
        assert!(fetch(&url, &body).0.is_ok(), "damage on the way is mended by a second try");
        let (url, _) = serve(vec![answer("200 OK", "", 1000, &wrong); 6]);
        let error = fetch(&url, &body).0.unwrap_err();
        assert!(matches!(error, Error::Fetch { source: FetchError::Mismatch { .. }, .. }), "{error:?}");
        assert!(error.hint().is_some());
        let (url, _) = serve(vec![answer("200 OK", "", 2000, &[7; 2000]); 6]);
        let error = fetch(&url, &body).0.unwrap_err();
        assert!(
            matches!(error, Error::Fetch { source: FetchError::TooLong { limit: 1000 }, .. }),
            "{error:?}"
        );
        let (url, _) = serve(vec![answer("404 Not Found", "", 0, b""); 2]);
        let error = fetch(&url, &body).0.unwrap_err();
        assert!(matches!(error, Error::Fetch { source: FetchError::Status(404), .. }), "{error:?}");
    }

    #[test]
    fn a_damaged_cache_mends_itself_and_folders_serve() {
        let mirror = tempfile::tempdir().unwrap();
        std::fs::write(mirror.path().join("x"), "hello").unwrap();
        let url = format!("file://{}", mirror.path().display());
        let (result, cache, _) = fetch(&url, b"hello");
        let place = result.unwrap();
        std::fs::write(&place, "jello").unwrap();
        let fetcher = Fetcher::new(cache.path(), &Proxies::default()).unwrap();
        let expected = Expected { digest: Digest::of(b"hello"), size: 5 };
        assert!(!fetcher.has(&expected));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(fetcher.blob(&[format!("{url}/x")], expected, &|_| {})).unwrap();
        assert_eq!(std::fs::read(&place).unwrap(), b"hello");
        assert!(runtime.block_on(fetcher.small("ftp://x/y", 10)).is_err());
    }
}
