//! Names of images, as Docker reads them: `busybox`, `me/app:1`, `host:5000/a/b@sha256:...`.
//!
//! The grammar is that of the distribution project's reference package: an optional domain, path
//! components of lower-case letters and digits with `.`, `_`, `__` or dashes between, a tag, a digest.

use digest::Digest;
use std::fmt;
use std::str::FromStr;

/// The domain of names without one.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag of names without one.
pub const DEFAULT_TAG: &str = "latest";
const OFFICIAL: &str = "library/";
const MAX_NAME: usize = 255;

/// A normalised image name: domain and path always, tag and digest where given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseReferenceError {
    #[error("an image name is empty")]
    Empty,
    #[error("invalid image name {0:?}")]
    Format(String),
    #[error("invalid image name {0:?}: the repository must be lower-case")]
    UpperCase(String),
    #[error("invalid image name {0:?}: 64 hexadecimal digits are an image id, not a name")]
    Identifier(String),
    #[error("invalid image name {0:?}: more than {MAX_NAME} characters")]
    TooLong(String),
    #[error("invalid tag {0:?}")]
    Tag(String),
    #[error("invalid digest in an image name")]
    Digest(#[source] digest::ParseDigestError),
}

impl ParseReferenceError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            ParseReferenceError::Tag(_) => {
                "a tag is a letter, digit or underscore, then up to 127 of those, dots and dashes"
            }
            ParseReferenceError::Digest(_) => "write the digest as sha256: and 64 hexadecimal digits",
            ParseReferenceError::UpperCase(_) => "write the name in lower case",
            _ => "write it as [HOST[:PORT]/]NAME[:TAG][@sha256:DIGEST]",
        }
    }
}

impl Reference {
    /// Parse and normalise; a missing tag stays missing (see [`Reference::with_default_tag`]).
    pub fn parse(text: &str) -> Result<Self, ParseReferenceError> {
        let bad = || ParseReferenceError::Format(shorten(text));
        if text.is_empty() {
            return Err(ParseReferenceError::Empty);
        }
        if digest::from_hex(text).is_some() {
            return Err(ParseReferenceError::Identifier(text.to_string()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, d)) => (rest, Some(d.parse().map_err(ParseReferenceError::Digest)?)),
            None => (text, None),
        };
        let (domain, remainder) = split_domain(rest);
        let (path, tag) = match remainder.split_once(':') {
            Some((path, tag)) => (path.to_string(), Some(tag)),
            None => (remainder, None),
        };
        if path.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(ParseReferenceError::UpperCase(shorten(text)));
        }
        if !is_domain(&domain) || !is_path(&path) {
            return Err(bad());
        }
        if domain.len() + 1 + path.len() > MAX_NAME {
            return Err(ParseReferenceError::TooLong(shorten(text)));
        }
        if let Some(t) = tag
            && !is_tag(t)
        {
            return Err(ParseReferenceError::Tag(shorten(t)));
        }
        Ok(Reference { domain, path, tag: tag.map(str::to_string), digest })
    }

    /// `docker.io`, `localhost:5000`: the part before the first slash.
    pub fn domain(&self) -> &str {
        &self.domain
    }
    /// `library/busybox`: the repository inside its registry.
    pub fn path(&self) -> &str {
        &self.path
    }
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
    /// `docker.io/library/busybox`: domain and path.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }
    /// The tag, or `latest` if neither tag nor digest is given.
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_string());
        }
        self
    }
    /// The same repository with this tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ParseReferenceError> {
        if !is_tag(tag) {
            return Err(ParseReferenceError::Tag(shorten(tag)));
        }
        Ok(Reference { tag: Some(tag.to_string()), digest: None, ..self.clone() })
    }
    /// The same name and tag, pinned.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Reference { digest: Some(digest), ..self.clone() }
    }
    /// Domain and path alone.
    pub fn name_only(&self) -> Self {
        Reference { tag: None, digest: None, ..self.clone() }
    }
    /// The repository as people write it: `busybox`, `me/app`, `localhost:5000/x`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        let short = match self.path.strip_prefix(OFFICIAL) {
            Some(name) if !name.contains('/') => name,
            _ => &self.path,
        };
        // A first part that looks like a domain would be taken for one.
        match split_domain(short).1 == self.path {
            true => short.to_string(),
            false => self.repository(),
        }
    }
    /// The whole reference as people write it.
    pub fn familiar(&self) -> String {
        let mut out = self.familiar_name();
        self.push_suffix(&mut out);
        out
    }
    /// What a registry is asked for: the digest where there is one, else the tag, else `latest`.
    pub fn manifest_key(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(d), _) => d.to_string(),
            (None, Some(t)) => t.clone(),
            (None, None) => DEFAULT_TAG.to_string(),
        }
    }

    fn push_suffix(&self, out: &mut String) {
        if let Some(t) = &self.tag {
            out.push(':');
            out.push_str(t);
        }
        if let Some(d) = &self.digest {
            out.push('@');
            out.push_str(&d.to_string());
        }
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Reference::parse(s)
    }
}

/// The canonical text, with domain: `docker.io/library/busybox:latest`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = self.repository();
        self.push_suffix(&mut out);
        f.write_str(&out)
    }
}

/// Long input is cut in messages.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(300) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_string(),
    }
}

