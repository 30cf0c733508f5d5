//! A registry in this process: the distribution API over plain HTTP, with rules that break it.

use crate::http::{Request, Response, find_pair, read_body, read_head, write_all};
use crate::image::TestImage;
use crate::rule::{Action, Rule};
use base64::Engine as _;
use digest::Digest;
use oci::{Document, Reference};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Who may do what.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    #[default]
    Open,
    Basic {
        user: String,
        password: String,
    },
    /// Tokens of `/token`, on this registry or (`realm`) elsewhere. Without a user, everybody gets one.
    Bearer {
        realm: Option<String>,
        user: Option<(String, String)>,
        /// The refresh token that is taken instead of a password.
        refresh: Option<String>,
        life: Duration,
    },
}

/// A request that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
    pub body: Vec<u8>,
}

#[derive(Default)]
struct State {
    auth: Auth,
    rules: Vec<Rule>,
    requests: Vec<Recorded>,
    /// By repository.
    blobs: BTreeMap<String, BTreeMap<Digest, Vec<u8>>>,
    /// By repository, then tag or digest.
    manifests: BTreeMap<String, BTreeMap<String, (String, Vec<u8>)>>,
    uploads: BTreeSet<String>,
    tokens: BTreeMap<String, (Instant, Vec<String>)>,
    counter: usize,
    page: usize,
}

/// Listens on a free port of 127.0.0.1 until it is dropped.
pub struct TestRegistry {
    port: u16,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TestRegistry {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port on loopback");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Mutex::new(State { page: 2, ..State::default() }));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = shared.clone();
                connections.spawn(async move {
                    let _ = serve(stream, state, port).await;
                });
            }
        });
        TestRegistry { port, state, task }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
    /// `127.0.0.1:PORT`.
    pub fn domain(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.domain())
    }
    /// A reference into this registry.
    pub fn reference(&self, name: &str) -> Reference {
        Reference::parse(&format!("{}/{name}", self.domain())).expect("a valid name")
    }
    pub fn set_auth(&self, auth: Auth) {
        self.state().auth = auth;
    }
    pub fn rule(&self, rule: Rule) {
        self.state().rules.push(rule);
    }
    /// Names on one page of a list.
    pub fn set_page(&self, names: usize) {
        self.state().page = names.max(1);
    }
    pub fn clear_rules(&self) {
        self.state().rules.clear();
    }
    /// Forget all tokens, as if they had run out.
    pub fn revoke_tokens(&self) {
        self.state().tokens.clear();
    }
    /// All requests so far, in order.
    pub fn requests(&self) -> Vec<Recorded> {
        self.state().requests.clone()
    }
    /// How many requests had that method and a path with that part.
    pub fn count(&self, method: &str, path: &str) -> usize {
        self.requests().iter().filter(|r| r.method == method && r.target.contains(path)).count()
    }
    /// Put an image with all its blobs under a tag.
    pub fn add(&self, repository: &str, tag: &str, image: &TestImage) {
        for d in image.blobs.digests() {
            if let Some(bytes) = image.blobs.get(&d) {
                self.add_blob(repository, &bytes);
            }
        }
        for document in image.content.documents() {
            self.add_document(repository, &document.digest().to_string(), document);
        }
        self.add_document(repository, tag, &image.content.top);
    }
    pub fn add_blob(&self, repository: &str, bytes: &[u8]) {
        self.state().blobs.entry(repository.into()).or_default().insert(Digest::of(bytes), bytes.to_vec());
    }
    fn add_document(&self, repository: &str, key: &str, document: &Document) {
        self.add_manifest(repository, key, document.media_type(), document.bytes());
    }
    /// Put any bytes as a manifest under any key, sound or not.
    pub fn add_manifest(&self, repository: &str, key: &str, media_type: &str, bytes: &[u8]) {
        let mut state = self.state();
        let repository = state.manifests.entry(repository.into()).or_default();
        repository.insert(key.into(), (media_type.into(), bytes.to_vec()));
    }
    pub fn has_blob(&self, repository: &str, digest: &Digest) -> bool {
        self.state().blobs.get(repository).is_some_and(|b| b.contains_key(digest))
    }
    pub fn manifest(&self, repository: &str, key: &str) -> Option<Vec<u8>> {
        Some(self.state().manifests.get(repository)?.get(key)?.1.clone())
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>, port: u16) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(mut request) = read_head(&mut stream).await? {
        let action = take_rule(&state, &request);
        if matches!(action, Some(Action::Hang)) {
            return Ok(());
        }
        read_body(&mut stream, &mut request).await?;
        lock(&state).requests.push(Recorded {
            method: request.method.clone(),
            target: request.target.clone(),
            authorization: request.header("authorization").map(str::to_string),
            range: request.header("range").map(str::to_string),
            body: request.body.clone(),
        });
        if matches!(action, Some(Action::IgnoreRange)) {
            request.headers.retain(|(n, _)| n != "range");
        }
        let mut response = match &action {
            Some(Action::Answer { status, headers, body }) => {
                Response { status: *status, headers: headers.clone(), body: body.clone() }
            }
            Some(Action::Silence) => std::future::pending().await,
            _ => answer(&mut lock(&state), &request, port),
        };
        let mut cut = None;
        let mut slow = None;
        match action {
            Some(Action::Corrupt(at)) if !response.body.is_empty() => {
                let at = at.min(response.body.len() - 1);
                response.body[at] ^= 1;
            }
            Some(Action::Extra(bytes)) => response.body.extend(bytes),
            Some(Action::Headers(headers)) => headers.iter().for_each(|(n, v)| response.set(n, v)),
            Some(Action::CutAfter(n)) => cut = Some(n),
            Some(Action::Slow { piece, pause }) => slow = Some((piece, pause)),
            _ => {}
        }
        let head_only = request.method == "HEAD";
        write_all(&mut stream, &response.head()).await?;
        if head_only {
            continue;
        }
        match (cut, slow) {
            (Some(n), _) => {
                write_all(&mut stream, &response.body[..n.min(response.body.len())]).await?;
                return Ok(());
            }
            (_, Some((piece, pause))) => {
                for part in response.body.chunks(piece.max(1)) {
                    write_all(&mut stream, part).await?;
                    tokio::time::sleep(pause).await;
                }
            }
            _ => write_all(&mut stream, &response.body).await?,
        }
    }
    Ok(())
}

