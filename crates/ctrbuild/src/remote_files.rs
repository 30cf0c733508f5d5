//! Remote sources and main contexts that are no folder, wired to the session's store and network settings.

use crate::context::{ContextSpec, Recipe, SecretMap, SecretSource};
use crate::{Error, ErrorKind, Session, chain};
use graph::{GitSource, HttpSource, SourceOp};
use remote::{HttpSettings, Remote, Route, Unpacked};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use store::LocalStore;
use worker::{FetchedFile, RemoteSources};

/// Name of the file that an HTTP context is stored as; recipes see it under this name.
const HTTP_CONTEXT: &str = "context";

/// Fetches HTTP and git sources with the trust and the proxies of a session.
#[derive(Clone)]
pub struct RemoteFiles(Remote);

impl RemoteFiles {
    /// `secrets` may hold `HTTP_AUTH_*` and `GIT_AUTH_*`. Nothing is read before something is fetched.
    pub fn new(session: &Session, secrets: BTreeMap<String, SecretSource>, git: remote::GitSettings) -> Self {
        let registry = session.registry.clone();
        let client = move || {
            let failed = |e: Error| remote::Error::Setup { message: e.message, hint: e.hint };
            let registry = registry().map_err(failed)?;
            registry::web_client(registry.config()).map_err(|e| failed(e.into()))
        };
        let proxied = git.proxies.iter().any(|(name, _)| !name.eq_ignore_ascii_case("no_proxy"));
        RemoteFiles(Remote::new(remote::Config {
            http: HttpSettings {
                client: Arc::new(client),
                route: if proxied { Route::Proxied } else { Route::Direct },
                timeouts: Default::default(),
                retries: Default::default(),
            },
            git,
            secrets: Arc::new(SecretMap(secrets)),
        }))
    }
}

impl RemoteSources for RemoteFiles {
    fn fetch<'a>(
        &'a self,
        store: &'a LocalStore,
        source: &'a SourceOp,
    ) -> Pin<Box<dyn Future<Output = Result<FetchedFile, solver::ErrorKind>> + Send + 'a>> {
        Box::pin(async move {
            match self.0.fetch(store, source).await {
                Ok(fetched) => Ok(FetchedFile { snapshot: fetched.snapshot, hash: fetched.hash }),
                Err(e) => Err(solver::ErrorKind::Other { message: chain(&e), hint: e.hint() }),
            }
        })
    }
}

impl remote::Secrets for SecretMap {
    fn get(&self, id: &str) -> Result<Option<Vec<u8>>, remote::SecretError> {
        worker::Secrets::get(self, id).map_err(|e| {
            let e = Error::from(&e);
            remote::SecretError { message: e.message, hint: e.hint }
        })
    }
}

/// What the argument of `build` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MainContext {
    Folder(PathBuf),
    /// A tar, packed or not.
    ArchiveFile(PathBuf),
    /// A tar or a recipe on standard input.
    Stdin,
    Git(GitSource),
    /// URL of a tar or of a recipe.
    Http(String),
}

