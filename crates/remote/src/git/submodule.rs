//! Submodules: fetched one by one at the commits that the repository names, with the same limits.
//!
//! `.gitmodules` is read as data only: names, paths and URLs count, `update` may say `none`, and nothing
//! else in it has any effect.

use super::checkout::{Checkout, Target};
use super::command::Place;
use super::location::{Credentials, Location};
use super::{Resolved, check_folders, is_object};
use crate::Error;
use crate::error::tame;
use sandbox::RootDir;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How deep submodules may have submodules.
const MAX_DEPTH: usize = 16;
/// Submodules of one source, all in all.
const MAX_SUBMODULES: usize = 4096;
/// Largest `.gitmodules`, in bytes.
const MAX_GITMODULES: u64 = 4 << 20;

/// A repository whose submodules are due.
struct Due {
    location: Location,
    work: PathBuf,
    git_dir: PathBuf,
    commit: String,
    /// Path from the root of the source; ends in a slash unless it is empty.
    prefix: String,
    depth: usize,
}

/// A section of `.gitmodules`.
#[derive(Default)]
struct Section {
    path: Option<String>,
    url: Option<String>,
    update: Option<String>,
}

impl Checkout<'_> {
    /// Fetch the submodules of `commit`, and theirs.
    pub async fn submodules(&self, location: &Location, work: &Path, commit: &str) -> Result<(), Error> {
        let first = Due {
            location: location.clone(),
            work: work.to_path_buf(),
            git_dir: self.git_dir(work, "git"),
            commit: commit.to_string(),
            prefix: String::new(),
            depth: 0,
        };
        let mut stack = vec![first];
        let mut count = 0;
        while let Some(due) = stack.pop() {
            for (path, object) in self.links(&due).await? {
                let shown = format!("{}{path}", due.prefix);
                if !self.is_wanted(&shown) {
                    continue;
                }
                let refuse = |reason: String| Error::Submodule {
                    remote: due.location.shown(),
                    path: tame(&shown),
                    reason,
                };
                count += 1;
                if due.depth == MAX_DEPTH || count > MAX_SUBMODULES {
                    return Err(refuse("there are too many submodules".into()));
                }
                let Some(url) = self.url_of(&due, &path).await? else { continue };
                let below = due.location.join(&url).map_err(|e| refuse(e.to_string()))?;
                let inner = due.work.join(&path);
                let (root, p) = (due.work.clone(), path.clone());
                par::blocking(move || {
                    let root = RootDir::open_path(&root)?;
                    root.mkdir_all(&p, 0o755, None)?;
                    Ok::<_, Error>(check_folders(&root, &p))
                })
                .await?
                .map_err(|reason| refuse(reason.into()))?;
                let credentials = Credentials::of_submodule(&below, self.main, self.secrets).await?;
                let resolved = Resolved { object: object.clone(), commit: object, name: None };
                let name = format!("sub{count}");
                let git_dir = self.git_dir(&inner, &name);
                let target = Target {
                    location: &below,
                    credentials: &credentials,
                    work: &inner,
                    resolved: &resolved,
                    name,
                };
                let commit = self.write(&target).await?;
                let prefix = format!("{shown}/");
                stack.push(Due {
                    location: below,
                    work: inner,
                    git_dir,
                    commit,
                    prefix,
                    depth: due.depth + 1,
                });
            }
        }
        Ok(())
    }

    /// Whether a path has a part in the wanted folder.
    fn is_wanted(&self, path: &str) -> bool {
        let within = |inner: &str, outer: &str| {
            outer.is_empty()
                || inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        within(path, self.subdir) || within(self.subdir, path)
    }

    /// Paths and commits of the submodules; none without a `.gitmodules`.
    async fn links(&self, due: &Due) -> Result<Vec<(String, String)>, Error> {
        let place = Place { git_dir: Some(&due.git_dir), work: &due.work };
        let runner = &self.git.runner;
        let file = format!("{}:.gitmodules", due.commit);
        let Ok(size) = runner.local(&due.location, "look into", place, &["cat-file", "-s", &file]).await
        else {
            return Ok(Vec::new());
        };
        let size: u64 = String::from_utf8_lossy(&size).trim().parse().unwrap_or(u64::MAX);
        if size > MAX_GITMODULES {
            return Err(Error::TooLarge { what: ".gitmodules".into(), limit: MAX_GITMODULES });
        }
        let args = ["ls-tree", "-r", "-z", "--full-tree", &due.commit];
        let out = runner.local(&due.location, "look into", place, &args).await?;
        let mut links = Vec::new();
        for line in out.split(|b| *b == 0) {
            // `160000 commit OBJECT<TAB>PATH`
            let Some(rest) = line.strip_prefix(b"160000 commit ") else { continue };
            let Some((object, path)) = std::str::from_utf8(rest).ok().and_then(|t| t.split_once('\t')) else {
                let path = tame(&String::from_utf8_lossy(rest));
                return Err(Error::Submodule {
                    remote: due.location.shown(),
                    path,
                    reason: "its path is no text".into(),
                });
            };
            let odd = |part: &str| matches!(part, "" | "." | "..") || part.eq_ignore_ascii_case(".git");
            if !is_object(object) || path.split('/').any(odd) || path.starts_with('-') {
                let reason = "its path is not allowed".into();
                return Err(Error::Submodule { remote: due.location.shown(), path: tame(path), reason });
            }
            links.push((path.to_string(), object.to_string()));
        }
        Ok(links)
    }

    /// The URL of the submodule at `path`; `None` if it is not to be fetched.
    async fn url_of(&self, due: &Due, path: &str) -> Result<Option<String>, Error> {
        let place = Place { git_dir: Some(&due.git_dir), work: &due.work };
        let blob = format!("{}:.gitmodules", due.commit);
        let args = ["config", "--no-includes", "-z", "--blob", &blob, "--list"];
        let out = self.git.runner.local(&due.location, "read the submodules of", place, &args).await?;
        let refuse = |reason: &str| Error::Submodule {
            remote: due.location.shown(),
            path: tame(path),
            reason: reason.into(),
        };
        let section = sections(&String::from_utf8_lossy(&out))
            .into_values()
            .find(|s| s.path.as_deref().map(|p| p.trim_end_matches('/')) == Some(path))
            .ok_or_else(|| refuse("no url found for it in .gitmodules"))?;
        if section.update.as_deref() == Some("none") {
            return Ok(None);
        }
        section
            .url
            .filter(|u| !u.is_empty())
            .map(Some)
            .ok_or_else(|| refuse("no url found for it in .gitmodules"))
    }
}

/// `submodule.NAME.KEY<LF>VALUE<NUL>`…, by name.
fn sections(listing: &str) -> BTreeMap<String, Section> {
    let mut out: BTreeMap<String, Section> = BTreeMap::new();
    for entry in listing.split('\0') {
        let (name, value) = entry.split_once('\n').unwrap_or((entry, ""));
        let Some((name, key)) = name.strip_prefix("submodule.").and_then(|n| n.rsplit_once('.')) else {
            continue;
        };
        let section = out.entry(name.to_string()).or_default();
        match key {
            "path" => section.path = Some(value.to_string()),
            "url" => section.url = Some(value.to_string()),
            "update" => section.update = Some(value.to_string()),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::sections;

    #[test]
    fn sections_by_name() {
        let s = sections(
            "submodule.a.b.path\nx/y\0submodule.a.b.url\n../c\0core.pager\nsh\0submodule.z.update\nnone\0",
        );
        assert_eq!(s.len(), 2);
        assert_eq!((s["a.b"].path.as_deref(), s["a.b"].url.as_deref()), (Some("x/y"), Some("../c")));
        assert_eq!(s["z"].update.as_deref(), Some("none"));
    }
}
