//! The client: resolve, manifests, tags, catalog, referrers.

use crate::auth::Scope;
use crate::config::Config;
use crate::error::Error;
use crate::header;
use crate::http::{Ask, Endpoint, Transport, read_bounded, server_message, status_error};
use digest::{Digest, VerifyError};
use oci::{Descriptor, Document, DocumentError, MAX_MANIFEST_BYTES, Reference, is_tag, media};
use par::Semaphores;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LINK};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use std::sync::Arc;

/// Talks to registries. Cheap to clone; clones share connections, tokens and limits.
#[derive(Clone)]
pub struct Client {
    pub(crate) http: Arc<Transport>,
    pub(crate) limits: Semaphores,
}

const CONTENT_DIGEST: &str = "docker-content-digest";
/// Pages of a list that are read; with the usual 1,000 names a page this is far beyond any use.
const MAX_PAGES: usize = 1000;
const MAX_NAMES: usize = 1_000_000;
const PAGE_SIZE: usize = 1000;

#[derive(Deserialize)]
struct TagsPage {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct CatalogPage {
    #[serde(default)]
    repositories: Option<Vec<String>>,
}

impl Client {
    pub fn new(config: Config) -> Self {
        let limits = config.limits.semaphores();
        Client { http: Arc::new(Transport::new(config)), limits }
    }

    /// The settings it was made from.
    pub fn config(&self) -> &Config {
        self.http.config()
    }

    /// Check that the registry is there and that it accepts the credentials for it, if there are any.
    pub async fn ping(&self, domain: &str) -> Result<(), Error> {
        let ep = self.http.origin(domain)?;
        let scope = Scope::default();
        let response = self.http.send(&ep, Ask::new(Method::GET, ep.url("")?, &scope)).await?;
        match response.status() {
            StatusCode::OK => Ok(()),
            StatusCode::NOT_FOUND => Err(Error::protocol(&ep.host(), "it has no registry API (version 2)")),
            _ => Err(status_error(self.http.config(), &ep.host(), response).await),
        }
    }

    /// Which manifest or index a reference names now. A digest in the reference is taken at its word, but
    /// must exist. Nothing is verified until the document itself is fetched.
    pub async fn resolve(&self, reference: &Reference) -> Result<Descriptor, Error> {
        for ep in self.http.endpoints(reference.domain())? {
            match self.resolve_at(&ep, reference).await {
                Err(_) if ep.domain != reference.domain() => continue,
                result => return result,
            }
        }
        Err(Error::Internal("a registry without endpoints".into()))
    }

    async fn resolve_at(&self, ep: &Endpoint, reference: &Reference) -> Result<Descriptor, Error> {
        let response = self.manifest_request(ep, reference, Method::HEAD).await?;
        if response.status().is_success()
            && let Some(d) = head_descriptor(response.headers())
        {
            return match reference.digest() {
                Some(expected) if *expected != d.digest => Err(Error::Verify {
                    host: ep.host(),
                    what: reference.familiar(),
                    source: VerifyError::Digest { expected: *expected, actual: d.digest },
                }),
                _ => Ok(d),
            };
        }
        // Some registries answer HEAD without digest, or not at all.
        Ok(self.document_at(ep, reference).await?.descriptor())
    }

    /// Fetch the manifest or index that a reference names; verified where the reference has a digest.
    pub async fn document(&self, reference: &Reference) -> Result<Document, Error> {
        for ep in self.http.endpoints(reference.domain())? {
            match self.document_at(&ep, reference).await {
                Err(_) if ep.domain != reference.domain() => continue,
                result => return result,
            }
        }
        Err(Error::Internal("a registry without endpoints".into()))
    }

    /// Fetch the very document that a descriptor names: digest, size and media type must agree.
    pub async fn document_of(&self, repository: &Reference, d: &Descriptor) -> Result<Document, Error> {
        let reference = repository.name_only().with_digest(d.digest);
        let doc = match d.embedded() {
            Ok(Some(bytes)) => Document::verify(&bytes, d),
            _ => {
                let doc = self.document(&reference).await?;
                // An entry may leave its media type out; the document then says it.
                let said = Descriptor {
                    media_type: if d.media_type.is_empty() {
                        doc.media_type().into()
                    } else {
                        d.media_type.clone()
                    },
                    ..d.clone()
                };
                Document::verify(doc.bytes(), &said)
            }
        };
        doc.map_err(|source| Error::Document { what: reference.familiar(), source })
    }

