//! Requests: authentication, redirects, retries and time-outs, for all that the client does.
//!
//! Invariants: the `Authorization` header of a registry goes to its own origin only; redirects are
//! followed here and not by the HTTP library; nothing falls back from TLS to plain HTTP; every answer
//! that is kept in memory is bounded.

use crate::auth::{Authorization, Broker, Scope};
use crate::config::{Config, Insecure};
use crate::credential::Credential;
use crate::error::{Error, Login, redact, tame};
use crate::{header, tls};
use bytes::Bytes;
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Body, Method, Response, StatusCode, Url};
use serde::Deserialize;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// One registry or mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Ends in a slash.
    pub base: Url,
    /// Under which name credentials are looked up.
    pub domain: String,
}

impl Endpoint {
    /// `host` or `host:port`, for messages and certificate folders.
    pub fn host(&self) -> String {
        host_of(&self.base)
    }
    pub fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }
    /// `v2/` and `path` under the base.
    pub fn url(&self, path: &str) -> Result<Url, Error> {
        self.base.join("v2/").and_then(|u| u.join(path)).map_err(|e| Error::Internal(e.to_string()))
    }
}

pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(p) => format!("{host}:{p}"),
        None => host.to_string(),
    }
}

/// A streamed body: how much of it was taken, for the watch on stalls.
#[derive(Clone, Default)]
pub(crate) struct Sent(Arc<AtomicU64>);

impl Sent {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is asked for, apart from authentication.
pub(crate) struct Ask<'a> {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    /// Bytes that can be sent again.
    pub body: Option<Bytes>,
    pub scope: &'a Scope,
}

impl<'a> Ask<'a> {
    pub fn new(method: Method, url: Url, scope: &'a Scope) -> Self {
        Ask { method, url, headers: HeaderMap::new(), body: None, scope }
    }
}

/// The shared state of a client.
pub(crate) struct Transport {
    config: Arc<Config>,
    clients: Mutex<HashMap<String, reqwest::Client>>,
    broker: Broker,
}

const MAX_REDIRECTS: usize = 8;

impl Transport {
    pub fn new(config: Config) -> Self {
        Transport { config: Arc::new(config), clients: Mutex::default(), broker: Broker::default() }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where `domain` is read: mirrors first, then the registry itself.
    pub fn endpoints(&self, domain: &str) -> Result<Vec<Endpoint>, Error> {
        let mut out = Vec::new();
        for base in self.config.mirrors.get(domain).into_iter().flatten() {
            let bad = || Error::Setup { what: format!("the mirror of {domain} is not an http or https URL") };
            let mut base = Url::parse(base).map_err(|_| bad())?;
            if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
                return Err(bad());
            }
            if !base.path().ends_with('/') {
                base.set_path(&format!("{}/", base.path()));
            }
            base.set_query(None);
            base.set_fragment(None);
            out.push(Endpoint { domain: host_of(&base), base });
        }
        out.push(self.origin(domain)?);
        Ok(out)
    }

