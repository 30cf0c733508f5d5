//! Blobs on their way in: a stream that resumes by itself, and its writing into a sink, verified.

use crate::auth::Scope;
use crate::client::{Client, header_text};
use crate::error::Error;
use crate::header;
use crate::http::{Ask, Endpoint, from_reqwest, host_of, is_loopback, redirect_target, status_error};
use crate::progress::{Event, Progress};
use bytes::Bytes;
use digest::{Digest, Sha256, VerifyError};
use oci::{BlobSink, BlobWriter, Descriptor, Reference};
use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode, Url};
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What became of a request for a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// The sink had it already.
    Present,
    Downloaded,
}

/// Progress after which earlier failures are forgotten.
const FORGIVEN_AFTER: u64 = 1 << 20;
/// The least that must arrive within the idle time.
const LEAST_BYTES: u64 = 1024;

/// Where a blob may be read.
enum Place {
    Registry(Endpoint),
    /// The URL of a foreign layer: asked without credentials.
    Url(Url),
}

/// The bytes of one blob. Broken connections are resumed where they broke; the number of bytes is exactly
/// that of the descriptor. The digest is not checked here.
pub struct BlobStream {
    client: Client,
    path: String,
    blob: Descriptor,
    places: Vec<Place>,
    place: usize,
    /// Bytes delivered, counted from the start of the blob.
    offset: u64,
    /// Bytes to drop, where a registry started over instead of resuming.
    skip: u64,
    response: Option<Response>,
    failures: u32,
    good_since_failure: u64,
}

