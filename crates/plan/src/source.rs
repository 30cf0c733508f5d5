//! What a COPY or ADD source names: a path, a URL, or a git repository.

use graph::GitSource;

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
    };
    if let Some(fragment) = fragment {
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        git.reference = reference.to_string();
        git.subdir = subdir.to_string();
    }
    for pair in query.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode(value);
        match key {
            "ref" | "branch" | "tag" => {
                let full = match key {
                    "branch" if !value.starts_with("refs/heads/") => format!("refs/heads/{value}"),
                    "tag" if !value.starts_with("refs/tags/") => format!("refs/tags/{value}"),
                    _ => value,
                };
                if !git.reference.is_empty() && git.reference != full {
                    return Err("ref conflicts with another ref, branch, tag or fragment".into());
                }
                git.reference = full;
            }
            "subdir" => {
                if !git.subdir.is_empty() && git.subdir != value {
                    return Err("subdir conflicts with the fragment".into());
                }
                git.subdir = value;
            }
            "checksum" | "commit" => git.checksum = Some(value),
            "keep-git-dir" => git.keep_git_dir = boolean(key, &value)?,
            "submodules" => git.submodules = boolean(key, &value)?,
            "fetch-by-commit" => git.fetch_by_commit = boolean(key, &value)?,
            other => return Err(format!("unexpected query {other:?}")),
        }
    }
    if git.reference.starts_with('-') || git.subdir.split('/').any(|p| p == "..") {
        return Err(format!("invalid git reference {source:?}"));
    }
    if let Some(sum) = &git.checksum
        && !(sum.len() >= 7 && sum.len() <= 64 && sum.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        return Err(format!("invalid checksum {sum:?} for a git source, expected hexadecimal commit digits"));
    }
    Ok(Some(git))
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

fn percent_decode(text: &str) -> String {
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
            b'+' => out.push(b' '),
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