    /// The registry itself. Loopback speaks plain HTTP unless certificates say otherwise.
    pub fn origin(&self, domain: &str) -> Result<Endpoint, Error> {
        let host = if domain == oci::DEFAULT_DOMAIN { "registry-1.docker.io" } else { domain };
        let plain = match self.config.insecure.get(domain) {
            Some(Insecure::PlainHttp) => true,
            Some(Insecure::UnverifiedTls) => false,
            None => is_loopback(host) && !host.ends_with(":443") && !tls::has_certs(&self.config, host),
        };
        let scheme = if plain { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{host}/"))
            .map_err(|_| Error::Setup { what: format!("{} is not a host name", tame(host)) })?;
        Ok(Endpoint { base, domain: domain.to_string() })
    }

    pub async fn credential(&self, domain: &str, path: &str) -> Result<Option<Credential>, Error> {
        let (source, domain, path) = (self.config.credentials.clone(), domain.to_string(), path.to_string());
        Ok(par::blocking(move || source.lookup(&domain, &path)).await?)
    }

    async fn client(&self, url: &Url) -> Result<reqwest::Client, Error> {
        let host = host_of(url);
        let lock = || self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(c) = lock().get(&host) {
            return Ok(c.clone());
        }
        let (config, key) = (self.config.clone(), host.clone());
        let client = par::blocking(move || tls::client_for(&config, &key)).await?;
        Ok(lock().entry(host).or_insert(client).clone())
    }

    /// One request without authentication logic, redirects or retries. With `sent`, the time limit for an
    /// answer starts anew whenever more of the body was taken.
    pub async fn raw(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Option<Body>,
        sent: Option<(&Sent, u64)>,
    ) -> Result<Response, Error> {
        let host = host_of(url);
        let mut request = self.client(url).await?.request(method, url.clone()).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        let answer = request.send();
        tokio::pin!(answer);
        let idle = self.config.timeouts.idle;
        let mut seen = 0;
        let mut waited = Duration::ZERO;
        loop {
            if let Ok(result) = tokio::time::timeout(idle, &mut answer).await {
                return result.map_err(|e| from_reqwest(&host, e));
            }
            let (now, all) = sent.map_or((0, 0), |(s, all)| (s.get(), all));
            waited += idle;
            if now > seen {
                (seen, waited) = (now, Duration::ZERO);
            } else if sent.is_none() || now < all || waited >= self.config.timeouts.accept {
                return Err(Error::Stalled { host, seconds: waited.as_secs() });
            }
        }
    }

    /// A request with authentication and redirects, and with retries of transient failures. The answer may
    /// have any status but 401, 429 and 5xx.
    pub async fn send(&self, ep: &Endpoint, ask: Ask<'_>) -> Result<Response, Error> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.once(ep, &ask).await {
                Ok(response) => return Ok(response),
                Err(e) => self.pause_or_fail(attempt, e).await?,
            }
        }
    }

    /// Wait before the next attempt, or give the error back if there is to be none.
    pub async fn pause_or_fail(&self, attempt: u32, e: Error) -> Result<(), Error> {
        let retries = &self.config.retries;
        let asked = match &e {
            Error::RateLimited { retry_after, .. } => *retry_after,
            _ => None,
        };
        if !e.is_transient() || attempt >= retries.attempts {
            return Err(e);
        }
        match retries.pause(attempt, asked) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(e),
        }
        Ok(())
    }

    /// The same without retries.
    pub async fn once(&self, ep: &Endpoint, ask: &Ask<'_>) -> Result<Response, Error> {
        let mut auth = self.broker.authorize(self, ep, ask.scope).await?;
        for round in 0.. {
            let response = self.follow(ep, ask, &auth).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                if response.status() == StatusCode::TOO_MANY_REQUESTS || response.status().is_server_error() {
                    return Err(status_error(&self.config, &ep.host(), response).await);
                }
                return Ok(response);
            }
            if round == 2 || !self.learn(ep, ask.scope, &response, &auth)? {
                return Err(self.denied(ep, ask.scope, response, &auth).await);
            }
            auth = self.broker.authorize(self, ep, ask.scope).await?;
            if auth.header.is_none() {
                return Err(self.denied(ep, ask.scope, response, &auth).await);
            }
        }
        Err(Error::Internal("the rounds of authentication ran out".into()))
    }

    fn learn(&self, ep: &Endpoint, scope: &Scope, r: &Response, auth: &Authorization) -> Result<bool, Error> {
        // A 401 of another origin (behind a redirect) says nothing about the registry.
        if r.url().origin() != ep.base.origin() {
            return Ok(false);
        }
        let values = r.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
        let challenges: Vec<_> = values.flat_map(header::challenges).collect();
        self.broker.learn(ep, scope, &challenges, auth.header.as_ref())
    }

    async fn denied(&self, ep: &Endpoint, scope: &Scope, r: Response, auth: &Authorization) -> Error {
        let basic = auth.header.as_ref().is_some_and(|h| h.as_bytes().starts_with(b"Basic "));
        let message = server_message(&self.config, r).await;
        if basic {
            return Error::Credentials { host: ep.domain.clone(), user: tame(&auth.user) };
        }
        let what = if scope.path.is_empty() { "the registry".to_string() } else { scope.path.clone() };
        Error::Denied { host: ep.domain.clone(), what, message, login: auth.login }
    }

    /// Send, and follow redirects of GET and HEAD.
    async fn follow(&self, ep: &Endpoint, ask: &Ask<'_>, auth: &Authorization) -> Result<Response, Error> {
        let mut url = ask.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let headers = self.headers(ep, &url, ask, auth);
            let body = ask.body.clone().map(Body::from);
            let response = self.raw(ask.method.clone(), &url, headers, body, None).await?;
            let redirected = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !redirected || !matches!(ask.method, Method::GET | Method::HEAD) {
                return Ok(response);
            }
            url = redirect_target(ep, &url, response.headers().get(LOCATION))?;
        }
        Err(Error::protocol(&ep.host(), "it redirects too many times"))
    }

    fn headers(&self, ep: &Endpoint, url: &Url, ask: &Ask<'_>, auth: &Authorization) -> HeaderMap {
        let mut headers = ask.headers.clone();
        if let Some(h) = &auth.header
            && url.origin() == ep.base.origin()
        {
            headers.insert(AUTHORIZATION, h.clone());
        }
        headers
    }

    /// PUT a stream of `size` bytes to `url`, once. A 401 makes the broker learn and comes back as a
    /// transient error, since the stream is used up.
    pub async fn put_stream(
        &self,
        ep: &Endpoint,
        url: Url,
        scope: &Scope,
        body: Body,
        size: u64,
        sent: &Sent,
    ) -> Result<Response, Error> {
        let auth = self.broker.authorize(self, ep, scope).await?;
        let mut ask = Ask::new(Method::PUT, url.clone(), scope);
        ask.headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
        ask.headers
            .insert(reqwest::header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let headers = self.headers(ep, &url, &ask, &auth);
        let response = self.raw(Method::PUT, &url, headers, Some(body), Some((sent, size))).await?;
        match response.status() {
            StatusCode::UNAUTHORIZED => {
                if self.learn(ep, scope, &response, &auth)? {
                    return Err(Error::Interrupted { host: ep.host(), source: None });
                }
                Err(self.denied(ep, scope, response, &auth).await)
            }
            s if s == StatusCode::TOO_MANY_REQUESTS || s.is_server_error() => {
                Err(status_error(&self.config, &ep.host(), response).await)
            }
            _ => Ok(response),
        }
    }
}

