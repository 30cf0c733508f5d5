//! Build contexts and recipes: where they are, and what of them may be seen.

use crate::{Error, ErrorKind};
use dockerfile::ignore::Matcher;
use plan::NamedContext;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use worker::{ContextFolder, ContextKind};

/// Largest recipe and ignore file that is read, in bytes.
const MAX_RECIPE: u64 = 16 << 20;

/// The main context.
#[derive(Debug, Clone)]
pub enum ContextSpec {
    Folder(PathBuf),
    /// Files of an archive or a repository, in this folder of the store. They are taken as they are; no ignore
    /// file counts.
    Fetched(PathBuf),
    /// A recipe on standard input has no files beside it.
    Empty,
}

/// Names of a recipe, in the order in which they are looked for.
const NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];

/// A recipe's text and how messages call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    pub name: String,
    pub text: String,
    /// Where it was read from; the ignore file is looked for beside it.
    pub path: Option<PathBuf>,
}

/// Where a secret's bytes come from.
#[derive(Debug, Clone)]
pub enum SecretSource {
    File(PathBuf),
    /// The value, taken from the environment by the caller.
    Value(Vec<u8>),
}

impl Recipe {
    /// The recipe of a context: `file` if given, else `Dockerfile` (or `dockerfile`, `Containerfile`).
    pub fn find(context: &ContextSpec, file: Option<&Path>) -> Result<Recipe, Error> {
        let candidates = match (file, context) {
            (_, ContextSpec::Fetched(root)) => return Recipe::inside(root, file),
            (Some(file), _) => vec![file.to_path_buf()],
            (None, ContextSpec::Folder(dir)) => {
                if !dir.is_dir() {
                    return Err(Error::new(
                        ErrorKind::NotFound,
                        format!("path {:?} not found", dir.display()),
                    )
                    .hint("name the folder of the project, as in `ctrbuild .`"));
                }
                NAMES.iter().map(|n| dir.join(n)).collect()
            }
            (None, ContextSpec::Empty) => Vec::new(),
        };
        for path in &candidates {
            if let Some(text) = read_text(path)? {
                let name = path
                    .file_name()
                    .map_or_else(|| "Dockerfile".into(), |n| n.to_string_lossy().into_owned());
                return Ok(Recipe { name, text, path: Some(path.clone()) });
            }
        }
        let shown = candidates.first().map_or_else(|| NAMES[0].to_string(), |p| p.display().to_string());
        Err(Recipe::missing(&shown))
    }

    /// A recipe among fetched files, where links lead nowhere else.
    fn inside(root: &Path, file: Option<&Path>) -> Result<Recipe, Error> {
        let files = sandbox::RootDir::open_path(root)?;
        let candidates: Vec<&Path> = match file {
            Some(file) => vec![file],
            None => NAMES.iter().map(Path::new).collect(),
        };
        for path in &candidates {
            if files.metadata(path).is_err() {
                continue;
            }
            let bytes = files.read_limited(path, MAX_RECIPE)?;
            let name = path.file_name().map_or_else(|| NAMES[0].into(), |n| n.to_string_lossy().into_owned());
            return Ok(Recipe { name, text: String::from_utf8_lossy(&bytes).into_owned(), path: None });
        }
        Err(Recipe::missing(&candidates.first().map_or_else(String::new, |p| p.display().to_string())))
    }

    fn missing(shown: &str) -> Error {
        Error::new(
            ErrorKind::NotFound,
            format!("failed to read dockerfile: open {shown}: no such file or directory"),
        )
        .hint("name the recipe with -f FILE")
    }
}

/// A text file; `None` if it is not there. Never blocks on a FIFO.
fn read_text(path: &Path) -> Result<Option<String>, Error> {
    let failed = |e: std::io::Error| Error::world(format!("can't read {}: {e}", path.display()));
    let file = match std::fs::File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(path)
    {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(failed(e)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Error::new(ErrorKind::Recipe, format!("{} is not a regular file", path.display())));
    }
    let mut bytes = Vec::new();
    file.take(MAX_RECIPE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_RECIPE {
        return Err(Error::new(ErrorKind::Recipe, format!("{} is larger than 16 MiB", path.display())));
    }
    Ok(Some(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())))
}