impl MainContext {
    /// Tell by the text; paths that exist come before everything else.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text == "-" {
            return Ok(MainContext::Stdin);
        }
        let path = PathBuf::from(text);
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_file() => return Ok(MainContext::ArchiveFile(path)),
            Ok(_) => return Ok(MainContext::Folder(path)),
            Err(_) => {}
        }
        let wrong =
            |m: String| Error::new(ErrorKind::Recipe, format!("build context {}: {m}", remote::redact(text)));
        // The form without a scheme is deprecated, and known for contexts only.
        let github = text.starts_with("github.com/").then(|| {
            let (repository, rest) = text.split_at(text.find(['#', '?']).unwrap_or(text.len()));
            format!("https://{}.git{rest}", repository.trim_end_matches('/').trim_end_matches(".git"))
        });
        if let Some(git) = plan::git_reference(github.as_deref().unwrap_or(text)).map_err(wrong)? {
            return Ok(MainContext::Git(git));
        }
        if plan::is_http_url(text) {
            return Ok(MainContext::Http(text.to_string()));
        }
        Ok(MainContext::Folder(path))
    }

    /// Bring the context to this machine, and find the recipe in it. `file` is `--file`; `stdin` is read for
    /// [`MainContext::Stdin`] only.
    pub async fn load(
        self,
        session: &Session,
        remote: &RemoteFiles,
        file: Option<&Path>,
        stdin: impl Read + Send + 'static,
    ) -> Result<(ContextSpec, Recipe), Error> {
        let store = session.store.clone();
        let spec = self.fetch(&store, remote, stdin).await?;
        match spec {
            Loaded::Context(spec) => {
                let recipe = Recipe::find(&spec, file)?;
                Ok((spec, recipe))
            }
            Loaded::Recipe(spec, text) => {
                let text = String::from_utf8_lossy(&text).into_owned();
                Ok((spec, Recipe { name: "Dockerfile".into(), text, path: None }))
            }
        }
    }

    /// As [`MainContext::load`] where the recipe comes from elsewhere.
    pub async fn load_files(self, session: &Session, remote: &RemoteFiles) -> Result<ContextSpec, Error> {
        let store = session.store.clone();
        match self.fetch(&store, remote, std::io::empty()).await? {
            Loaded::Context(spec) | Loaded::Recipe(spec, _) => Ok(spec),
        }
    }

    async fn fetch(
        self,
        store: &LocalStore,
        remote: &RemoteFiles,
        stdin: impl Read + Send + 'static,
    ) -> Result<Loaded, Error> {
        let s = store.clone();
        match self {
            MainContext::Folder(path) => Ok(Loaded::Context(ContextSpec::Folder(path))),
            MainContext::Stdin => {
                let unpacked =
                    par::blocking(move || remote::unpack_stream(&s, "standard input", stdin)).await?;
                Loaded::of(store, unpacked, ContextSpec::Empty)
            }
            MainContext::ArchiveFile(path) => {
                let shown = path.display().to_string();
                let unpacked = par::blocking(move || remote::unpack_file(&s, &shown, &path)).await?;
                match unpacked {
                    Unpacked::Text(_) => Err(Error::new(
                        ErrorKind::Recipe,
                        "the build context is neither a folder nor an archive",
                    )
                    .hint("name the folder of the project, and the recipe with -f FILE")),
                    files => Loaded::of(store, files, ContextSpec::Empty),
                }
            }
            MainContext::Git(git) => {
                let fetched = remote.0.fetch(store, &SourceOp::Git(git)).await?;
                Ok(Loaded::Context(ContextSpec::Fetched(store.snapshot_path(&fetched.snapshot)?)))
            }
            MainContext::Http(url) => {
                let shown = remote::redact(&url);
                let source = HttpSource {
                    url,
                    filename: HTTP_CONTEXT.into(),
                    checksum: None,
                    mode: None,
                    uid: 0,
                    gid: 0,
                };
                let fetched = remote.0.fetch(store, &SourceOp::Http(source)).await?;
                let folder = store.snapshot_path(&fetched.snapshot)?;
                let file = folder.join(HTTP_CONTEXT);
                let unpacked = par::blocking(move || remote::unpack_file(&s, &shown, &file)).await?;
                // A recipe is a context with one file.
                Loaded::of(store, unpacked, ContextSpec::Fetched(folder))
            }
        }
    }
}

/// A context that is on this machine.
enum Loaded {
    Context(ContextSpec),
    /// It was the recipe itself.
    Recipe(ContextSpec, Vec<u8>),
}

impl Loaded {
    fn of(store: &LocalStore, unpacked: Unpacked, beside: ContextSpec) -> Result<Loaded, Error> {
        Ok(match unpacked {
            Unpacked::Files(id) => Loaded::Context(ContextSpec::Fetched(store.snapshot_path(&id)?)),
            Unpacked::Text(text) => Loaded::Recipe(beside, text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_by_their_text() {
        let git = |s: &str| match MainContext::parse(s).unwrap() {
            MainContext::Git(g) => (g.remote, g.reference, g.subdir),
            other => panic!("{s}: {other:?}"),
        };
        let is = |a: &str, b: &str, c: &str| (a.to_string(), b.to_string(), c.to_string());
        assert_eq!(git("https://h/a/b.git#main:sub"), is("https://h/a/b.git", "main", "sub"));
        assert_eq!(git("github.com/o/r#v1"), is("https://github.com/o/r.git", "v1", ""));
        assert_eq!(git("git@h:o/r.git"), is("git@h:o/r.git", "", ""));
        assert_eq!(MainContext::parse("-").unwrap(), MainContext::Stdin);
        assert_eq!(MainContext::parse("http://h/x.tar").unwrap(), MainContext::Http("http://h/x.tar".into()));
        assert_eq!(MainContext::parse("/nonexistent").unwrap(), MainContext::Folder("/nonexistent".into()));
        let e = MainContext::parse("https://u:secret@h/r.git#-x").unwrap_err();
        assert!(!e.message.contains("secret"), "{}", e.message);
    }
}