    pub(crate) async fn document_at(&self, ep: &Endpoint, reference: &Reference) -> Result<Document, Error> {
        let mut attempt = 0;
        let (content_type, claimed, bytes) = loop {
            attempt += 1;
            let response = self.manifest_request(ep, reference, Method::GET).await?;
            if !response.status().is_success() {
                return Err(self.manifest_error(ep, reference, response).await);
            }
            let content_type = header_text(response.headers(), CONTENT_TYPE.as_str());
            let claimed =
                header_text(response.headers(), CONTENT_DIGEST).and_then(|d| d.parse::<Digest>().ok());
            match read_bounded(self.http.config(), &ep.host(), response, MAX_MANIFEST_BYTES).await {
                Ok(bytes) => break (content_type, claimed, bytes),
                // The request was answered, so it is not retried by itself.
                Err(e) => self.http.pause_or_fail(attempt, e).await?,
            }
        };
        let (what, host, expected) = (reference.familiar(), ep.host(), reference.digest().copied());
        par::cpu(move || {
            let actual = Digest::of(&bytes);
            for expected in [expected, claimed].into_iter().flatten() {
                if expected != actual {
                    let source = VerifyError::Digest { expected, actual };
                    return Err(Error::Verify { host, what, source });
                }
            }
            Document::parse(&bytes, content_type.as_deref())
                .map_err(|source| Error::Document { what, source })
        })
        .await
    }

    async fn manifest_request(
        &self,
        ep: &Endpoint,
        r: &Reference,
        method: Method,
    ) -> Result<Response, Error> {
        let scope = Scope::pull(r.path());
        let mut ask =
            Ask::new(method, ep.url(&format!("{}/manifests/{}", r.path(), r.manifest_key()))?, &scope);
        ask.headers.insert(ACCEPT, accept());
        self.http.send(ep, ask).await
    }

    async fn manifest_error(&self, ep: &Endpoint, reference: &Reference, response: Response) -> Error {
        if response.status() == StatusCode::NOT_FOUND {
            let message = server_message(self.http.config(), response).await;
            return Error::NotFound { reference: reference.familiar(), message };
        }
        let e = status_error(self.http.config(), &ep.host(), response).await;
        match e {
            Error::Denied { host, message, login, .. } => {
                Error::Denied { host, what: reference.familiar_name(), message, login }
            }
            e => e,
        }
    }

    /// Store a document under the tag or digest of `reference`. Idempotent. Ok means that the registry
    /// took exactly these bytes.
    pub async fn put_document(&self, reference: &Reference, document: &Document) -> Result<(), Error> {
        let ep = self.http.origin(reference.domain())?;
        let scope = Scope::push(reference.path());
        let key = reference.manifest_key();
        let mut ask =
            Ask::new(Method::PUT, ep.url(&format!("{}/manifests/{key}", reference.path()))?, &scope);
        let content_type = HeaderValue::from_str(document.media_type())
            .map_err(|_| Error::Internal("a media type that no header can hold".into()))?;
        ask.headers.insert(CONTENT_TYPE, content_type);
        ask.body = Some(bytes::Bytes::copy_from_slice(document.bytes()));
        let response = self.http.send(&ep, ask).await?;
        if !response.status().is_success() {
            return Err(self.manifest_error(&ep, reference, response).await);
        }
        let claimed = header_text(response.headers(), CONTENT_DIGEST).and_then(|d| d.parse::<Digest>().ok());
        match claimed {
            Some(actual) if actual != document.digest() => Err(Error::Verify {
                host: ep.host(),
                what: reference.familiar(),
                source: VerifyError::Digest { expected: document.digest(), actual },
            }),
            _ => Ok(()),
        }
    }

    /// All tags of a repository, in the registry's order.
    pub async fn tags(&self, repository: &Reference) -> Result<Vec<String>, Error> {
        let ep = self.http.origin(repository.domain())?;
        let path = format!("{}/tags/list?n={PAGE_SIZE}", repository.path());
        let scope = Scope::pull(repository.path());
        let pages = self.pages::<TagsPage>(&ep, &path, &scope).await.map_err(|e| match e {
            Error::Status { status: StatusCode::NOT_FOUND, message, .. } => {
                Error::NotFound { reference: repository.familiar_name(), message }
            }
            e => e,
        })?;
        let tags = pages.into_iter().flat_map(|p| p.tags.unwrap_or_default());
        // A name that is no tag could only confuse whoever prints or uses it.
        Ok(tags.filter(|t| is_tag(t)).collect())
    }