fn split_domain(name: &str) -> (String, String) {
    let Some((first, rest)) = name.split_once('/') else {
        return (DEFAULT_DOMAIN.to_string(), format!("{OFFICIAL}{name}"));
    };
    let is_host =
        first == "localhost" || first.contains(['.', ':']) || first.chars().any(|c| c.is_ascii_uppercase());
    let (domain, rest) = match first {
        "index.docker.io" => (DEFAULT_DOMAIN, rest),
        _ if is_host => (first, rest),
        _ => (DEFAULT_DOMAIN, name),
    };
    if domain == DEFAULT_DOMAIN && !rest.contains('/') {
        return (domain.to_string(), format!("{OFFICIAL}{rest}"));
    }
    (domain.to_string(), rest.to_string())
}

/// Whether `text` is a valid tag: `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
pub fn is_tag(text: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let b = text.as_bytes();
    (1..=128).contains(&b.len()) && word(b[0]) && b[1..].iter().all(|c| word(*c) || matches!(c, b'.' | b'-'))
}

fn is_domain(text: &str) -> bool {
    let digits = |p: &str| !p.is_empty() && p.bytes().all(|c| c.is_ascii_digit());
    if let Some(v6) = text.strip_prefix('[') {
        let Some((host, rest)) = v6.split_once(']') else { return false };
        let port = rest.is_empty() || rest.strip_prefix(':').is_some_and(digits);
        return !host.is_empty() && host.bytes().all(|c| c.is_ascii_hexdigit() || c == b':') && port;
    }
    let host = match text.split_once(':') {
        Some((host, port)) if digits(port) => host,
        Some(_) => return false,
        None => text,
    };
    host.split('.').all(|part| {
        !part.is_empty()
            && part.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    })
}

fn is_path(text: &str) -> bool {
    text.split('/').all(is_component)
}

/// Runs of `[a-z0-9]` separated by one `.`, one or two `_`, or any number of `-`.
fn is_component(text: &str) -> bool {
    let b = text.as_bytes();
    let alnum = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !b.first().is_some_and(alnum) || !b.last().is_some_and(alnum) {
        return false;
    }
    let mut at = 0;
    while at < b.len() {
        if alnum(&b[at]) {
            at += 1;
            continue;
        }
        let start = at;
        while at < b.len() && !alnum(&b[at]) {
            at += 1;
        }
        let separator = &b[start..at];
        let ok = matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|c| *c == b'-');
        if !ok {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn normalises_as_docker_does() {
        for (text, full, familiar) in [
            ("docker.io/cr.io/app:3", "docker.io/cr.io/app:3", "docker.io/cr.io/app:3"),
            ("busybox", "docker.io/library/busybox", "busybox"),
            ("busybox:1", "docker.io/library/busybox:1", "busybox:1"),
            ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
            ("index.docker.io/library/busybox", "docker.io/library/busybox", "busybox"),
            ("me/app", "docker.io/me/app", "me/app"),
            ("library/a/b", "docker.io/library/a/b", "library/a/b"),
            ("localhost/app", "localhost/app", "localhost/app"),
            ("localhost:5000/a/b:T.1-x_", "localhost:5000/a/b:T.1-x_", "localhost:5000/a/b:T.1-x_"),
            ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
            ("HOST/x", "HOST/x", "HOST/x"),
            ("a.b/x__y/z--z.w_v", "a.b/x__y/z--z.w_v", "a.b/x__y/z--z.w_v"),
            ("foo:5000", "docker.io/library/foo:5000", "foo:5000"),
        ] {
            let r = Reference::parse(text).unwrap();
            assert_eq!((r.to_string().as_str(), r.familiar().as_str()), (full, familiar), "{text}");
            assert_eq!(Reference::parse(&r.familiar()).unwrap(), r);
        }
        let r = Reference::parse(&format!("busybox:1@{D}")).unwrap();
        assert_eq!(r.to_string(), format!("docker.io/library/busybox:1@{D}"));
        assert_eq!(r.manifest_key(), D);
        assert_eq!(Reference::parse("x").unwrap().with_default_tag().tag(), Some("latest"));
        assert_eq!(r.clone().with_default_tag(), r);
    }

    #[test]
    fn refuses() {
        let long = "a".repeat(300);
        for bad in [
            "",
            ":",
            "@",
            "a:",
            "a@",
            "a@sha256:zz",
            "a@sha512:00",
            "/a",
            "a/",
            "a//b",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a._b",
            "A",
            "a/B",
            "a b",
            "a:b c",
            "a:-x",
            "a\n",
            "é",
            "host:/x",
            "host:x/y",
            "a.b:99x/y",
            "[::1/x",
            "[]/x",
            "-h.c/x",
            "../x",
            "a/../b",
            "http://x/y",
            "a:b:c",
            &long,
            &D[7..],
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
        assert!(Reference::parse(&format!("a:{}", "t".repeat(129))).is_err());
        assert!(Reference::parse(&format!("a:{}", "t".repeat(128))).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_parses_or_fails_and_round_trips(text in "[a-zA-Z0-9:/@._\\[\\]-]{0,40}|\\PC{0,20}") {
            if let Ok(r) = Reference::parse(&text) {
                prop_assert_eq!(&Reference::parse(&r.to_string()).unwrap(), &r);
                prop_assert_eq!(&Reference::parse(&r.familiar()).unwrap(), &r);
                prop_assert!(!r.path().contains(".."));
            }
        }
    }
}
