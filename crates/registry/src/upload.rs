//! Blobs on their way out: mount from another repository, or one PUT that streams the whole blob.

use crate::auth::Scope;
use crate::client::Client;
use crate::error::Error;
use crate::http::{Ask, Endpoint, Sent, redirect_target, status_error};
use crate::progress::{Event, Progress};
use bytes::Bytes;
use digest::VerifyingReader;
use oci::{BlobSource, Descriptor, Reference};
use reqwest::header::{CONTENT_LENGTH, HeaderValue, LOCATION};
use reqwest::{Body, Method, Response, StatusCode, Url};
use std::io::{self, Read};
use std::sync::Arc;
use tokio::sync::mpsc;

/// What became of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uploaded {
    /// The repository had it already.
    Present,
    /// Taken over from that repository.
    Mounted(String),
    Sent,
}

const CHUNK: usize = 256 << 10;

enum Session {
    Mounted(String),
    Open(Url),
}

impl Client {
    /// Whether the repository has a blob (of that size, if the registry says one).
    pub async fn has_blob(&self, repository: &Reference, blob: &Descriptor) -> Result<bool, Error> {
        let ep = self.http.origin(repository.domain())?;
        let scope = Scope::push(repository.path());
        let response = self.http.send(&ep, head(&ep, repository, blob, &scope)?).await?;
        self.says_present(&ep, blob, response).await
    }

    async fn says_present(
        &self,
        ep: &Endpoint,
        blob: &Descriptor,
        response: Response,
    ) -> Result<bool, Error> {
        let length =
            response.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        match response.status() {
            StatusCode::OK => Ok(length.is_none_or(|l| l == blob.size)),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(status_error(self.http.config(), &ep.host(), response).await),
        }
    }

    /// Bring a blob into a repository unless it is there. `mount_from` are repositories of the same
    /// registry (paths) that may have it. The bytes of `source` are verified as they are sent.
    pub async fn push_blob(
        &self,
        repository: &Reference,
        blob: &Descriptor,
        source: Arc<dyn BlobSource>,
        mount_from: &[String],
        progress: &dyn Progress,
    ) -> Result<Uploaded, Error> {
        let _permit = self.limits.push().await;
        let ep = self.http.origin(repository.domain())?;
        let scope = Scope::push(repository.path());
        let mut attempt = 0;
        loop {
            attempt += 1;
            let source = source.clone();
            match self.push_once(&ep, &scope, repository, blob, source, mount_from, attempt, progress).await {
                Ok(done) => {
                    match &done {
                        Uploaded::Present => progress.event(Event::Present { blob }),
                        Uploaded::Mounted(from) => progress.event(Event::Mounted { blob, from }),
                        Uploaded::Sent => progress.event(Event::Done { blob }),
                    }
                    return Ok(done);
                }
                Err(e) => {
                    self.http.pause_or_fail(attempt, e).await?;
                    progress.event(Event::Retrying { blob });
                }
            }
        }
    }

    /// One attempt; its requests are not repeated by themselves.
    #[allow(clippy::too_many_arguments)]
    async fn push_once(
        &self,
        ep: &Endpoint,
        scope: &Scope,
        repository: &Reference,
        blob: &Descriptor,
        source: Arc<dyn BlobSource>,
        mount_from: &[String],
        attempt: u32,
        progress: &dyn Progress,
    ) -> Result<Uploaded, Error> {
        // Whatever only saves the upload may fail from the second attempt on: a registry that was killed can
        // have left half a link, and asked about the blob answers 500 until the blob is uploaded again.
        let gives_up = |e: &Error| attempt == 1 && e.is_transient();
        let asked = async {
            let response = self.http.once(ep, &head(ep, repository, blob, scope)?).await?;
            self.says_present(ep, blob, response).await
        };
        match asked.await {
            Ok(true) => return Ok(Uploaded::Present),
            Err(e) if gives_up(&e) || !matches!(e, Error::Status { .. }) => return Err(e),
            Ok(false) | Err(_) => {}
        }
        let url = match self.start(ep, scope, repository, blob, mount_from, gives_up).await? {
            Session::Mounted(from) => return Ok(Uploaded::Mounted(from)),
            Session::Open(url) => url,
        };
        progress.event(Event::Started { blob, offset: 0 });
        self.send_blob(ep, scope, url, blob, source, progress).await?;
        Ok(Uploaded::Sent)
    }

