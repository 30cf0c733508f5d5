//! Where a repository is, and what authenticates there.

use crate::Error;
use crate::secret::{self, Secrets};
use crate::url::{redact, take_user};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::Url;
use std::sync::Arc;

/// A remote that git may be given: never an option, never a local path, never a transport helper, and
/// without any password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    url: String,
    /// Scheme, host and port; what credentials are for.
    origin: String,
    /// `host` or `host:port`, as secrets are named.
    host: String,
    /// User and password that were in the URL.
    user: Option<(String, String)>,
}

impl Location {
    pub fn parse(text: &str) -> Result<Location, Error> {
        let refuse = |reason| Error::GitSource { remote: redact(text), reason: String::from(reason) };
        if text.starts_with('-') {
            return Err(refuse("it looks like an option"));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(refuse("it has white space or control characters"));
        }
        // The deprecated form without a scheme.
        if text.starts_with("github.com/") {
            return Location::parse(&format!("https://{text}"));
        }
        let Some((scheme, _)) = text.split_once("://") else {
            return scp_like(text).ok_or_else(|| refuse("it is no URL of a repository"));
        };
        if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https" | "git" | "ssh") {
            return Err(refuse("only http, https, git and ssh are allowed"));
        }
        let mut url = Url::parse(text).map_err(|_| refuse("it is no valid URL"))?;
        url.set_query(None);
        url.set_fragment(None);
        let host = url.host_str().unwrap_or_default().to_string();
        if host.is_empty() || host.starts_with('-') {
            return Err(refuse("it names no host"));
        }
        if url.path().starts_with("/-") || url.username().starts_with('-') {
            return Err(refuse("it looks like an option"));
        }
        let user = match url.scheme() {
            "ssh" => {
                let _ = url.set_password(None);
                None
            }
            _ => take_user(&mut url),
        };
        let with_port = url.port().map_or_else(|| host.clone(), |p| format!("{host}:{p}"));
        let origin = format!("{}://{with_port}", url.scheme());
        Ok(Location { url: url.to_string(), origin, host: with_port, user })
    }

    /// What git is given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// For messages.
    pub fn shown(&self) -> String {
        redact(&self.url)
    }

    fn is_http(&self) -> bool {
        self.origin.starts_with("http")
    }

    /// The URL of a submodule: `./` and `../` are relative to this one (gitmodules(5)).
    pub fn join(&self, url: &str) -> Result<Location, Error> {
        if !url.starts_with("./") && !url.starts_with("../") {
            return Location::parse(url);
        }
        let refuse = || Error::GitSource {
            remote: self.shown(),
            reason: "a relative URL leads out of the host".into(),
        };
        let (mut base, mut rest) = (self.url.trim_end_matches('/'), url);
        let mut separator = '/';
        loop {
            if let Some(r) = rest.strip_prefix("./") {
                rest = r;
            } else if let Some(r) = rest.strip_prefix("../") {
                rest = r;
                let cut = base.rfind('/').filter(|_| separator == '/');
                let cut = match cut {
                    Some(at) if !base[..at].ends_with('/') => at,
                    Some(_) => return Err(refuse()),
                    None => {
                        separator = ':';
                        base.rfind(':').filter(|_| !base.contains("://")).ok_or_else(refuse)?
                    }
                };
                base = &base[..cut];
            } else {
                break;
            }
        }
        if rest.is_empty() || base.ends_with(['/', ':']) {
            return Err(refuse());
        }
        let joined = Location::parse(&format!("{base}{separator}{}", rest.trim_end_matches('/')))?;
        // Whatever the dots did: relative means the same host.
        if joined.origin != self.origin {
            return Err(refuse());
        }
        Ok(joined)
    }
}

/// `[user@]host:path`, which is ssh.
fn scp_like(text: &str) -> Option<Location> {
    let (address, path) = text.split_once(':')?;
    let host = address.split_once('@').map_or(address, |(_, host)| host);
    let word = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_alphanumeric())
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let user = address.split_once('@').map(|(user, _)| user);
    // `ext::sh -c …` has a second colon right after the first.
    if !word(host) || user.is_some_and(|u| !word(u)) || path.is_empty() || path.starts_with([':', '-']) {
        return None;
    }
    let origin = format!("ssh://{host}");
    Some(Location { url: text.to_string(), origin, host: host.to_string(), user: None })
}

/// Settings for a command of git, as keys and values.
pub(super) struct Configuration {
    /// Not for arguments.
    pub secret: Vec<(String, String)>,
    pub plain: Vec<(&'static str, &'static str)>,
}

/// What authenticates at one origin.
#[derive(Clone)]
pub(super) struct Credentials {
    /// Value of an `Authorization` header.
    header: Option<String>,
}

impl Credentials {
    /// Of the repository that was asked for: the secrets of its host, the general ones, or its URL.
    pub async fn of(location: &Location, secrets: &Arc<dyn Secrets>) -> Result<Credentials, Error> {
        let general = ["GIT_AUTH_HEADER", "GIT_AUTH_TOKEN"].map(String::from).to_vec();
        Credentials::find(location, general, secrets).await
    }

    /// Of a submodule: the general secrets count only at the origin of the main repository.
    pub async fn of_submodule(
        location: &Location,
        main: &Location,
        secrets: &Arc<dyn Secrets>,
    ) -> Result<Credentials, Error> {
        if location.origin != main.origin {
            return Credentials::find(location, Vec::new(), secrets).await;
        }
        let own = Credentials::of(location, secrets).await?;
        match (&own.header, &main.user) {
            (None, Some(user)) => Ok(Credentials { header: Some(basic(user)) }),
            _ => Ok(own),
        }
    }

