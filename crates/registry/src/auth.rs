//! The token broker: answers challenges of registries, keeps tokens, keeps credentials at home.
//!
//! Protocol: distribution spec "token authentication" (GET with Basic credentials) and its OAuth2 form
//! (POST with a refresh token). Credentials go to the registry's own origin and to token services that
//! are trusted with them, to nobody else.

use crate::config::Config;
use crate::credential::Credential;
use crate::error::{Error, Login, redact, tame};
use crate::header::Challenge;
use crate::http::{Endpoint, Transport, read_bounded};
use base64::Engine as _;
use par::OnceMap;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a request needs to be allowed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Scope {
    /// `repository:NAME:pull,push`, `registry:catalog:*`; empty for the mere version check.
    pub names: BTreeSet<String>,
    /// The repository whose credentials are looked up; empty for the registry as a whole.
    pub path: String,
}

impl Scope {
    pub fn pull(path: &str) -> Self {
        Scope { names: [format!("repository:{path}:pull")].into(), path: path.into() }
    }
    pub fn push(path: &str) -> Self {
        Scope { names: [format!("repository:{path}:pull,push")].into(), path: path.into() }
    }
    pub fn and_pull(mut self, other: &str) -> Self {
        self.names.insert(format!("repository:{other}:pull"));
        self
    }
    pub fn catalog() -> Self {
        Scope { names: ["registry:catalog:*".to_string()].into(), path: String::new() }
    }
}