fn take_rule(state: &Mutex<State>, request: &Request) -> Option<Action> {
    for rule in &mut lock(state).rules {
        let fits = (rule.method.is_empty() || rule.method == request.method)
            && request.target.contains(&rule.path)
            && rule.times > 0;
        if !fits {
            continue;
        }
        if rule.after > 0 {
            rule.after -= 1;
            continue;
        }
        rule.times -= 1;
        return Some(rule.action.clone());
    }
    None
}

fn error(status: u16, code: &str) -> Response {
    let body = json!({"errors": [{"code": code, "message": code.to_lowercase().replace('_', " ")}]});
    Response::new(status).with("content-type", "application/json").body(body.to_string())
}

fn answer(state: &mut State, r: &Request, port: u16) -> Response {
    if r.path() == "/token" {
        return token(state, r);
    }
    let Some(path) = r.path().strip_prefix("/v2/") else { return error(404, "NOT_FOUND") };
    if let Some(refusal) = refuse(state, r, path, port) {
        return refusal;
    }
    if path.is_empty() {
        return Response::new(200).body("{}");
    }
    if path == "_catalog" {
        let names = state.blobs.keys().chain(state.manifests.keys()).cloned().collect::<BTreeSet<_>>();
        return page(state, r, names.into_iter().collect(), "repositories");
    }
    for (marker, handler) in [
        ("/manifests/", manifests as fn(&mut State, &Request, &str, &str) -> Response),
        ("/blobs/uploads/", uploads),
        ("/blobs/", blobs),
    ] {
        if let Some((repository, key)) = path.split_once(marker) {
            return handler(state, r, repository, key);
        }
    }
    if let Some(repository) = path.strip_suffix("/tags/list") {
        let Some(all) = state.manifests.get(repository) else { return error(404, "NAME_UNKNOWN") };
        let tags = all.keys().filter(|k| !k.contains(':')).cloned().collect();
        return page(state, r, tags, "tags");
    }
    error(404, "NOT_FOUND")
}

