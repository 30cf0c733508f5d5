//! Credentials of registries: Docker's config.json, podman's auth.json, credential helpers.
//!
//! Formats: docker/cli `config.json` (`auths`, `credHelpers`, `credsStore`), containers-auth.json(5),
//! and the protocol of docker-credential-helpers (server on stdin, JSON on stdout).

use crate::helper;
use base64::Engine as _;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Something that proves who asks. Its `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    Password {
        user: String,
        password: String,
    },
    /// An OAuth2 refresh token ("identity token").
    Identity {
        token: String,
    },
    /// A bearer token that is sent to the registry as it is.
    Bearer {
        token: String,
    },
}

impl Credential {
    /// A name for messages; never a secret.
    pub fn user(&self) -> &str {
        match self {
            Credential::Password { user, .. } => user,
            Credential::Identity { .. } | Credential::Bearer { .. } => "the token",
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({:?}, ...)", self.user())
    }
}

/// Finds credentials. Blocking: it may read files and run helpers.
pub trait Credentials: Send + Sync {
    /// For the registry `domain` (`docker.io`, `localhost:5000`) and the repository `path` in it, which
    /// may be empty.
    fn lookup(&self, domain: &str, path: &str) -> Result<Option<Credential>, CredentialError>;
}

/// Nobody is logged in anywhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCredentials;

impl Credentials for NoCredentials {
    fn lookup(&self, _: &str, _: &str) -> Result<Option<Credential>, CredentialError> {
        Ok(None)
    }
}

/// Credentials by domain, for tests and for logins that are being tried.
#[derive(Debug, Clone, Default)]
pub struct StaticCredentials(pub BTreeMap<String, Credential>);

impl Credentials for StaticCredentials {
    fn lookup(&self, domain: &str, _: &str) -> Result<Option<Credential>, CredentialError> {
        Ok(self.0.get(domain).cloned())
    }
}

/// Why stored credentials could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is not a valid credentials file")]
    Format {
        path: PathBuf,
        #[source]
        source: Option<serde_json::Error>,
    },
    #[error("cannot write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the name of a credential helper may only have letters, digits, dashes and underscores: {0:?}")]
    HelperName(String),
    #[error("the credential helper {0} was not found")]
    HelperMissing(String),
    #[error("the credential helper {name} failed: {message}")]
    Helper { name: String, message: String },
}

impl CredentialError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            CredentialError::Read { .. } | CredentialError::Write { .. } => {
                "check the permissions of the file"
            }
            CredentialError::Format { .. } => "correct the file, or log in again to write it anew",
            CredentialError::HelperName(_) => "correct credHelpers or credsStore in config.json",
            CredentialError::HelperMissing(_) => "install it, or remove it from credHelpers or credsStore",
            CredentialError::Helper { .. } => "run the helper by hand to see what is wrong",
        }
    }
}

#[derive(Deserialize, Default)]
struct FileV1 {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credHelpers", default)]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore", default)]
    store: String,
}

#[derive(Deserialize, Default, Clone)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

/// Files in the formats of Docker and podman, in order of preference.
pub struct CredentialFiles {
    files: Vec<(PathBuf, FileV1)>,
    helper_dirs: Vec<PathBuf>,
    asked: Mutex<HashMap<(String, String), Option<Credential>>>,
}

const MAX_FILE: u64 = 4 << 20;

impl CredentialFiles {
    /// Read those of `paths` that exist. Helpers are looked for in `helper_dirs` (the folders of PATH).
    pub fn load(paths: &[PathBuf], helper_dirs: Vec<PathBuf>) -> Result<Self, CredentialError> {
        let mut files = Vec::new();
        for path in paths {
            let read = |source| CredentialError::Read { path: path.clone(), source };
            let mut text = Vec::new();
            match std::fs::File::open(path) {
                Ok(f) => f.take(MAX_FILE + 1).read_to_end(&mut text).map_err(read)?,
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(e) => return Err(read(e)),
            };
            if text.len() as u64 > MAX_FILE {
                return Err(CredentialError::Format { path: path.clone(), source: None });
            }
            if text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let file = serde_json::from_slice(&text)
                .map_err(|e| CredentialError::Format { path: path.clone(), source: Some(e) })?;
            files.push((path.clone(), file));
        }
        Ok(CredentialFiles { files, helper_dirs, asked: Mutex::default() })
    }

    fn ask(&self, helper: &str, server: &str) -> Result<Option<Credential>, CredentialError> {
        let key = (helper.to_string(), server.to_string());
        let lock = || self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&key) {
            return Ok(known.clone());
        }
        let answer = helper::get(helper, server, &self.helper_dirs)?;
        lock().insert(key, answer.clone());
        Ok(answer)
    }
}

impl Credentials for CredentialFiles {
    fn lookup(&self, domain: &str, path: &str) -> Result<Option<Credential>, CredentialError> {
        let keys = keys(domain, path);
        for (file, content) in &self.files {
            let servers = servers(domain);
            if let Some((server, helper)) =
                servers.iter().find_map(|s| Some((s, content.helpers.get(s).filter(|h| !h.is_empty())?)))
            {
                if let Some(c) = self.ask(helper, server)? {
                    return Ok(Some(c));
                }
                continue;
            }
            if !content.store.is_empty() {
                for server in store_servers(domain) {
                    if let Some(c) = self.ask(&content.store, &server)? {
                        return Ok(Some(c));
                    }
                }
            }
            let by_key = |k: &String| content.auths.iter().find(|(name, _)| normal_key(name) == *k);
            for (_, entry) in keys.iter().filter_map(by_key) {
                if let Some(c) = entry.credential(file)? {
                    return Ok(Some(c));
                }
            }
        }
        Ok(None)
    }
}

impl Entry {
    fn credential(&self, file: &Path) -> Result<Option<Credential>, CredentialError> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credential::Identity { token: self.identitytoken.clone() }));
        }
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credential::Bearer { token: self.registrytoken.clone() }));
        }
        if !self.auth.is_empty() {
            let bad = || CredentialError::Format { path: file.to_path_buf(), source: None };
            let text =
                base64::engine::general_purpose::STANDARD.decode(self.auth.trim()).map_err(|_| bad())?;
            let text = String::from_utf8(text).map_err(|_| bad())?;
            let (user, password) = text.split_once(':').ok_or_else(bad)?;
            let password = password.trim_end_matches('\0');
            return Ok(Some(Credential::Password { user: user.into(), password: password.into() }));
        }
        if !self.username.is_empty() {
            return Ok(Some(Credential::Password {
                user: self.username.clone(),
                password: self.password.clone(),
            }));
        }
        Ok(None)
    }
}

/// The keys under which a file may hold the credentials of a repository, most specific first.
fn keys(domain: &str, path: &str) -> Vec<String> {
    let mut out = Vec::new();
    for domain in servers(domain) {
        let mut scope = path;
        while !scope.is_empty() {
            out.push(format!("{domain}/{scope}"));
            scope = scope.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
        out.push(domain);
    }
    out
}

/// The names of one registry.
pub(crate) fn servers(domain: &str) -> Vec<String> {
    if domain == oci::DEFAULT_DOMAIN {
        return ["index.docker.io", "docker.io", "registry-1.docker.io"].map(String::from).to_vec();
    }
    vec![domain.to_string()]
}

/// What a store is asked for: Docker keeps Hub's login under a URL.
pub(crate) fn store_servers(domain: &str) -> Vec<String> {
    if domain == oci::DEFAULT_DOMAIN {
        return vec!["https://index.docker.io/v1/".to_string()];
    }
    vec![domain.to_string(), format!("https://{domain}")]
}

/// `https://index.docker.io/v1/` -> `index.docker.io`.
pub(crate) fn normal_key(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    key.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn files(text: &str, dirs: Vec<PathBuf>) -> CredentialFiles {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        CredentialFiles::load(&[dir.path().join("absent"), path], dirs).unwrap()
    }

    fn user(c: &CredentialFiles, domain: &str, path: &str) -> Option<String> {
        c.lookup(domain, path).unwrap().map(|c| c.user().to_string())
    }

    #[test]
    fn docker_and_podman_keys() {
        let c = files(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOnB3"},"a.b/team":{"auth":"dGVhbTpwOnc="},
               "a.b":{"username":"all","password":"x"},"http://h:5000/v2/":{"identitytoken":"it"},"e.e":{}},
               "HttpHeaders":{"X":"y"}}"#,
            vec![],
        );
        assert_eq!(user(&c, "docker.io", "library/x").as_deref(), Some("hub"));
        assert_eq!(
            c.lookup("a.b", "team/app").unwrap(),
            Some(Credential::Password { user: "team".into(), password: "p:w".into() })
        );
        assert_eq!(user(&c, "a.b", "teams").as_deref(), Some("all"));
        assert_eq!(c.lookup("h:5000", "").unwrap(), Some(Credential::Identity { token: "it".into() }));
        assert_eq!(user(&c, "h", ""), None);
        assert_eq!(user(&c, "e.e", ""), None);
        assert!(!format!("{:?}", c.lookup("a.b", "team").unwrap()).contains("p:w"));
    }

    #[test]
    fn helpers_run_by_checked_name_only() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("docker-credential-fake");
        std::fs::write(
            &script,
            "#!/bin/sh\nread s\ncase $s in\n*none*) echo 'credentials not found in native keychain'; exit 1;;\n\
             *bad*) printf 'oops\\033[2J'; exit 3;;\n\
             esac\necho \"{\\\"ServerURL\\\":\\\"$s\\\",\\\"Username\\\":\\\"<token>\\\",\\\"Secret\\\":\\\"for $s\\\"}\"\n",
        )
        .unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        let dirs = vec![dir.path().to_path_buf()];
        let c = files(
            r#"{"credHelpers":{"x.y":"fake","none.y":"fake","bad.y":"fake","evil.y":"../../bin/sh","gone.y":"gone"}}"#,
            dirs.clone(),
        );
        assert_eq!(c.lookup("x.y", "").unwrap(), Some(Credential::Identity { token: "for x.y".into() }));
        assert_eq!(c.lookup("none.y", "").unwrap(), None);
        let e = c.lookup("bad.y", "").unwrap_err().to_string();
        assert!(e.ends_with("oops [2J"), "{e}");
        assert!(matches!(c.lookup("evil.y", ""), Err(CredentialError::HelperName(_))));
        assert!(matches!(c.lookup("gone.y", ""), Err(CredentialError::HelperMissing(_))));
        let c = files(r#"{"credsStore":"fake"}"#, dirs);
        assert_eq!(
            c.lookup("docker.io", "library/x").unwrap(),
            Some(Credential::Identity { token: "for https://index.docker.io/v1/".into() })
        );
        for bad in ["", "-x", "a/b", "..", "a b", "a;b", "é"] {
            assert!(!helper::is_name(bad), "{bad}");
        }
    }

    #[test]
    fn damaged_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(
            CredentialFiles::load(std::slice::from_ref(&path), vec![]),
            Err(CredentialError::Format { .. })
        ));
        std::fs::write(&path, r#"{"auths":{"x":{"auth":"***"}}}"#).unwrap();
        let c = CredentialFiles::load(&[path], vec![]).unwrap();
        assert!(c.lookup("x", "").is_err());
    }
}