impl BlobStream {
    pub(crate) fn new(
        client: &Client,
        repository: &Reference,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<Self, Error> {
        let endpoints = client.http.endpoints(repository.domain())?;
        let mut places: Vec<_> = endpoints.into_iter().map(Place::Registry).collect();
        if blob.is_foreign() {
            let safe = |u: &Url| u.scheme() == "https" || (u.scheme() == "http" && is_loopback(&host_of(u)));
            let urls = blob.urls.iter().filter_map(|u| Url::parse(u).ok()).filter(safe);
            places.extend(urls.map(Place::Url));
        }
        Ok(BlobStream {
            client: client.clone(),
            path: repository.path().to_string(),
            blob: blob.clone(),
            places,
            place: 0,
            offset,
            skip: 0,
            response: None,
            failures: 0,
            good_since_failure: 0,
        })
    }

    /// The next bytes, `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.response.is_none() {
                if self.offset == self.blob.size {
                    return Ok(None);
                }
                match self.open().await {
                    Ok(response) => self.response = Some(response),
                    Err(e) => {
                        self.failed(e).await?;
                        continue;
                    }
                }
            }
            match self.chunk().await {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                Ok(None) if self.offset == self.blob.size => return Ok(None),
                Ok(None) => {
                    let e = Error::Interrupted { host: self.host(), source: None };
                    self.failed(e).await?;
                }
                Err(e) => self.failed(e).await?,
            }
        }
    }

    fn host(&self) -> String {
        match &self.places[self.place] {
            Place::Registry(ep) => ep.host(),
            Place::Url(url) => host_of(url),
        }
    }

    /// Pause and prepare another attempt, move on to the next place, or give up.
    async fn failed(&mut self, e: Error) -> Result<(), Error> {
        self.response = None;
        if self.good_since_failure >= FORGIVEN_AFTER {
            self.failures = 0;
        }
        self.good_since_failure = 0;
        self.failures += 1;
        match self.client.http.pause_or_fail(self.failures, e).await {
            Err(_) if self.place + 1 < self.places.len() => {
                self.place += 1;
                self.failures = 0;
                Ok(())
            }
            result => result,
        }
    }

    async fn open(&mut self) -> Result<Response, Error> {
        let mut headers = HeaderMap::new();
        if self.offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.offset))
                .map_err(|e| Error::Internal(e.to_string()))?;
            headers.insert(RANGE, range);
        }
        let response = match &self.places[self.place] {
            Place::Registry(ep) => {
                let scope = Scope::pull(&self.path);
                let url = ep.url(&format!("{}/blobs/{}", self.path, self.blob.digest))?;
                let mut ask = Ask::new(Method::GET, url, &scope);
                ask.headers = headers;
                self.client.http.once(ep, &ask).await?
            }
            Place::Url(url) => self.open_url(url.clone(), headers).await?,
        };
        let host = self.host();
        match response.status() {
            StatusCode::OK => self.skip = self.offset,
            StatusCode::PARTIAL_CONTENT => {
                let start = header_text(response.headers(), CONTENT_RANGE.as_str());
                if start.as_deref().and_then(header::content_range_start) != Some(self.offset) {
                    return Err(Error::protocol(&host, "it sent another range than was asked for"));
                }
                self.skip = 0;
            }
            StatusCode::NOT_FOUND => {
                return Err(Error::BlobNotFound { repository: self.path.clone(), digest: self.blob.digest });
            }
            _ => return Err(status_error(self.client.http.config(), &host, response).await),
        }
        if let Some(length) = response.content_length() {
            let whole = length.saturating_add(self.offset - self.skip);
            if whole > self.blob.size {
                return Err(self.too_long(whole));
            }
        }
        Ok(response)
    }

    async fn open_url(&self, mut url: Url, headers: HeaderMap) -> Result<Response, Error> {
        let ep = Endpoint { base: url.clone(), domain: host_of(&url) };
        for _ in 0..8 {
            let response = self.client.http.raw(Method::GET, &url, headers.clone(), None, None).await?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            url = redirect_target(&ep, &url, response.headers().get(LOCATION))?;
        }
        Err(Error::protocol(&ep.host(), "it redirects too many times"))
    }

    fn too_long(&self, actual: u64) -> Error {
        Error::Verify {
            host: self.host(),
            what: self.blob.digest.to_string(),
            source: VerifyError::Size { digest: self.blob.digest, expected: self.blob.size, actual },
        }
    }

    /// The next bytes of this connection. Empty ones mean that they were skipped.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let idle = self.client.http.config().timeouts.idle;
        let host = self.host();
        let Some(response) = &mut self.response else { return Ok(None) };
        // Single bytes at long intervals keep no connection alive: small chunks are gathered, and the time
        // limit holds for the lot.
        let deadline = Instant::now() + idle;
        let mut gathered: Vec<u8> = Vec::new();
        let mut bytes = loop {
            match tokio::time::timeout_at(deadline, response.chunk()).await {
                Err(_) => return Err(Error::Stalled { host, seconds: idle.as_secs() }),
                Ok(Err(e)) => {
                    if gathered.is_empty() {
                        return Err(from_reqwest(&host, e));
                    }
                    break Bytes::from(gathered);
                }
                Ok(Ok(None)) if gathered.is_empty() => return Ok(None),
                Ok(Ok(None)) => break Bytes::from(gathered),
                Ok(Ok(Some(chunk))) if gathered.is_empty() && chunk.len() as u64 >= LEAST_BYTES => {
                    break chunk;
                }
                Ok(Ok(Some(chunk))) => {
                    gathered.extend_from_slice(&chunk);
                    if gathered.len() as u64 >= LEAST_BYTES {
                        break Bytes::from(gathered);
                    }
                }
            }
        };
        if self.skip > 0 {
            let drop = self.skip.min(bytes.len() as u64);
            self.skip -= drop;
            bytes = bytes.split_off(usize::try_from(drop).unwrap_or(bytes.len()));
        }
        let end = self.offset + bytes.len() as u64;
        if end > self.blob.size {
            return Err(self.too_long(end));
        }
        self.offset = end;
        self.good_since_failure += bytes.len() as u64;
        Ok(Some(bytes))
    }
}

/// What the receiving side of a download is told.
enum Piece {
    Data(Bytes),
    /// The stream ended as announced.
    End,
}

impl Client {
    /// The bytes of a blob from `offset` on.
    pub fn blob(&self, repository: &Reference, blob: &Descriptor, offset: u64) -> Result<BlobStream, Error> {
        BlobStream::new(self, repository, blob, offset)
    }