fn page(state: &State, r: &Request, names: Vec<String>, field: &str) -> Response {
    let last = r.query("last").unwrap_or_default();
    let rest: Vec<String> = names.into_iter().filter(|n| *n > last).collect();
    let shown = &rest[..rest.len().min(state.page)];
    let mut response = Response::new(200).body(json!({ field: shown }).to_string());
    if shown.len() < rest.len() {
        response.set("link", &format!("<{}?last={}>; rel=\"next\"", r.path(), shown[shown.len() - 1]));
    }
    response
}

/// The 401 that a request without the right to it gets.
fn refuse(state: &mut State, r: &Request, path: &str, port: u16) -> Option<Response> {
    let given = r.header("authorization").unwrap_or_default();
    match &state.auth {
        Auth::Open => None,
        Auth::Basic { user, password } => (given != basic(user, password))
            .then(|| error(401, "UNAUTHORIZED").with("www-authenticate", "Basic realm=\"test\"")),
        Auth::Bearer { realm, .. } => {
            let repository = path.split("/manifests/").next().unwrap_or_default();
            let repository = repository.split("/blobs/").next().unwrap_or_default();
            let repository = repository.trim_end_matches("/tags/list");
            let writes = !matches!(r.method.as_str(), "GET" | "HEAD");
            let need = if writes { "push" } else { "pull" };
            let fits = |scope: &String| {
                scope.starts_with(&format!("repository:{repository}:")) && scope.contains(need)
            };
            let known = given.strip_prefix("Bearer ").and_then(|t| state.tokens.get(t));
            let ok = known.is_some_and(|(until, scopes)| {
                *until > Instant::now() && (path.is_empty() || scopes.iter().any(fits))
            });
            let here = format!("http://127.0.0.1:{port}/token");
            let realm = realm.as_ref().unwrap_or(&here);
            let challenge =
                format!("Bearer realm=\"{realm}\",service=\"test\",scope=\"repository:{repository}:{need}\"");
            (!ok).then(|| error(401, "UNAUTHORIZED").with("www-authenticate", challenge))
        }
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

fn token(state: &mut State, r: &Request) -> Response {
    let (user, refresh, life) = match &state.auth {
        Auth::Bearer { user, refresh, life, .. } => (user.clone(), refresh.clone(), *life),
        _ => (None, None, Duration::from_secs(60)),
    };
    let text = String::from_utf8_lossy(&r.body).into_owned();
    let allowed = match (r.method.as_str(), &user) {
        ("POST", _) => refresh.is_some() && find_pair(&text, "refresh_token") == refresh,
        (_, Some((u, p))) => r.header("authorization") == Some(&basic(u, p)),
        (_, None) => true,
    };
    if !allowed {
        return error(401, "UNAUTHORIZED");
    }
    let query = if r.method == "POST" {
        text
    } else {
        r.target.split_once('?').map_or(String::new(), |q| q.1.into())
    };
    let scopes = query.split('&').filter(|p| p.starts_with("scope=")).filter_map(|p| find_pair(p, "scope"));
    let scopes = scopes.flat_map(|s| s.split(' ').map(str::to_string).collect::<Vec<_>>()).collect();
    state.counter += 1;
    let token = format!("token-{}", state.counter);
    state.tokens.insert(token.clone(), (Instant::now() + life, scopes));
    Response::new(200).body(json!({"token": token, "expires_in": life.as_secs()}).to_string())
}

fn manifests(state: &mut State, r: &Request, repository: &str, key: &str) -> Response {
    if r.method == "PUT" {
        let digest = Digest::of(&r.body).to_string();
        if key.starts_with("sha256:") && key != digest {
            return error(400, "DIGEST_INVALID");
        }
        let value: serde_json::Value = serde_json::from_slice(&r.body).unwrap_or_default();
        let blobs = state.blobs.entry(repository.into()).or_default();
        let manifests = state.manifests.entry(repository.into()).or_default();
        let listed = |field: &str| value[field].as_array().cloned().unwrap_or_default();
        let mut needs_blobs = listed("layers");
        needs_blobs.extend(value.get("config").cloned());
        let known_blob = |v: &serde_json::Value| {
            v["digest"].as_str().and_then(|d| d.parse().ok()).is_some_and(|d: Digest| blobs.contains_key(&d))
        };
        let known_manifest =
            |v: &serde_json::Value| v["digest"].as_str().is_some_and(|d| manifests.contains_key(d));
        if !needs_blobs.iter().all(known_blob) || !listed("manifests").iter().all(known_manifest) {
            return error(400, "MANIFEST_BLOB_UNKNOWN");
        }
        let entry = (r.header("content-type").unwrap_or_default().to_string(), r.body.clone());
        manifests.insert(digest.clone(), entry.clone());
        manifests.insert(key.into(), entry);
        return Response::new(201).with("docker-content-digest", digest);
    }
    match state.manifests.get(repository).and_then(|m| m.get(key)) {
        None => error(404, "MANIFEST_UNKNOWN"),
        Some((media_type, bytes)) => Response::new(200)
            .with("content-type", media_type)
            .with("docker-content-digest", Digest::of(bytes))
            .body(bytes.clone()),
    }
}

fn blobs(state: &mut State, r: &Request, repository: &str, key: &str) -> Response {
    let found = key.parse::<Digest>().ok().and_then(|d| state.blobs.get(repository)?.get(&d));
    let Some(bytes) = found else { return error(404, "BLOB_UNKNOWN") };
    let start =
        r.header("range").and_then(|v| v.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match start {
        Some(s) if s < bytes.len() => Response::new(206)
            .with("content-range", format!("bytes {s}-{}/{}", bytes.len() - 1, bytes.len()))
            .body(&bytes[s..]),
        _ => Response::new(200).body(bytes.clone()),
    }
}

fn uploads(state: &mut State, r: &Request, repository: &str, key: &str) -> Response {
    match r.method.as_str() {
        "POST" => {
            if let (Some(digest), Some(from)) = (r.query("mount"), r.query("from")) {
                let found = digest.parse::<Digest>().ok().and_then(|d| {
                    let bytes = state.blobs.get(&from)?.get(&d)?.clone();
                    Some((d, bytes))
                });
                if let Some((d, bytes)) = found {
                    state.blobs.entry(repository.into()).or_default().insert(d, bytes);
                    return Response::new(201);
                }
            }
            state.counter += 1;
            let id = format!("upload-{}", state.counter);
            state.uploads.insert(id.clone());
            Response::new(202).with("location", format!("/v2/{repository}/blobs/uploads/{id}?state=x%20y"))
        }
        "PUT" => {
            if !state.uploads.remove(key) {
                return error(404, "BLOB_UPLOAD_UNKNOWN");
            }
            let actual = Digest::of(&r.body);
            if r.query("digest") != Some(actual.to_string()) {
                return error(400, "DIGEST_INVALID");
            }
            state.blobs.entry(repository.into()).or_default().insert(actual, r.body.clone());
            Response::new(201)
        }
        _ => error(405, "UNSUPPORTED"),
    }
}