/// How a registry wants to be asked, learned from its challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scheme {
    Basic,
    Bearer { realm: Url, service: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TokenKey {
    /// The registry's origin too: a token is never shown to another registry.
    origin: String,
    realm: String,
    service: String,
    scopes: BTreeSet<String>,
    path: String,
}

impl TokenKey {
    fn new(ep: &Endpoint, realm: &Url, service: &str, scope: &Scope) -> Self {
        TokenKey {
            origin: ep.origin(),
            realm: realm.to_string(),
            service: service.to_string(),
            scopes: scope.names.clone(),
            path: scope.path.clone(),
        }
    }
}

#[derive(Debug, Clone)]
struct Token {
    header: HeaderValue,
    expires: Instant,
    login: Login,
}

/// An `Authorization` header and what stands behind it.
#[derive(Debug, Clone)]
pub(crate) struct Authorization {
    pub header: Option<HeaderValue>,
    pub login: Login,
    pub user: String,
}

#[derive(Default)]
pub(crate) struct Broker {
    schemes: Mutex<HashMap<String, Scheme>>,
    tokens: OnceMap<TokenKey, Token>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<u64>,
}

const MAX_TOKEN_ANSWER: usize = 1 << 20;

impl Broker {
    /// The header to send without being asked first, as far as the registry is known.
    pub async fn authorize(
        &self,
        t: &Transport,
        ep: &Endpoint,
        scope: &Scope,
    ) -> Result<Authorization, Error> {
        let anonymous = Authorization { header: None, login: Login::Anonymous, user: String::new() };
        let scheme = {
            let schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
            schemes.get(&ep.origin()).cloned()
        };
        let Some(scheme) = scheme else { return Ok(anonymous) };
        let credential = t.credential(&ep.domain, &scope.path).await?;
        let user = credential.as_ref().map(|c| c.user().to_string()).unwrap_or_default();
        match (scheme, credential) {
            (_, Some(Credential::Bearer { token })) => {
                Ok(Authorization { header: Some(bearer(&ep.host(), &token)?), login: Login::Known, user })
            }
            (Scheme::Basic, Some(Credential::Password { user, password })) => Ok(Authorization {
                header: Some(basic(&ep.host(), &user, &password)?),
                login: Login::Known,
                user,
            }),
            (Scheme::Basic, _) => Ok(anonymous),
            (Scheme::Bearer { realm, service }, credential) => {
                let key = TokenKey::new(ep, &realm, &service, scope);
                if self.tokens.get(&key).is_some_and(|t| t.expires <= Instant::now()) {
                    self.tokens.remove(&key);
                }
                let fetch = || fetch_token(t, ep, &realm, &service, scope, credential);
                let token = self.tokens.get_or_try_init(&key, fetch).await?;
                Ok(Authorization { header: Some(token.header), login: token.login, user })
            }
        }
    }

    /// Learn from a 401. `sent` is the header that was refused; a token equal to it is forgotten.
    /// Returns whether it makes sense to ask again.
    pub fn learn(
        &self,
        ep: &Endpoint,
        scope: &Scope,
        challenges: &[Challenge],
        sent: Option<&HeaderValue>,
    ) -> Result<bool, Error> {
        let bearer = challenges.iter().find(|c| c.scheme == "bearer");
        let scheme = match bearer {
            Some(c) => {
                let realm = c.param("realm").unwrap_or_default();
                let realm = Url::parse(realm)
                    .map_err(|_| Error::protocol(&ep.host(), "the realm of its challenge is no URL"))?;
                check_realm(ep, &realm)?;
                Scheme::Bearer { realm, service: c.param("service").unwrap_or_default().to_string() }
            }
            None if challenges.iter().any(|c| c.scheme == "basic") => Scheme::Basic,
            None => return Ok(false),
        };
        let mut schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = schemes.insert(ep.origin(), scheme.clone());
        drop(schemes);
        if let (Some(sent), Scheme::Bearer { realm, service }) = (sent, &scheme) {
            let key = TokenKey::new(ep, realm, service, scope);
            if self.tokens.get(&key).is_some_and(|t| t.header == *sent) {
                self.tokens.remove(&key);
                return Ok(true);
            }
        }
        // Asking again with the same header would give the same answer.
        Ok(sent.is_none() || known.as_ref() != Some(&scheme) || bearer.is_some())
    }
}

/// A realm must be reachable as safely as the registry itself.
fn check_realm(ep: &Endpoint, realm: &Url) -> Result<(), Error> {
    match (realm.scheme(), ep.base.scheme()) {
        ("https", _) | ("http", "http") => Ok(()),
        _ => Err(Error::protocol(&ep.host(), format!("its token service {} is not secure", redact(realm)))),
    }
}

/// Whether the token service at `realm` may get the registry's credentials.
fn realm_is_trusted(config: &Config, ep: &Endpoint, realm: &Url) -> bool {
    let Some(realm_host) = realm.host_str() else { return false };
    let registry_host = ep.base.host_str().unwrap_or_default();
    if realm.origin() == ep.base.origin() || (realm.scheme() == "https" && realm_host == registry_host) {
        return true;
    }
    let with_port = match realm.port() {
        Some(p) => format!("{realm_host}:{p}"),
        None => realm_host.to_string(),
    };
    let built_in = matches!(
        (ep.domain.as_str(), realm_host),
        ("docker.io", "auth.docker.io") | ("registry.gitlab.com", "gitlab.com")
    );
    let configured = config.token_services.get(&ep.domain).is_some_and(|s| s.contains(&with_port));
    configured || (built_in && realm.scheme() == "https" && realm.port().is_none()) || {
        realm.scheme() == "https" && realm.port().is_none() && is_same_site(registry_host, realm_host)
    }
}

/// Whether two hosts are siblings under a domain that one owner has: `registry.example.com` and
/// `gitlab.example.com`, but neither addresses nor names right under a public suffix.
fn is_same_site(registry: &str, realm: &str) -> bool {
    let is_address = |h: &str| h.contains(':') || h.split('.').all(|p| p.parse::<u32>().is_ok());
    if is_address(registry) || is_address(realm) {
        return false;
    }
    let Some((_, parent)) = registry.split_once('.') else { return false };
    let labels: Vec<&str> = parent.split('.').collect();
    // `co.uk`, `com.au`, `github.io`-like suffixes: only a parent that is surely no suffix counts.
    let safe = match labels[..] {
        [name, top] => name.len() > 3 && !SHARED.contains(&parent) && (top.len() > 2 || name.len() > 4),
        [.., a, b, c] => labels.len() >= 3 && !SHARED.contains(&format!("{b}.{c}").as_str()) && !a.is_empty(),
        _ => false,
    };
    safe && (realm == parent || realm.split_once('.').is_some_and(|(_, p)| p == parent))
}

/// Domains under which strangers get names.
const SHARED: [&str; 16] = [
    "github.io",
    "gitlab.io",
    "amazonaws.com",
    "azurecr.io",
    "cloudfront.net",
    "herokuapp.com",
    "appspot.com",
    "azurewebsites.net",
    "vercel.app",
    "netlify.app",
    "pages.dev",
    "workers.dev",
    "ngrok.io",
    "blogspot.com",
    "windows.net",
    "googleapis.com",
];

async fn fetch_token(
    t: &Transport,
    ep: &Endpoint,
    realm: &Url,
    service: &str,
    scope: &Scope,
    credential: Option<Credential>,
) -> Result<Token, Error> {
    let trusted = realm_is_trusted(t.config(), ep, realm);
    let (credential, login) = match credential {
        Some(c) if trusted => (Some(c), Login::Known),
        Some(_) => (None, Login::Withheld),
        None => (None, Login::Anonymous),
    };
    let mut url = realm.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let mut headers = HeaderMap::new();
    let mut body = None;
    let method = match &credential {
        Some(Credential::Identity { token }) => {
            let mut form = Url::parse("form:").map_err(|e| Error::Internal(e.to_string()))?;
            form.query_pairs_mut()
                .append_pair("grant_type", "refresh_token")
                .append_pair("service", service)
                .append_pair("client_id", "ctrbuild")
                .append_pair("scope", &scope.names.iter().cloned().collect::<Vec<_>>().join(" "))
                .append_pair("refresh_token", token);
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            body = Some(form.query().unwrap_or_default().to_string());
            Method::POST
        }
        other => {
            let mut query = url.query_pairs_mut();
            if !service.is_empty() {
                query.append_pair("service", service);
            }
            for s in &scope.names {
                query.append_pair("scope", s);
            }
            if let Some(Credential::Password { user, password }) = other {
                query.append_pair("account", user);
                headers.insert(AUTHORIZATION, basic(&ep.host(), user, password)?);
            }
            Method::GET
        }
    };
    let host = realm.host_str().unwrap_or_default().to_string();
    let mut attempt = 0;
    let (status, bytes) = loop {
        attempt += 1;
        let result = async {
            let response =
                t.raw(method.clone(), &url, headers.clone(), body.clone().map(Into::into), None).await?;
            let status = response.status();
            if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
                return Err(crate::http::status_error(t.config(), &host, response).await);
            }
            let bytes = read_bounded(t.config(), &host, response, MAX_TOKEN_ANSWER).await?;
            Ok((status, bytes))
        }
        .await;
        match result {
            Ok(ok) => break ok,
            Err(e) => t.pause_or_fail(attempt, e).await?,
        }
    };
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST) {
        if let Some(c) = credential {
            return Err(Error::Credentials { host: ep.domain.clone(), user: tame(c.user()) });
        }
        let what = if scope.path.is_empty() { "the registry".to_string() } else { scope.path.clone() };
        return Err(Error::Denied { host: ep.domain.clone(), what, message: String::new(), login });
    }
    if !status.is_success() {
        return Err(Error::Status { host, status, message: "no token was issued".into() });
    }
    let answer: TokenAnswer =
        serde_json::from_slice(&bytes).map_err(|_| Error::protocol(&host, "its token answer is no JSON"))?;
    let text = if answer.token.is_empty() { answer.access_token } else { answer.token };
    if text.is_empty() {
        return Err(Error::protocol(&host, "its token answer has no token"));
    }
    // The spec's default is 60 s. A token is not used in its last moments.
    let life = answer.expires_in.unwrap_or(60).clamp(1, 24 * 3600);
    let margin = (life / 5).min(10);
    let expires = Instant::now() + Duration::from_secs(life - margin);
    Ok(Token { header: bearer(&host, &text)?, expires, login })
}