    /// A whole small blob in memory, verified. More than `limit` bytes are refused.
    pub async fn blob_bytes(
        &self,
        repository: &Reference,
        blob: &Descriptor,
        limit: usize,
    ) -> Result<Vec<u8>, Error> {
        if let Ok(Some(bytes)) = blob.embedded() {
            return Ok(bytes);
        }
        let host = repository.domain().to_string();
        if blob.size > limit as u64 {
            return Err(Error::protocol(&host, format!("{} is larger than {limit} bytes", blob.digest)));
        }
        let mut stream = self.blob(repository, blob, 0)?;
        let mut out = Vec::new();
        while let Some(chunk) = stream.next().await? {
            out.extend_from_slice(&chunk);
        }
        let (actual, out) = par::cpu(move || (Digest::of(&out), out)).await;
        if actual != blob.digest {
            let source = VerifyError::Digest { expected: blob.digest, actual };
            return Err(Error::Verify { host, what: blob.digest.to_string(), source });
        }
        Ok(out)
    }

    /// Stream a blob into `sink`, verified, going on where an earlier attempt stopped. Idempotent.
    pub async fn fetch_blob(
        &self,
        repository: &Reference,
        blob: &Descriptor,
        sink: Arc<dyn BlobSink>,
        progress: &dyn Progress,
    ) -> Result<Fetched, Error> {
        let _permit = self.limits.pull().await;
        let digest = blob.digest;
        let to_sink = |source| Error::Sink { digest, source };
        let (s, b) = (sink.clone(), blob.clone());
        if par::blocking(move || s.has(&b)).await.map_err(to_sink)? {
            progress.event(Event::Present { blob });
            return Ok(Fetched::Present);
        }
        for fresh in [false, true] {
            let (s, b) = (sink.clone(), blob.clone());
            let begun = par::blocking(move || {
                let mut writer = s.begin(&b)?;
                if writer.is_present() {
                    return Ok(None);
                }
                let (mut offset, mut hash) = writer.resume()?;
                if fresh || offset > b.size {
                    writer.restart()?;
                    (offset, hash) = (0, Sha256::new());
                }
                Ok(Some((writer, offset, hash)))
            });
            let Some((writer, offset, hash)) = begun.await.map_err(to_sink)? else {
                progress.event(Event::Present { blob });
                return Ok(Fetched::Present);
            };
            progress.event(Event::Started { blob, offset });
            match self.stream_into(repository, blob, writer, offset, hash, progress).await {
                // What an earlier attempt left may be damaged: once more from the start.
                Err(Error::Verify { source: VerifyError::Digest { .. }, .. }) if offset > 0 => {
                    progress.event(Event::Retrying { blob });
                }
                Err(e) => return Err(e),
                Ok(()) => {
                    progress.event(Event::Done { blob });
                    return Ok(Fetched::Downloaded);
                }
            }
        }
        Err(Error::Internal("a fresh download was taken for a resumed one".into()))
    }

    async fn stream_into(
        &self,
        repository: &Reference,
        blob: &Descriptor,
        writer: Box<dyn BlobWriter>,
        offset: u64,
        hash: Sha256,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let mut stream = self.blob(repository, blob, offset)?;
        let (sender, receiver) = mpsc::channel::<Piece>(8);
        let expected = blob.digest;
        let write = par::blocking(move || write_pieces(receiver, writer, hash, expected));
        let read = async move {
            while let Some(bytes) = stream.next().await? {
                let count = bytes.len() as u64;
                if sender.send(Piece::Data(bytes)).await.is_err() {
                    // The writer failed and says why.
                    return Ok(());
                }
                progress.event(Event::Bytes { blob, count });
            }
            let _ = sender.send(Piece::End).await;
            Ok::<(), Error>(())
        };
        let (written, read) = tokio::join!(write, read);
        read?;
        written.map_err(|source| match source.get_ref().and_then(|e| e.downcast_ref::<VerifyError>()) {
            Some(e) => Error::Verify {
                host: repository.domain().to_string(),
                what: expected.to_string(),
                source: e.clone(),
            },
            None => Error::Sink { digest: expected, source },
        })
    }
}

/// The synchronous half of a download. Without [`Piece::End`] nothing is committed.
fn write_pieces(
    mut pieces: mpsc::Receiver<Piece>,
    mut writer: Box<dyn BlobWriter>,
    mut hash: Sha256,
    expected: Digest,
) -> io::Result<()> {
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Data(bytes) => {
                hash.update(&bytes);
                writer.write(&bytes)?;
            }
            Piece::End => {
                let actual = hash.finish();
                if actual != expected {
                    // Damaged bytes are of no use to a later attempt.
                    writer.restart()?;
                    return Err(VerifyError::Digest { expected, actual }.into());
                }
                return writer.commit();
            }
        }
    }
    Ok(())
}
