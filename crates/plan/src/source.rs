//! What a COPY or ADD source names: a path, a URL, or a git repository.

use graph::{GitSource, GitTimes};

/// `http://` or `https://` and not a git repository.
pub fn is_http_url(source: &str) -> bool {
    (source.starts_with("http://") || source.starts_with("https://")) && !is_git_url(source)
}

/// Whether `source` names a git repository that cannot be a local path.
pub fn is_git_url(source: &str) -> bool {
    git_reference(source).is_ok_and(|g| g.is_some())
}

/// Parse `url.git#ref:subdir`, `url.git?ref=…`, `git://…`, `ssh://…`, `user@host:path`. `None` if it is
/// not a git reference; an error if it is one but wrong.
pub fn git_reference(source: &str) -> Result<Option<GitSource>, String> {
    let Some((remote, query, fragment)) = split(source) else { return Ok(None) };
    if remote.starts_with('-') {
        return Err(format!("invalid git remote {remote:?}"));
    }
    let mut git = GitSource {
        remote: remote.to_string(),
        reference: String::new(),
        subdir: String::new(),
        keep_git_dir: false,
        checksum: None,
        submodules: true,
        fetch_by_commit: false,
        times: GitTimes::Checkout,
    };
    if let Some(fragment) = fragment {
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        git.reference = reference.to_string();
        git.subdir = subdir.to_string();
    }
    let (mut branch, mut tag) = (None, None);
    let mut seen = std::collections::BTreeSet::new();
    for pair in query.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (percent_decode(key, Plus::Space), percent_decode(value, Plus::Space));
        if !seen.insert(key.clone()) {
            return Err(format!("query {key:?} has multiple values"));
        }
        let is_switch = matches!(key.as_str(), "submodules" | "keep-git-dir" | "fetch-by-commit");
        if value.is_empty() && !is_switch {
            return Err(format!("query {key:?} has no value"));
        }
        match key.as_str() {
            "ref" => set_reference(&mut git, value)?,
            "branch" => branch = Some(full_name("refs/heads/", value)),
            "tag" => tag = Some(full_name("refs/tags/", value)),
            "subdir" => {
                if !git.subdir.is_empty() && git.subdir != value {
                    return Err(format!("subdir conflicts: {:?} vs {value:?}", git.subdir));
                }
                git.subdir = value;
            }
            "checksum" | "commit" => git.checksum = Some(value),
            "keep-git-dir" => git.keep_git_dir = boolean(&key, &value)?,
            "submodules" => git.submodules = boolean(&key, &value)?,
            "fetch-by-commit" => git.fetch_by_commit = boolean(&key, &value)?,
            "mtime" => {
                git.times = match value.as_str() {
                    "checkout" => GitTimes::Checkout,
                    "commit" => GitTimes::Commit,
                    _ => {
                        return Err(format!(
                            "invalid mtime value: {value:?} (must be \"checkout\" or \"commit\")"
                        ));
                    }
                }
            }
            other => return Err(format!("unexpected query {other:?}")),
        }
    }
    if branch.is_some() && tag.is_some() {
        return Err("branch conflicts with tag".into());
    }
    if let Some(name) = branch.or(tag) {
        set_reference(&mut git, name)?;
    }
    if git.reference.starts_with('-') || git.subdir.split('/').any(|p| p == "..") {
        return Err(format!("invalid git reference {:?}", redact(source)));
    }
    if let Some(sum) = &git.checksum
        && !(!sum.is_empty() && sum.len() <= 64 && sum.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        return Err(format!("invalid checksum {sum:?} for a git source, expected hexadecimal commit digits"));
    }
    Ok(Some(git))
}

fn set_reference(git: &mut GitSource, name: String) -> Result<(), String> {
    if !git.reference.is_empty() && git.reference != name {
        return Err(format!("ref conflicts: {:?} vs {name:?}", git.reference));
    }
    git.reference = name;
    Ok(())
}

fn full_name(prefix: &str, name: String) -> String {
    if name.starts_with(prefix) { name } else { format!("{prefix}{name}") }
}

/// The name of the file that an HTTP source becomes: the last part of its path, decoded.
pub fn http_file_name(url: &str) -> String {
    let without_query = url.split(['?', '#']).next().unwrap_or(url);
    let path = without_query.splitn(4, '/').nth(3).unwrap_or_default();
    let path = crate::path::clean(&format!("/{}", percent_decode(path, Plus::Plus)));
    match crate::path::base(&path) {
        "/" | "." | ".." | "" => "__unnamed__".to_string(),
        name => name.to_string(),
    }
}

/// A source for messages and names of steps: without the user information of a URL.
pub fn redact(source: &str) -> String {
    let Some((scheme, rest)) = source.split_once("://") else { return source.to_string() };
    let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..host_end].rfind('@') {
        Some(at) => format!("{scheme}://xxxxx@{}", &rest[at + 1..]),
        None => source.to_string(),
    }
}