    async fn find(
        location: &Location,
        general: Vec<String>,
        secrets: &Arc<dyn Secrets>,
    ) -> Result<Credentials, Error> {
        if !location.is_http() {
            return Ok(Credentials { header: None });
        }
        let host = &location.host;
        let mut ids = vec![format!("GIT_AUTH_HEADER.{host}"), format!("GIT_AUTH_TOKEN.{host}")];
        ids.extend(general);
        let header = match secret::first(secrets, ids).await? {
            // Headers and tokens take turns.
            Some((i, header)) if i % 2 == 0 => Some(header),
            Some((_, token)) => Some(basic(&("x-access-token".into(), token))),
            None => location.user.as_ref().map(basic),
        };
        Ok(Credentials { header })
    }

    /// Configuration of git: what is secret, and what is not.
    pub fn configuration(&self, location: &Location) -> Configuration {
        match &self.header {
            None => Configuration { secret: Vec::new(), plain: vec![("http.followRedirects", "initial")] },
            Some(value) => {
                let key = format!("http.{}/.extraHeader", location.origin);
                Configuration {
                    secret: vec![(key, format!("Authorization: {value}"))],
                    // Git would take the header along to another host.
                    plain: vec![("http.followRedirects", "false")],
                }
            }
        }
    }
}

fn basic((user, password): &(String, String)) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_remote_repositories() {
        for good in [
            "https://h/r.git",
            "http://u:p@h:8080/a/b.git",
            "git://127.0.0.1:9418/r",
            "ssh://git@h:22/r.git",
            "git@github.com:o/r.git",
            "github.com/o/r",
        ] {
            assert!(Location::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-oProxyCommand=x",
            "--upload-pack=x",
            "ext::sh -c touch% /tmp/x",
            "ext::sh",
            "file:///etc",
            "/etc",
            "../r",
            "ftp://h/r.git",
            "ssh://-oProxyCommand=x/r",
            "ssh://-x@h/r",
            "-x@h:r",
            "h:-x",
            "git@-h:r",
            "https://h/r.git\n",
            "fd::17",
            "rsync://h/r",
            "git://h/-x",
        ] {
            assert!(Location::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_are_not_for_arguments() {
        let l = Location::parse("https://u:p@h/r.git").unwrap();
        assert_eq!((l.url(), l.shown().as_str()), ("https://h/r.git", "https://h/r.git"));
        assert_eq!(Location::parse("ssh://git:pw@h/r.git").unwrap().url(), "ssh://git@h/r.git");
    }

    #[test]
    fn relative_submodules() {
        let join = |base: &str, url: &str| Location::parse(base).unwrap().join(url).ok().map(|l| l.url);
        assert_eq!(join("https://h/a/b.git", "../c.git").as_deref(), Some("https://h/a/c.git"));
        assert_eq!(join("https://h/a/b.git", "./c.git").as_deref(), Some("https://h/a/b.git/c.git"));
        assert_eq!(join("git@h:a/b.git", "../c.git").as_deref(), Some("git@h:a/c.git"));
        assert_eq!(join("git@h:a/b.git", "../../c.git").as_deref(), Some("git@h:c.git"));
        assert_eq!(join("https://h/b.git", "https://other/c.git").as_deref(), Some("https://other/c.git"));
        for (base, bad) in [
            ("https://h/b.git", "../../evil/c.git"),
            ("https://h/b.git", "../../../etc"),
            ("git@h:b.git", "../../c"),
            ("https://h/b.git", "/etc/passwd"),
            ("https://h/b.git", "file:///etc"),
            ("https://h/b.git", "-u./x"),
            ("https://h/b.git", "ext::sh"),
            ("https://h/b.git", "../"),
        ] {
            assert_eq!(join(base, bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn secrets_stay_with_their_host() {
        struct Some1;
        impl Secrets for Some1 {
            fn get(&self, id: &str) -> Result<Option<Vec<u8>>, crate::SecretError> {
                Ok(match id {
                    "GIT_AUTH_TOKEN" => Some(b"general\n".to_vec()),
                    "GIT_AUTH_HEADER.b" => Some(b"Bearer b".to_vec()),
                    _ => None,
                })
            }
        }
        let secrets: Arc<dyn Secrets> = Arc::new(Some1);
        let at = |s: &str| Location::parse(s).unwrap();
        let main = at("https://a/r.git");
        let header = async |c: Result<Credentials, Error>| c.unwrap().header;
        let general = Some(format!("Basic {}", BASE64_STANDARD.encode("x-access-token:general")));
        assert_eq!(header(Credentials::of(&main, &secrets).await).await, general);
        assert_eq!(
            header(Credentials::of(&at("https://b/r.git"), &secrets).await).await.as_deref(),
            Some("Bearer b")
        );
        let sub = async |s: &str| Credentials::of_submodule(&at(s), &main, &secrets).await.unwrap().header;
        assert_eq!(sub("https://a/x.git").await, general);
        assert_eq!(sub("https://b/x.git").await.as_deref(), Some("Bearer b"));
        assert_eq!(sub("https://c/x.git").await, None);
        assert_eq!(sub("http://a/x.git").await, None);
        assert_eq!(sub("ssh://a/x.git").await, None);
    }
}
