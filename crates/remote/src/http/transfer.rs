//! Transfers of bodies: streamed to a file and hashed on the way, resumed where they break off.

use super::{Http, Wanted, is_strong};
use crate::url::host_of;
use crate::{Error, HttpFailure};
use bytes::Bytes;
use digest::{Digest, Sha256};
use graph::HttpSource;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_RANGE, RANGE};
use reqwest::{Response, StatusCode};
use rustix::fs::{Timespec, Timestamps};
use sandbox::RootDir;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use store::Active;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A server that sends less than this in the idle time is dead.
const LEAST: u64 = 1024;
/// After as much the count of attempts starts anew.
const PROGRESS: u64 = 1 << 20;
/// Pieces of a body on their way to the disk.
const QUEUE: usize = 16;

/// What the thread that writes is told.
enum Order {
    Write(Bytes),
    /// Forget what was written.
    Restart,
}

/// A file that is written and hashed by a thread of its own.
struct Sink {
    orders: mpsc::Sender<Order>,
    done: tokio::task::JoinHandle<Result<(File, Digest), Error>>,
}

impl Sink {
    fn new(mut file: File, shown: std::path::PathBuf) -> Self {
        let (orders, mut received) = mpsc::channel(QUEUE);
        let done = tokio::task::spawn_blocking(move || {
            let failed = |e| Error::io("write", &shown)(e);
            let mut hasher = Sha256::new();
            while let Some(order) = received.blocking_recv() {
                match order {
                    Order::Write(bytes) => {
                        hasher.update(&bytes);
                        file.write_all(&bytes).map_err(failed)?;
                    }
                    Order::Restart => {
                        hasher = Sha256::new();
                        file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(failed)?;
                    }
                }
            }
            Ok((file, hasher.finish()))
        });
        Sink { orders, done }
    }

    /// The rest of the work. Also tells why an order was not taken.
    async fn finish(self) -> Result<(File, Digest), Error> {
        drop(self.orders);
        match self.done.await {
            Ok(result) => result,
            Err(_) => Err(Error::Internal("the thread that writes a download is gone")),
        }
    }
}

/// How far a download is.
struct Progress {
    received: u64,
    attempt: u32,
    /// `received` when the attempts were last counted from.
    counted: u64,
}

impl Http {
    /// The body of `response`, and of further ones where it breaks off, as a file in `active`.
    pub(super) async fn download(
        &self,
        wanted: &Wanted<'_>,
        active: &Active,
        response: Response,
    ) -> Result<(File, Digest), Error> {
        let (upper, name) = (active.upper(), wanted.source.filename.clone());
        let shown = upper.join(&name);
        let file = par::blocking(move || {
            let root = RootDir::open_path(&upper)?;
            root.create_file(&name, 0o600).map(File::from)
        })
        .await?;
        let sink = Sink::new(file, shown);
        let mut progress = Progress { received: 0, attempt: 1, counted: 0 };
        let tag = text(&response, ETAG).filter(|t| is_strong(t)).map(str::to_string);
        let mut response = response;
        loop {
            let failure = match self.receive(&sink, &mut progress, response).await {
                Ok(Received::Whole) => return sink.finish().await,
                // The thread has given up; it says why.
                Ok(Received::Refused) => {
                    return sink.finish().await.and(Err(Error::Internal("a write failed silently")));
                }
                Err(failure) => failure,
            };
            response = match self.again(wanted, &sink, &mut progress, tag.as_deref(), failure).await? {
                Some(response) => response,
                None => return sink.finish().await.and(Err(Error::Internal("a write failed silently"))),
            };
        }
    }

    /// Ask for the rest. `None` where the sink is gone.
    async fn again(
        &self,
        wanted: &Wanted<'_>,
        sink: &Sink,
        progress: &mut Progress,
        tag: Option<&str>,
        mut failure: HttpFailure,
    ) -> Result<Option<Response>, Error> {
        loop {
            if progress.received >= progress.counted + PROGRESS {
                (progress.attempt, progress.counted) = (1, progress.received);
            }
            self.settings.retries.pause(progress.attempt, failure).await.map_err(|f| wanted.failed(f))?;
            progress.attempt += 1;
            let mut headers = HeaderMap::new();
            if let Some(tag) = tag.and_then(|t| HeaderValue::from_str(t).ok())
                && let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", progress.received))
                && progress.received > 0
            {
                headers.insert(RANGE, range);
                headers.insert(IF_RANGE, tag);
            }
            match self.ask(wanted, headers).await? {
                Ok(response) => {
                    let resumed = response.status() == StatusCode::PARTIAL_CONTENT
                        && text(&response, CONTENT_RANGE).and_then(range_start) == Some(progress.received)
                        && text(&response, ETAG).is_none_or(|t| Some(t) == tag);
                    if resumed {
                        return Ok(Some(response));
                    }
                    if response.status() == StatusCode::PARTIAL_CONTENT {
                        // Another part than the one that is missing: nothing to build on.
                        let host = host_of(&wanted.url);
                        let status = response.status().as_u16();
                        return Err(wanted.failed(HttpFailure::Status { host, status, retry_after: None }));
                    }
                    (progress.received, progress.counted) = (0, 0);
                    return Ok(sink.orders.send(Order::Restart).await.is_ok().then_some(response));
                }
                Err(next) => failure = next,
            }
        }
    }

