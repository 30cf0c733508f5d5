//! Which files belong to a recipe: what recipes are called, and where their configuration and ignore file are.
//!
//! Pure: what exists is asked of the caller.

use std::path::{Path, PathBuf};

/// Names of configuration files; the first that exists counts.
pub const CONFIG_NAMES: [&str; 2] = ["ctrbuild.toml", ".ctrbuild.toml"];

/// `Dockerfile`, `Containerfile`, `Dockerfile.*`, `*.Dockerfile` and the like.
pub fn is_recipe(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let stem = ["dockerfile", "containerfile"];
    // Files beside recipes that are named after them.
    let others = [".dockerignore", ".containerignore", "~", ".snap", ".md", ".orig", ".rej", ".bak", ".swp"];
    let ignored = others.iter().any(|end| lower.ends_with(end));
    !ignored
        && stem.iter().any(|stem| {
            lower == *stem
                || lower.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.'))
                || lower.strip_suffix(stem).is_some_and(|rest| rest.ends_with('.'))
        })
}

/// The configuration files of an absolute folder, from the outermost to its own: one a folder, up to the root
/// of the repository.
pub fn config_files(folder: &Path, exists: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut chain = Vec::new();
    for parent in folder.ancestors() {
        chain.extend(CONFIG_NAMES.map(|name| parent.join(name)).into_iter().find(|file| exists(file)));
        if exists(&parent.join(".git")) {
            break;
        }
    }
    chain.reverse();
    chain
}

/// Where the ignore file of a recipe may be: its own, else that of its folder.
pub fn ignore_files(recipe: &Path) -> Vec<PathBuf> {
    let own = PathBuf::from(format!("{}.dockerignore", recipe.display()));
    let folder = recipe.parent().map(|folder| folder.join(".dockerignore"));
    std::iter::once(own).chain(folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in [
            "Dockerfile",
            "Containerfile",
            "Dockerfile.dev",
            "web.Dockerfile",
            "dockerfile",
            "x.containerfile",
        ] {
            assert!(is_recipe(name), "{name}");
        }
        for name in
            ["Dockerfiles", "Dockerfile.dockerignore", "mydockerfile", "Dockerfile~", "Dockerfile.snap"]
        {
            assert!(!is_recipe(name), "{name}");
        }
    }

    #[test]
    fn configuration_ends_at_the_repository() {
        let files =
            ["/ctrbuild.toml", "/a/.git", "/a/.ctrbuild.toml", "/a/b/ctrbuild.toml", "/a/b/.ctrbuild.toml"];
        let found =
            config_files(Path::new("/a/b/c"), |path| files.iter().any(|file| path == Path::new(file)));
        assert_eq!(found, [Path::new("/a/.ctrbuild.toml"), Path::new("/a/b/ctrbuild.toml")]);
    }
}