/// Remote, query and fragment of what looks like a git URL.
fn split(source: &str) -> Option<(&str, Option<&str>, Option<&str>)> {
    let (body, fragment) = source.split_once('#').map_or((source, None), |(b, f)| (b, Some(f)));
    let (bare, query) = body.split_once('?').map_or((body, None), |(b, q)| (b, Some(q)));
    let found = if source.starts_with("git://") || source.starts_with("ssh://") {
        true
    } else if let Some(rest) = bare.strip_prefix("http://").or_else(|| bare.strip_prefix("https://")) {
        rest.contains('/') && bare.ends_with(".git")
    } else {
        is_scp_like(bare)
    };
    found.then_some((bare, query, fragment))
}

/// `user@host:path`.
fn is_scp_like(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, path)) = rest.split_once(':') else { return false };
    let word = |s: &str| {
        !s.is_empty()
            && s.starts_with(|c: char| c.is_ascii_alphanumeric())
            && s.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    word(user) && word(host) && !path.is_empty()
}

fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "" | "1" | "true" | "t" | "T" | "TRUE" | "True" => Ok(true),
        "0" | "false" | "f" | "F" | "FALSE" | "False" => Ok(false),
        other => Err(format!("invalid {key} value {other:?}")),
    }
}

/// What a plus sign means: a space in queries, itself in paths.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Space,
    Plus,
}

fn percent_decode(text: &str, plus: Plus) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
        match bytes[i] {
            b'%' if i + 2 < bytes.len() => match (hex(bytes[i + 1]), hex(bytes[i + 2])) {
                (Some(a), Some(b)) => {
                    out.push(a << 4 | b);
                    i += 3;
                    continue;
                }
                _ => out.push(b'%'),
            },
            b'+' if plus == Plus::Space => out.push(b' '),
            b => out.push(b),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names() {
        for (url, want) in [
            ("https://h/a/b.tar.gz?x=1#y", "b.tar.gz"),
            ("https://h/a%20b+c", "a b+c"),
            ("https://h/x%2Fy", "y"),
            ("https://h/", "__unnamed__"),
            ("https://h", "__unnamed__"),
            ("https://h?x=/y", "__unnamed__"),
            ("https://h/a/..", "__unnamed__"),
            ("https://h/%2e%2e/%2e%2e/b", "b"),
        ] {
            assert_eq!(http_file_name(url), want, "{url}");
        }
    }

    #[test]
    fn users_are_not_shown() {
        assert_eq!(redact("https://u:p@h/x@y"), "https://xxxxx@h/x@y");
        assert_eq!(redact("https://h/x"), "https://h/x");
        assert_eq!(redact("git@h:a/b"), "git@h:a/b");
    }

    #[test]
    fn queries() {
        let git = |s: &str| git_reference(&format!("https://h/r.git?{s}"));
        assert_eq!(git("tag=v1").unwrap().unwrap().reference, "refs/tags/v1");
        assert_eq!(git("mtime=commit").unwrap().unwrap().times, GitTimes::Commit);
        assert_eq!(git("checksum=abc").unwrap().unwrap().checksum.as_deref(), Some("abc"));
        assert!(git("submodules&keep-git-dir").unwrap().unwrap().keep_git_dir);
        for bad in [
            "ref=a&ref=b",
            "branch=a&tag=b",
            "ref=a&branch=b",
            "ref=",
            "mtime=x",
            "keep-git-dir=2",
            "checksum=xyz",
        ] {
            assert!(git(bad).is_err(), "{bad}");
        }
        assert!(git_reference("https://h/r.git?ref=a#b").is_err());
    }

    #[test]
    fn references() {
        let git = |s: &str| git_reference(s).unwrap().unwrap();
        let g = git("https://example.com/a/b.git#v1:sub/dir");
        assert_eq!(
            (g.remote.as_str(), g.reference.as_str(), g.subdir.as_str()),
            ("https://example.com/a/b.git", "v1", "sub/dir")
        );
        let g = git("https://example.com/a/b.git?branch=main&keep-git-dir=1&submodules=false");
        assert_eq!((g.reference.as_str(), g.keep_git_dir, g.submodules), ("refs/heads/main", true, false));
        assert!(git_reference("git@github.com:o/r.git").unwrap().is_some());
        for none in ["https://example.com/a.tar.gz", "a/b", "dir@x", "github.com/o/r.git"] {
            assert_eq!(git_reference(none), Ok(None), "{none}");
        }
        for bad in ["https://h/r.git#--upload-pack=x", "https://h/r.git#a:../..", "https://h/r.git?x=1"] {
            assert!(git_reference(bad).is_err(), "{bad}");
        }
    }
}