    /// Try to mount; else open an upload and give its address.
    async fn start(
        &self,
        ep: &Endpoint,
        scope: &Scope,
        repository: &Reference,
        blob: &Descriptor,
        mount_from: &[String],
        gives_up: impl Fn(&Error) -> bool,
    ) -> Result<Session, Error> {
        let path = format!("{}/blobs/uploads/", repository.path());
        let mut open: Option<Url> = None;
        for from in mount_from.iter().filter(|f| *f != repository.path()) {
            let wide = scope.clone().and_pull(from);
            let mut url = ep.url(&path)?;
            url.query_pairs_mut().append_pair("mount", &blob.digest.to_string()).append_pair("from", from);
            // A refused mount must not end a push that works without it.
            let response = match self.http.once(ep, &post(url, &wide)).await {
                Ok(response) => response,
                Err(e) if gives_up(&e) => return Err(e),
                Err(_) => continue,
            };
            match response.status() {
                StatusCode::CREATED => {
                    if let Some(unused) = open {
                        self.cancel_upload(ep, scope, unused).await;
                    }
                    return Ok(Session::Mounted(from.clone()));
                }
                // Not there: the registry opened an upload instead.
                StatusCode::ACCEPTED => {
                    let url = session_url(ep, response.url(), response.headers().get(LOCATION))?;
                    if let Some(unused) = open.replace(url) {
                        self.cancel_upload(ep, scope, unused).await;
                    }
                }
                _ => {}
            }
        }
        if let Some(url) = open {
            return Ok(Session::Open(url));
        }
        let response = self.http.once(ep, &post(ep.url(&path)?, scope)).await?;
        match response.status() {
            StatusCode::ACCEPTED => {
                Ok(Session::Open(session_url(ep, response.url(), response.headers().get(LOCATION))?))
            }
            StatusCode::NOT_FOUND => Err(Error::NotFound {
                reference: repository.familiar_name(),
                message: "the registry takes no uploads there".into(),
            }),
            _ => match status_error(self.http.config(), &ep.host(), response).await {
                Error::Denied { host, message, login, .. } => {
                    Err(Error::Denied { host, what: repository.familiar_name(), message, login })
                }
                e => Err(e),
            },
        }
    }

    /// Tell the registry that an upload is not needed. It forgets unused ones by itself in time, so nothing
    /// depends on the answer.
    async fn cancel_upload(&self, ep: &Endpoint, scope: &Scope, url: Url) {
        let _ = self.http.once(ep, &Ask::new(Method::DELETE, url, scope)).await;
    }

    async fn send_blob(
        &self,
        ep: &Endpoint,
        scope: &Scope,
        mut url: Url,
        blob: &Descriptor,
        source: Arc<dyn BlobSource>,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        url.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let (sender, mut receiver) = mpsc::channel::<io::Result<Bytes>>(4);
        let (counter, mut counted) = mpsc::unbounded_channel::<u64>();
        let sent = Sent::default();
        let taken = sent.clone();
        let body = Body::wrap_stream(futures_util::stream::poll_fn(move |cx| {
            let piece = receiver.poll_recv(cx);
            if let std::task::Poll::Ready(Some(Ok(bytes))) = &piece {
                taken.add(bytes.len() as u64);
                let _ = counter.send(bytes.len() as u64);
            }
            piece
        }));
        let (b, digest) = (blob.clone(), blob.digest);
        let read = par::blocking(move || read_pieces(&*source, &b, &sender));
        let put = async {
            let put = self.http.put_stream(ep, url, scope, body, blob.size, &sent);
            tokio::pin!(put);
            loop {
                tokio::select! {
                    biased;
                    Some(count) = counted.recv() => progress.event(Event::Bytes { blob, count }),
                    result = &mut put => return result,
                }
            }
        };
        let (read, put) = tokio::join!(read, put);
        // What went wrong on this side explains what went wrong on the other.
        read.map_err(|source| Error::Source { digest, source })?;
        let response = put?;
        match response.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            // The upload was forgotten (a restart of the registry): a new one may succeed.
            StatusCode::NOT_FOUND => Err(Error::Interrupted { host: ep.host(), source: None }),
            _ => Err(status_error(self.http.config(), &ep.host(), response).await),
        }
    }
}