/// Where a redirect leads, if it may lead there.
pub(crate) fn redirect_target(
    ep: &Endpoint,
    from: &Url,
    location: Option<&HeaderValue>,
) -> Result<Url, Error> {
    let bad = |what: String| Error::protocol(&ep.host(), what);
    let text = location
        .and_then(|v| v.to_str().ok())
        .filter(|v| v.len() <= 16 * 1024)
        .ok_or_else(|| bad("it redirects to nowhere".into()))?;
    let mut to = from.join(text).map_err(|_| bad("it redirects to something that is no URL".into()))?;
    let _ = to.set_username("");
    let _ = to.set_password(None);
    match (from.scheme(), to.scheme()) {
        ("https", "https") | ("http", "http" | "https") => {}
        _ => return Err(bad(format!("it redirects to {}, which is not secure", redact(&to)))),
    }
    if is_internal(&to) && to.host_str() != ep.base.host_str() && !is_internal(&ep.base) {
        return Err(bad(format!("it redirects into this machine or its link: {}", redact(&to))));
    }
    Ok(to)
}

/// `localhost`, 127.0.0.0/8 and ::1, with or without a port.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Addresses that only mean something to this machine or its link.
fn is_internal(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    if is_loopback(host) {
        return true;
    }
    let v4 = |ip: std::net::Ipv4Addr| ip.is_link_local() || ip.is_unspecified() || ip.is_loopback();
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => v4(ip),
        Ok(IpAddr::V6(ip)) => {
            ip.is_unspecified()
                || (ip.segments()[0] & 0xffc0) == 0xfe80
                || ip.to_ipv4_mapped().is_some_and(v4)
        }
        Err(_) => false,
    }
}

/// The whole body, at most `limit` bytes and within the time for documents.
pub(crate) async fn read_bounded(
    config: &Config,
    host: &str,
    mut response: Response,
    limit: usize,
) -> Result<Vec<u8>, Error> {
    let read = async {
        let mut out = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| from_reqwest(host, e))? {
            if out.len() + chunk.len() > limit {
                return Err(Error::protocol(host, format!("its answer is longer than {limit} bytes")));
            }
            out.extend_from_slice(&chunk);
        }
        Ok(out)
    };
    let limit = config.timeouts.document;
    match tokio::time::timeout(limit, read).await {
        Ok(result) => result,
        Err(_) => Err(Error::Stalled { host: host.to_string(), seconds: limit.as_secs() }),
    }
}

