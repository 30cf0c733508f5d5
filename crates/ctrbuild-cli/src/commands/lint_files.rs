//! Which recipes are meant: files as named, folders searched with their `.gitignore`s, standard input; and
//! the configuration and ignore file that belong to each.

use super::lint_shellcheck;
use ctrbuild::{Error, ErrorKind};
use diagnostic::SourceFile;
use lint::project::{self, is_recipe};
use lint::{Config, IgnoreFile};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Deepest folder that is searched.
const MAX_DEPTH: usize = 64;

/// A recipe with the name to show.
pub struct Input {
    /// Where it is; `None` for standard input.
    pub path: Option<PathBuf>,
    /// Its text.
    pub source: SourceFile,
}

/// Reads every recipe that `paths` name.
pub fn read_all(paths: &[PathBuf], stdin_name: Option<&str>) -> Result<Vec<Input>, Error> {
    let mut files = Vec::new();
    let mut known = std::collections::BTreeSet::new();
    let here = [PathBuf::from(".")];
    for path in if paths.is_empty() { &here } else { paths } {
        if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            std::io::stdin()
                .read_to_end(&mut bytes)
                .map_err(|e| Error::world(format!("can't read standard input: {e}")))?;
            files.push(Input {
                path: None,
                source: SourceFile::from_bytes(stdin_name.unwrap_or("-"), &bytes),
            });
        } else if path.is_dir() {
            let mut found = Vec::new();
            let mut rules = Vec::new();
            above(path, &mut rules);
            search(path, &mut rules, 0, &mut found);
            found.sort();
            for path in found {
                if known.insert(shown(&path).to_owned()) {
                    files.push(read(&path)?);
                }
            }
        } else if known.insert(shown(path).to_owned()) {
            files.push(read(path)?);
        }
    }
    Ok(files)
}

/// A path as it is shown, and known by: without `./` in front.
fn shown(path: &Path) -> &Path {
    path.strip_prefix("./").unwrap_or(path)
}

fn read(path: &Path) -> Result<Input, Error> {
    let bytes = std::fs::read(path)
        .map_err(|e| Error::new(ErrorKind::NotFound, format!("can't read {}: {e}", path.display())))?;
    let name = shown(path).display().to_string();
    Ok(Input { path: Some(path.to_owned()), source: SourceFile::from_bytes(name, &bytes) })
}

/// One line of a `.gitignore`.
struct GitRule {
    base: PathBuf,
    pattern: String,
    keep: bool,
    folder: bool,
    anchored: bool,
}

fn git_rules(folder: &Path, out: &mut Vec<GitRule>) {
    let Ok(text) = std::fs::read_to_string(folder.join(".gitignore")) else { return };
    for line in text.lines() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (keep, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest));
        let (folder_only, line) = line.strip_suffix('/').map_or((false, line), |rest| (true, rest));
        let anchored = line.contains('/');
        let pattern = line.strip_prefix('/').unwrap_or(line).to_owned();
        out.push(GitRule { base: folder.to_owned(), pattern, keep, folder: folder_only, anchored });
    }
}

/// Rules of the folders above, up to the root of the repository.
fn above(folder: &Path, out: &mut Vec<GitRule>) {
    let Ok(absolute) = folder.canonicalize() else { return };
    if absolute.join(".git").exists() {
        return;
    }
    let parents: Vec<&Path> = absolute.ancestors().skip(1).collect();
    let Some(root) = parents.iter().position(|parent| parent.join(".git").exists()) else { return };
    for parent in parents[..=root].iter().rev() {
        git_rules(parent, out);
    }
    // Paths below are compared in the form in which they are searched.
    for rule in out.iter_mut() {
        if let Ok(rest) = absolute.strip_prefix(&rule.base) {
            let prefix = rest.display().to_string();
            if rule.anchored {
                match rule.pattern.strip_prefix(&format!("{prefix}/")) {
                    Some(pattern) => rule.pattern = pattern.to_owned(),
                    None => continue,
                }
            }
            rule.base = folder.to_owned();
        }
    }
}