    async fn receive(
        &self,
        sink: &Sink,
        progress: &mut Progress,
        mut response: Response,
    ) -> Result<Received, HttpFailure> {
        let host = host_of(response.url());
        let idle = self.settings.timeouts.idle;
        let (mut deadline, mut lately) = (Instant::now() + idle, 0);
        loop {
            let chunk = match tokio::time::timeout_at(deadline, response.chunk()).await {
                Ok(chunk) => chunk.map_err(|e| failure(&host, e))?,
                Err(_) => return Err(HttpFailure::Stalled { host, seconds: idle.as_secs() }),
            };
            let Some(chunk) = chunk else { return Ok(Received::Whole) };
            let len = chunk.len() as u64;
            progress.received += len;
            lately += len;
            if sink.orders.send(Order::Write(chunk)).await.is_err() {
                return Ok(Received::Refused);
            }
            if lately >= LEAST {
                (deadline, lately) = (Instant::now() + idle, 0);
            }
        }
    }
}

enum Received {
    Whole,
    /// The sink takes no more.
    Refused,
}

fn text(response: &Response, name: HeaderName) -> Option<&str> {
    response.headers().get(name).and_then(|v| v.to_str().ok())
}

/// The first byte that `Content-Range: bytes 5-9/10` names.
fn range_start(value: &str) -> Option<u64> {
    value.trim().strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// Give a downloaded file its owner, mode and time (seconds since 1970).
pub(super) fn settle(
    file: &File,
    upper: &Path,
    source: &HttpSource,
    mode: u32,
    modified: i64,
) -> Result<(), Error> {
    let shown = upper.join(&source.filename);
    let failed = |e: rustix::io::Errno| Error::io("set the attributes of", &shown)(e.into());
    let (uid, gid) = (rustix::fs::Uid::from_raw(source.uid), rustix::fs::Gid::from_raw(source.gid));
    rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(failed)?;
    rustix::fs::fchmod(file, rustix::fs::Mode::from_raw_mode(mode & 0o7777)).map_err(failed)?;
    let time = Timespec { tv_sec: modified, tv_nsec: 0 };
    rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time }).map_err(failed)
}

/// Whether TLS itself failed, however deeply that is wrapped.
fn is_tls(e: &(dyn std::error::Error + 'static)) -> bool {
    // An io::Error hides the error that it carries from `source`.
    let carried = e.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
    let text = e.to_string();
    text.contains("certificate")
        || text.contains("received fatal alert")
        || carried.is_some_and(|c| is_tls(c))
        || e.source().is_some_and(is_tls)
}

/// Whether the name of the host has no address. The HTTP library marks that by text only.
fn is_resolution(e: &(dyn std::error::Error + 'static)) -> bool {
    e.to_string().contains("dns error") || e.source().is_some_and(is_resolution)
}

/// The innermost cause: what a person can do something about.
fn root_cause(e: reqwest::Error) -> Box<dyn std::error::Error + Send + Sync> {
    let mut text = e.to_string();
    let mut cause = std::error::Error::source(&e);
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    crate::error::tame(&text).into()
}

/// Sort a failure of the HTTP library by its cause.
pub(super) fn failure(host: &str, e: reqwest::Error) -> HttpFailure {
    let host = host.to_string();
    let e = e.without_url();
    if is_tls(&e) {
        return HttpFailure::Tls { host, source: root_cause(e) };
    }
    if e.is_connect() && is_resolution(&e) {
        return HttpFailure::UnknownHost { host, source: e.into() };
    }
    if e.is_connect() {
        return HttpFailure::Unreachable { host, source: root_cause(e) };
    }
    HttpFailure::Interrupted { host, source: e.into() }
}

#[cfg(test)]
mod tests {
    use super::range_start;

    #[test]
    fn ranges() {
        assert_eq!(range_start("bytes 5-9/10"), Some(5));
        assert_eq!(range_start("bytes */10"), None);
        assert_eq!(range_start("5-9"), None);
    }
}