#[derive(Deserialize)]
struct ErrorAnswer {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: Option<String>,
}

/// What a registry says about a failure; empty if it says nothing readable.
pub(crate) async fn server_message(config: &Config, response: Response) -> String {
    let json = response
        .headers()
        .get(reqwest::header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains("json"));
    if !json {
        return String::new();
    }
    let Ok(body) = read_bounded(config, "", response, 64 << 10).await else { return String::new() };
    let Ok(answer) = serde_json::from_slice::<ErrorAnswer>(&body) else { return String::new() };
    let first = answer.errors.into_iter().next();
    first.map(|e| tame(&e.message.filter(|m| !m.is_empty()).unwrap_or(e.code))).unwrap_or_default()
}

/// The error that a status means where nothing more is known.
pub(crate) async fn status_error(config: &Config, host: &str, response: Response) -> Error {
    let status = response.status();
    let retry_after =
        response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(header::retry_after);
    let message = server_message(config, response).await;
    let host = host.to_string();
    match status {
        StatusCode::TOO_MANY_REQUESTS => Error::RateLimited { host, retry_after, message },
        StatusCode::FORBIDDEN => Error::Denied { host, what: "this".into(), message, login: Login::Known },
        _ => Error::Status { host, status, message },
    }
}

/// Whether TLS itself failed, however deeply that is wrapped.
fn is_tls(e: &(dyn std::error::Error + 'static)) -> bool {
    // An io::Error hides the error that it carries from `source`.
    let carried = e.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
    e.is::<rustls::Error>() || carried.is_some_and(|c| is_tls(c)) || e.source().is_some_and(is_tls)
}

/// Whether the name of the host has no address. The HTTP library marks that by text only.
fn is_resolution(e: &(dyn std::error::Error + 'static)) -> bool {
    e.to_string().contains("dns error") || e.source().is_some_and(is_resolution)
}

/// Sort a failure of the HTTP library by its cause.
pub(crate) fn from_reqwest(host: &str, e: reqwest::Error) -> Error {
    let host = host.to_string();
    let e = e.without_url();
    let tls = is_tls(&e);
    if tls {
        return Error::Tls { host, source: e.into() };
    }
    if e.is_connect() && is_resolution(&e) {
        return Error::UnknownHost { host, source: e.into() };
    }
    if e.is_connect() {
        return Error::Unreachable { host, source: e.into() };
    }
    if e.is_builder() {
        return Error::Internal(e.to_string());
    }
    Error::Interrupted { host, source: Some(e.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_internal() {
        for yes in ["localhost", "localhost:5000", "127.0.0.1:5", "127.9.9.9", "[::1]:5000", "LOCALHOST"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["localhost.evil.com", "127.0.0.1.evil.com:1", "128.0.0.1", "[::2]", "10.0.0.1"] {
            assert!(!is_loopback(no), "{no}");
        }
        let internal = |u: &str| is_internal(&Url::parse(u).unwrap());
        assert!(internal("http://169.254.169.254/latest"));
        assert!(internal("http://[::ffff:169.254.169.254]/"));
        assert!(
            internal("http://0.0.0.0/") && internal("http://[fe80::1]/") && internal("http://2130706433/")
        );
        assert!(!internal("https://s3.amazonaws.com/"));
    }

    #[test]
    fn redirects_stay_safe() {
        let ep = Endpoint { base: Url::parse("https://r.example/").unwrap(), domain: "r.example".into() };
        let to = |location: &str| {
            let v = HeaderValue::from_str(location).unwrap();
            redirect_target(&ep, &ep.base, Some(&v)).map(|u| u.to_string())
        };
        assert_eq!(to("/x").unwrap(), "https://r.example/x");
        assert_eq!(to("https://u:p@cdn.example/x?sig=1").unwrap(), "https://cdn.example/x?sig=1");
        for bad in [
            "http://r.example/",
            "file:///etc/passwd",
            "https://127.0.0.1/",
            "https://169.254.169.254/",
            "data:,x",
        ] {
            assert!(to(bad).is_err(), "{bad}");
        }
        assert!(redirect_target(&ep, &ep.base, None).is_err());
    }
}