fn head<'a>(
    ep: &Endpoint,
    repository: &Reference,
    blob: &Descriptor,
    scope: &'a Scope,
) -> Result<Ask<'a>, Error> {
    let url = ep.url(&format!("{}/blobs/{}", repository.path(), blob.digest))?;
    Ok(Ask::new(Method::HEAD, url, scope))
}

fn post(url: Url, scope: &Scope) -> Ask<'_> {
    let mut ask = Ask::new(Method::POST, url, scope);
    ask.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    ask
}

/// The synchronous half of an upload. Each piece is sent only when the next one (or the verified end) is
/// there, so that damaged content is never sent whole.
fn read_pieces(
    source: &dyn BlobSource,
    blob: &Descriptor,
    out: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let result = (|| {
        let mut reader = VerifyingReader::new(source.open(blob)?, blob.digest, blob.size);
        let mut held: Option<Bytes> = None;
        loop {
            let mut buffer = vec![0; CHUNK.min(usize::try_from(blob.size).unwrap_or(CHUNK).max(1))];
            let n = match reader.read(&mut buffer) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            buffer.truncate(n);
            let next = (n > 0).then(|| Bytes::from(buffer));
            let end = next.is_none();
            if let Some(piece) = std::mem::replace(&mut held, next)
                && out.blocking_send(Ok(piece)).is_err()
            {
                // The request ended early and says why.
                return Ok(());
            }
            if end {
                return Ok(());
            }
        }
    })();
    if result.is_err() {
        let _ = out.blocking_send(Err(io::Error::other("the content to upload is damaged")));
    }
    result
}

/// Where an upload goes. A registry behind a proxy may name itself by plain HTTP: its own scheme is kept.
fn session_url(ep: &Endpoint, from: &Url, location: Option<&HeaderValue>) -> Result<Url, Error> {
    if let Some(mut url) = location.and_then(|l| l.to_str().ok()).and_then(|l| from.join(l).ok())
        && url.scheme() == "http"
        && ep.base.scheme() == "https"
        && url.host_str() == ep.base.host_str()
        && (url.port().is_none() || url.port() == ep.base.port())
    {
        let port = ep.base.port();
        if url.set_scheme("https").is_ok() && url.set_port(port).is_ok() {
            return Ok(url);
        }
    }
    redirect_target(ep, from, location)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upload_addresses() {
        let ep = Endpoint { base: Url::parse("https://r.example:8443/").unwrap(), domain: "r".into() };
        let at = |l: &str| {
            let v = HeaderValue::from_str(l).unwrap();
            session_url(&ep, &ep.url("x/blobs/uploads/").unwrap(), Some(&v)).map(|u| u.to_string())
        };
        assert_eq!(at("/v2/x/1?state=a").unwrap(), "https://r.example:8443/v2/x/1?state=a");
        assert_eq!(at("http://r.example/v2/x/1").unwrap(), "https://r.example:8443/v2/x/1");
        assert_eq!(at("https://blob.example/x").unwrap(), "https://blob.example/x");
        assert!(at("http://blob.example/x").is_err());
    }
}