/// The ignore rules of a context folder.
pub fn ignore_rules(folder: &Path, recipe: Option<&Path>) -> Result<Option<Arc<Matcher>>, Error> {
    let beside = recipe.map(|r| {
        let mut name = r.as_os_str().to_os_string();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    let candidates = beside.into_iter().chain([folder.join(".dockerignore")]);
    for path in candidates {
        let Some(text) = read_text(&path)? else { continue };
        let wrong = |e: dockerfile::ignore::IgnoreError| {
            Error::new(ErrorKind::Recipe, format!("{}: {e}", path.display())).maybe_hint(e.hint())
        };
        let patterns = dockerfile::ignore::read(&text).map_err(wrong)?;
        let matcher = Matcher::new(&patterns).map_err(wrong)?;
        return Ok((!matcher.is_empty()).then(|| Arc::new(matcher)));
    }
    Ok(None)
}

/// The folders that the worker may read, and the named contexts as the planner sees them.
pub struct Contexts {
    pub folders: BTreeMap<String, ContextFolder>,
    pub named: BTreeMap<String, NamedContext>,
}

/// Read `--build-context NAME=VALUE`s and the main context.
pub fn load(
    main: &ContextSpec,
    named: &BTreeMap<String, String>,
    recipe: Option<&Path>,
) -> Result<Contexts, Error> {
    let mut out = Contexts { folders: BTreeMap::new(), named: BTreeMap::new() };
    let kind = match main {
        ContextSpec::Folder(path) => {
            Some((path, ContextKind::Folder { ignore: ignore_rules(path, recipe)? }))
        }
        ContextSpec::Fetched(path) => Some((path, ContextKind::Fetched)),
        ContextSpec::Empty => None,
    };
    if let Some((path, kind)) = kind {
        out.folders.insert("context".into(), ContextFolder { path: path.clone(), kind });
    }
    for (name, value) in named {
        let wrong = |message: String| {
            Error::new(ErrorKind::Recipe, format!("build context {name}: {message}"))
                .hint("write NAME=FOLDER, NAME=docker-image://REF, NAME=oci-layout://PATH or NAME=URL")
        };
        let context = if let Some(reference) = value.strip_prefix("docker-image://") {
            NamedContext::Image(reference.to_string())
        } else if let Some(location) = value.strip_prefix("oci-layout://") {
            NamedContext::OciLayout(location.to_string())
        } else if let Some(git) = plan::git_reference(value).map_err(&wrong)? {
            NamedContext::Git(git)
        } else if plan::is_http_url(value) {
            NamedContext::Http(value.clone())
        } else {
            let path = PathBuf::from(value);
            if !path.is_dir() {
                return Err(wrong(format!("{value:?} is not a folder")));
            }
            let ignore = ignore_rules(&path, None)?;
            out.folders.insert(name.clone(), ContextFolder { path, kind: ContextKind::Folder { ignore } });
            NamedContext::Local
        };
        out.named.insert(name.clone(), context);
    }
    Ok(out)
}

/// Secrets as the caller gave them.
pub struct SecretMap(pub BTreeMap<String, SecretSource>);

impl worker::Secrets for SecretMap {
    fn get(&self, id: &str) -> Result<Option<Vec<u8>>, solver::ErrorKind> {
        match self.0.get(id) {
            None => Ok(None),
            Some(SecretSource::Value(value)) => Ok(Some(value.clone())),
            Some(SecretSource::File(path)) => std::fs::read(path).map(Some).map_err(|e| {
                solver::ErrorKind::with_hint(
                    format!("can't read secret {id} from {}: {e}", path.display()),
                    "the path is relative to where ctrbuild was started",
                )
            }),
        }
    }
}