    /// All repositories of a registry that tells them.
    pub async fn catalog(&self, domain: &str) -> Result<Vec<String>, Error> {
        let ep = self.http.origin(domain)?;
        let pages =
            self.pages::<CatalogPage>(&ep, &format!("_catalog?n={PAGE_SIZE}"), &Scope::catalog()).await?;
        let names = pages.into_iter().flat_map(|p| p.repositories.unwrap_or_default());
        Ok(names.filter(|n| Reference::parse(&format!("{domain}/{n}")).is_ok()).collect())
    }

    async fn pages<T: for<'de> Deserialize<'de>>(
        &self,
        ep: &Endpoint,
        path: &str,
        scope: &Scope,
    ) -> Result<Vec<T>, Error> {
        let host = ep.host();
        let mut url = ep.url(path)?;
        let mut seen = std::collections::HashSet::new();
        let mut out = Vec::new();
        let (mut bytes, mut attempt) = (0, 0);
        while seen.insert(url.clone()) {
            if out.len() == MAX_PAGES {
                return Err(Error::protocol(&host, format!("its list has more than {MAX_PAGES} pages")));
            }
            let response = self.http.send(ep, Ask::new(Method::GET, url.clone(), scope)).await?;
            if !response.status().is_success() {
                return Err(status_error(self.http.config(), &host, response).await);
            }
            let next = header_text(response.headers(), LINK.as_str())
                .and_then(|l| header::next_link(&l).and_then(|n| url.join(n).ok()));
            attempt += 1;
            let body = match read_bounded(self.http.config(), &host, response, MAX_MANIFEST_BYTES).await {
                Ok(body) => body,
                Err(e) => {
                    self.http.pause_or_fail(attempt, e).await?;
                    seen.remove(&url);
                    continue;
                }
            };
            attempt = 0;
            bytes += body.len();
            if bytes > MAX_NAMES * 64 {
                return Err(Error::protocol(&host, "its list is too long"));
            }
            let page =
                serde_json::from_slice(&body).map_err(|_| Error::protocol(&host, "its list is no JSON"))?;
            out.push(page);
            match next {
                Some(next) if next.origin() == ep.base.origin() => url = next,
                Some(_) => return Err(Error::protocol(&host, "its list goes on at another host")),
                None => return Ok(out),
            }
        }
        Err(Error::protocol(&host, "its list goes in a circle"))
    }

    /// What refers to a manifest (signatures, SBOMs): by the referrers API, or where a registry lacks it
    /// by the tag `sha256-<hex>` (distribution spec 1.1).
    pub async fn referrers(
        &self,
        repository: &Reference,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        let ep = self.http.origin(repository.domain())?;
        let scope = Scope::pull(repository.path());
        let mut ask =
            Ask::new(Method::GET, ep.url(&format!("{}/referrers/{subject}", repository.path()))?, &scope);
        ask.headers.insert(ACCEPT, HeaderValue::from_static(media::OCI_INDEX));
        let response = self.http.send(&ep, ask).await?;
        let what = format!("{}@{subject}", repository.familiar_name());
        let document = if response.status().is_success() {
            let bytes = read_bounded(self.http.config(), &ep.host(), response, MAX_MANIFEST_BYTES).await?;
            Document::parse(&bytes, None).map_err(|source| Error::Document { what: what.clone(), source })?
        } else {
            let tag = repository
                .with_tag(&format!("sha256-{}", subject.hex()))
                .map_err(|e| Error::Internal(e.to_string()))?;
            match self.document(&tag).await {
                Ok(document) => document,
                Err(Error::NotFound { .. }) => return Ok(Vec::new()),
                Err(e) => return Err(e),
            }
        };
        match document {
            Document::Index(index) => Ok(index.value.manifests),
            Document::Manifest(_) => Err(Error::Document { what, source: DocumentError::Neither }),
        }
    }
}

fn accept() -> HeaderValue {
    HeaderValue::from_str(&media::ACCEPTED.join(", ")).unwrap_or(HeaderValue::from_static("*/*"))
}

pub(crate) fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_string)
}

/// The descriptor that the headers of a HEAD give, if they are all there.
fn head_descriptor(headers: &HeaderMap) -> Option<Descriptor> {
    let media_type = media::essence(&header_text(headers, CONTENT_TYPE.as_str())?);
    let digest = header_text(headers, CONTENT_DIGEST)?.parse().ok()?;
    let size = header_text(headers, CONTENT_LENGTH.as_str())?.parse().ok()?;
    let known = media::is_index(&media_type) || media::is_manifest(&media_type);
    (known && size > 0).then(|| Descriptor::new(media_type, digest, size))
}