fn secret_header(host: &str, text: String) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| Error::protocol(host, "the credentials have characters that no header can hold"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn bearer(host: &str, token: &str) -> Result<HeaderValue, Error> {
    secret_header(host, format!("Bearer {token}"))
}

fn basic(host: &str, user: &str, password: &str) -> Result<HeaderValue, Error> {
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    secret_header(host, format!("Basic {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn who_may_get_credentials() {
        let mut config = Config::new(Arc::new(crate::NoCredentials));
        config.token_services.insert("r.corp".into(), ["login.corp:8443".to_string()].into());
        let trusted = |base: &str, domain: &str, realm: &str| {
            let ep = Endpoint { base: Url::parse(base).unwrap(), domain: domain.into() };
            realm_is_trusted(&config, &ep, &Url::parse(realm).unwrap())
        };
        for (base, domain, realm, want) in [
            ("https://registry-1.docker.io/", "docker.io", "https://auth.docker.io/token", true),
            ("https://registry-1.docker.io/", "docker.io", "https://auth.docker.io.evil.com/token", false),
            ("https://registry-1.docker.io/", "docker.io", "http://auth.docker.io/token", false),
            ("https://evil.com/", "evil.com", "https://auth.docker.io/token", false),
            ("https://ghcr.io/", "ghcr.io", "https://ghcr.io/token", true),
            ("https://a.b:5000/", "a.b:5000", "https://a.b/token", true),
            (
                "https://registry.example.com/",
                "registry.example.com",
                "https://gitlab.example.com/jwt/auth",
                true,
            ),
            ("https://registry.example.com/", "registry.example.com", "https://example.com/jwt/auth", true),
            ("https://registry.example.com/", "registry.example.com", "https://evilexample.com/", false),
            ("https://registry.co.uk/", "registry.co.uk", "https://evil.co.uk/", false),
            ("https://me.github.io/", "me.github.io", "https://you.github.io/", false),
            ("https://x.azurecr.io/", "x.azurecr.io", "https://y.azurecr.io/", false),
            ("http://127.0.0.1:5000/", "127.0.0.1:5000", "http://127.0.0.1:5000/token", true),
            ("http://127.0.0.1:5000/", "127.0.0.1:5000", "http://127.0.0.1:5001/token", false),
            ("https://10.0.0.1/", "10.0.0.1", "https://11.0.0.1/", false),
            ("https://r.corp/", "r.corp", "https://login.corp:8443/", true),
            ("https://r.corp/", "r.corp", "https://login.corp/", false),
        ] {
            assert_eq!(trusted(base, domain, realm), want, "{base} {realm}");
        }
    }
}
