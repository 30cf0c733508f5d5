//! What belongs to a recipe beside its text: configuration by folder, the ignore file, its name in the project.

use crate::host::Host;
use crate::uri;
use lint::{Config, IgnoreFile, Options, project};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folders that are open, and what was read of their configuration.
#[derive(Debug, Default)]
pub struct Workspace {
    folders: Vec<PathBuf>,
    configs: BTreeMap<PathBuf, Configured>,
}

#[derive(Clone, Debug, Default)]
struct Configured {
    config: Config,
    /// The outermost folder that says something.
    root: Option<PathBuf>,
    faults: Vec<String>,
}

/// How to lint one recipe.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// What to look for.
    pub options: Options,
    /// The configuration leaves the recipe out.
    pub excluded: bool,
}

impl Workspace {
    /// Adds a folder by its address.
    pub fn add(&mut self, uri: &str) {
        if let Some(path) = uri::path_of(uri)
            && !self.folders.contains(&path)
        {
            self.folders.push(path);
        }
    }

    /// Takes a folder away.
    pub fn remove(&mut self, uri: &str) {
        if let Some(path) = uri::path_of(uri) {
            self.folders.retain(|folder| *folder != path);
        }
    }

    /// Forgets what was read.
    pub fn forget(&mut self) {
        self.configs.clear();
    }

    /// How to lint the recipe at an address. Recipes without a file have the configuration of the first folder.
    pub fn setup(&mut self, uri: &str, host: &dyn Host) -> Setup {
        let path = uri::path_of(uri);
        let Some(folder) =
            path.as_deref().and_then(Path::parent).or(self.folders.first().map(PathBuf::as_path))
        else {
            return Setup::default();
        };
        let folder = folder.to_owned();
        let configured =
            self.configs.entry(folder.clone()).or_insert_with_key(|folder| read(folder, host)).clone();
        let name =
            path.as_deref().map_or_else(String::new, |path| self.name(path, configured.root.as_deref()));
        let mut options = configured.config.options(&name);
        options.ignore = path.as_deref().and_then(|path| ignore_file(path, host));
        Setup { options, excluded: configured.config.excludes(&name) }
    }

    /// What is wrong with the configurations that were read.
    pub fn faults(&self) -> Vec<String> {
        self.configs.values().flat_map(|one| &one.faults).cloned().collect()
    }

    /// The name of a recipe in its project: relative to the innermost open folder, else to the configuration.
    fn name(&self, path: &Path, root: Option<&Path>) -> String {
        let folders = self.folders.iter().map(PathBuf::as_path).filter(|folder| path.starts_with(folder));
        let base = folders.max_by_key(|folder| folder.components().count()).or(root);
        let relative = base.and_then(|base| path.strip_prefix(base).ok());
        let name = relative.or_else(|| path.file_name().map(Path::new)).unwrap_or(path);
        name.to_string_lossy().into_owned()
    }
}

fn read(folder: &Path, host: &dyn Host) -> Configured {
    let mut out = Configured::default();
    for file in project::config_files(folder, |path| host.exists(path)) {
        out.root = out.root.or_else(|| file.parent().map(Path::to_owned));
        let Some(text) = host.read(&file) else {
            out.faults.push(format!("can't read {}", file.display()));
            continue;
        };
        if let Err(error) = out.config.add(&text) {
            let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            out.faults.push(format!("{}: {error}{hint}", file.display()));
        }
    }
    out
}

/// The ignore file of a recipe.
pub fn ignore_file(recipe: &Path, host: &dyn Host) -> Option<IgnoreFile> {
    let text = project::ignore_files(recipe).into_iter().find_map(|file| host.read(&file))?;
    IgnoreFile::read(&text).ok()
}

/// Whether a change of this file changes what is found in recipes.
pub fn matters(uri: &str) -> bool {
    let name = uri.rsplit('/').next().unwrap_or(uri);
    project::CONFIG_NAMES.contains(&name) || name.ends_with(".dockerignore")
}
