//! From a ref to a commit, by asking the server (`git ls-remote`).

use super::command::{Place, error};
use super::location::{Credentials, Location};
use super::{Git, Resolved, is_object};
use crate::Error;
use graph::GitSource;
use std::path::Path;

impl Git {
    /// What the ref of `source` names now, checked against its checksum. A whole object name is not asked for.
    pub(super) async fn resolve(
        &self,
        location: &Location,
        source: &GitSource,
        credentials: &Credentials,
    ) -> Result<Resolved, Error> {
        let wrong = |reason: &str| Error::GitSource { remote: location.shown(), reason: reason.to_string() };
        let checksum = match source.checksum.as_deref() {
            Some(sum) if sum.is_empty() || sum.len() > 64 || !sum.bytes().all(|b| b.is_ascii_hexdigit()) => {
                return Err(wrong("invalid checksum, expected hex commit hash"));
            }
            sum => sum.map(str::to_ascii_lowercase),
        };
        let reference = source.reference.as_str();
        if !reference.is_empty() && !is_ref(reference) {
            return Err(wrong("invalid ref"));
        }
        if is_object(reference) {
            let resolved = Resolved { object: reference.into(), commit: reference.into(), name: None };
            check(location, checksum.as_deref(), &[reference])?;
            return Ok(resolved);
        }
        if source.fetch_by_commit {
            let Some(commit) = checksum.filter(|c| is_object(c)) else {
                return Err(wrong("fetch-by-commit requires a full commit as checksum or ref"));
            };
            let name = match reference {
                "" => None,
                name if name.starts_with("refs/") => Some(name.to_string()),
                name => Some(format!("refs/heads/{name}")),
            };
            return Ok(Resolved { object: commit.clone(), commit, name });
        }
        let resolved = self.look_up(location, reference, credentials).await?;
        check(location, checksum.as_deref(), &[&resolved.commit, &resolved.object])?;
        Ok(resolved)
    }

    async fn look_up(
        &self,
        location: &Location,
        reference: &str,
        credentials: &Credentials,
    ) -> Result<Resolved, Error> {
        let place = Place { git_dir: None, work: Path::new("/") };
        let peeled = format!("{reference}^{{}}");
        let mut args = vec!["ls-remote", "--symref", "--", location.url()];
        match reference {
            "" => args.push("HEAD"),
            name => args.extend([name, &peeled]),
        }
        let out = match self.runner.remote(location, "read the refs of", place, credentials, &args).await? {
            Ok(out) => out,
            Err(failed) => return Err(error("read the refs of", location, &failed)),
        };
        let listing = String::from_utf8_lossy(&out);
        choose(&listing, reference).ok_or_else(|| Error::NoRef {
            remote: location.shown(),
            reference: if reference.is_empty() { "HEAD".into() } else { reference.into() },
        })
    }
}

/// Pick from a listing as git's checkout does: the full name, then a branch, then a tag.
fn choose(listing: &str, reference: &str) -> Option<Resolved> {
    let mut head = None;
    let mut refs = std::collections::BTreeMap::new();
    for line in listing.lines() {
        let (object, name) = line.split_once('\t')?;
        match object.strip_prefix("ref: ") {
            Some(target) if name == "HEAD" => head = Some(target.to_string()),
            Some(_) => {}
            None if is_object(object) => {
                refs.insert(name, object);
            }
            None => return None,
        }
    }
    let found = |name: String| {
        let object = (*refs.get(name.as_str())?).to_string();
        let commit =
            refs.get(format!("{name}^{{}}").as_str()).map_or_else(|| object.clone(), |o| o.to_string());
        Some(Resolved { object, commit, name: Some(name) })
    };
    if reference.is_empty() {
        let at_head = found("HEAD".into())?;
        return Some(Resolved { name: head.filter(|h| is_ref(h)), ..at_head });
    }
    let bare = |prefix: &str| reference.strip_prefix(prefix).unwrap_or(reference).to_string();
    found(format!("refs/{}", bare("refs/")))
        .or_else(|| found(format!("refs/heads/{}", bare("refs/heads/"))))
        .or_else(|| found(format!("refs/tags/{}", bare("refs/tags/"))))
}

/// Whether a name may be a ref (git-check-ref-format(1)), and nothing else.
fn is_ref(name: &str) -> bool {
    let odd = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    !name.starts_with(['-', '/'])
        && !name.ends_with(['/', '.'])
        && !name.ends_with(".lock")
        && !name.contains("..")
        && !name.contains("@{")
        && !name.contains("//")
        && name != "@"
        && !name.chars().any(odd)
}

/// One of `objects` begins with the checksum.
pub(super) fn check(location: &Location, checksum: Option<&str>, objects: &[&str]) -> Result<(), Error> {
    match checksum {
        Some(sum) if !objects.iter().any(|o| o.starts_with(&sum.to_ascii_lowercase())) => {
            let mut actual: Vec<&str> = objects.to_vec();
            actual.dedup();
            Err(Error::Commit {
                remote: location.shown(),
                expected: sum.to_string(),
                actual: actual.join(" or "),
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> String {
        let id = |c: &str| c.repeat(40);
        format!(
            "ref: refs/heads/main\tHEAD\n{a}\tHEAD\n{a}\trefs/heads/main\n{b}\trefs/heads/x/main\n{b}\trefs/heads/v1\n\
             {c}\trefs/tags/v1\n{d}\trefs/tags/v2\n{a}\trefs/tags/v2^{{}}\n",
            a = id("a"),
            b = id("b"),
            c = id("c"),
            d = id("d")
        )
    }

    #[test]
    fn branches_come_before_tags() {
        let choose = |name: &str| {
            choose(&listing(), name).map(|r| (r.object[..1].to_string(), r.commit[..1].to_string(), r.name))
        };
        let is = |o: &str, c: &str, n: &str| Some((o.to_string(), c.to_string(), Some(n.to_string())));
        assert_eq!(choose("main"), is("a", "a", "refs/heads/main"));
        assert_eq!(choose(""), is("a", "a", "refs/heads/main"));
        assert_eq!(choose("heads/main"), is("a", "a", "refs/heads/main"));
        assert_eq!(choose("v1"), is("b", "b", "refs/heads/v1"));
        assert_eq!(choose("refs/tags/v1"), is("c", "c", "refs/tags/v1"));
        assert_eq!(choose("v2"), is("d", "a", "refs/tags/v2"));
        assert_eq!(choose("nothing"), None);
    }

    #[test]
    fn refs_are_no_options_and_no_patterns() {
        for good in ["main", "refs/pull/1/head", "v1.0", "a-b", "ü"] {
            assert!(is_ref(good), "{good}");
        }
        for bad in [
            "-x",
            "--upload-pack=x",
            "a..b",
            "a b",
            "a:b",
            "+a:b",
            "a*",
            "@{1}",
            "a^",
            "a~1",
            "/a",
            "a/",
            "a\n",
            "@",
            "a.lock",
        ] {
            assert!(!is_ref(bad) || bad == "+a:b", "{bad}");
        }
        assert!(!is_ref("+a:b"));
    }

    #[test]
    fn checksums_are_prefixes() {
        let l = Location::parse("https://h/r.git").unwrap();
        assert!(check(&l, Some("AB"), &["abc", "def"]).is_ok());
        assert!(check(&l, Some("de"), &["abc", "def"]).is_ok());
        assert!(check(&l, None, &["abc"]).is_ok());
        let e = check(&l, Some("ff"), &["abc", "abc"]).unwrap_err();
        assert_eq!(e.to_string(), "https://h/r.git: expected checksum to match ff, got abc");
    }
}