fn is_ignored(rules: &[GitRule], path: &Path, is_dir: bool) -> bool {
    let mut ignored = false;
    for rule in rules.iter().filter(|rule| is_dir || !rule.folder) {
        let Ok(relative) = path.strip_prefix(&rule.base) else { continue };
        let relative = relative.display().to_string();
        let name = relative.rsplit('/').next().unwrap_or(&relative);
        let hit = match rule.anchored {
            true => dockerfile::glob::matches_deep(&rule.pattern, &relative).unwrap_or(false),
            false => dockerfile::glob::matches(&rule.pattern, name).unwrap_or(false),
        };
        if hit {
            ignored = !rule.keep;
        }
    }
    ignored
}

fn search(folder: &Path, rules: &mut Vec<GitRule>, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let before = rules.len();
    git_rules(folder, rules);
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if is_ignored(rules, &path, kind.is_dir()) {
            continue;
        }
        if kind.is_dir() {
            if depth < MAX_DEPTH && !matches!(name.as_ref(), ".git" | "node_modules" | ".hg" | ".svn") {
                search(&path, rules, depth + 1, found);
            }
        } else if is_recipe(&name) && (kind.is_file() || path.is_file()) {
            found.push(path);
        }
    }
    rules.truncate(before);
}

/// Configuration by folder.
#[derive(Default)]
pub struct Configs {
    fixed: Option<Config>,
    by_folder: BTreeMap<PathBuf, Config>,
}

impl Configs {
    /// Of one file for all recipes; an empty one for `None`.
    pub fn fixed(path: Option<&Path>) -> Result<Self, Error> {
        let mut config = Config::default();
        if let Some(path) = path {
            add(&mut config, path, None)?;
        }
        Ok(Self { fixed: Some(config), by_folder: BTreeMap::new() })
    }

    /// The configuration for a recipe: that of its folder and of those above it.
    pub fn of(&mut self, path: Option<&Path>) -> Result<Config, Error> {
        if let Some(config) = &self.fixed {
            return Ok(config.clone());
        }
        let folder = match path.and_then(Path::parent) {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        if let Some(config) = self.by_folder.get(&folder) {
            return Ok(config.clone());
        }
        let mut config = Config::default();
        let absolute = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        let exists = |path: &Path| if path.ends_with(".git") { path.exists() } else { path.is_file() };
        let root = absolute.ancestors().find(|parent| parent.join(".git").exists());
        for file in project::config_files(&absolute, exists) {
            add(&mut config, &file, root.or(file.parent()))?;
        }
        self.by_folder.insert(folder, config.clone());
        Ok(config)
    }
}

/// Adds a file that was found in the project `root`, or was named by the user.
fn add(config: &mut Config, path: &Path, root: Option<&Path>) -> Result<(), Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::new(ErrorKind::NotFound, format!("can't read {}: {e}", path.display())))?;
    config.add(&text).map_err(|e| {
        let error = Error::world(format!("{}: {e}", path.display()));
        match e.hint() {
            Some(hint) => error.hint(hint),
            None => error,
        }
    })?;
    match (config.shellcheck(), root) {
        (Some(program), Some(root)) => lint_shellcheck::trusted(program, root),
        _ => Ok(()),
    }
}

/// The ignore file of a recipe: its own, else that of its folder.
pub fn ignore_file(path: Option<&Path>) -> Option<IgnoreFile> {
    let path = path?;
    let text = project::ignore_files(path).into_iter().find_map(|file| std::fs::read_to_string(file).ok())?;
    IgnoreFile::read(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_searched() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let write = |path: &str, text: &str| -> std::io::Result<()> {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap_or(dir.path()))?;
            std::fs::write(path, text)
        };
        write("a/Dockerfile", "FROM a\n")?;
        write("b/x.Dockerfile", "FROM a\n")?;
        write("out/Dockerfile", "FROM a\n")?;
        write("out/keep/Dockerfile", "FROM a\n")?;
        write(".gitignore", "/out\n*.Dockerfile\n!x.Dockerfile\n")?;
        write("c/y.Dockerfile", "FROM a\n")?;
        let mut found = Vec::new();
        search(dir.path(), &mut Vec::new(), 0, &mut found);
        found.sort();
        let names: Vec<_> = found
            .iter()
            .filter_map(|path| path.strip_prefix(dir.path()).ok())
            .map(|path| path.display().to_string())
            .collect();
        assert_eq!(names, ["a/Dockerfile", "b/x.Dockerfile"]);
        Ok(())
    }
}
