//! Settings of the client. Everything that depends on the machine (files, proxies, credentials) is
//! given by the caller; nothing here reads the environment.

use crate::Credentials;
use par::Limits;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How to talk to registries.
#[derive(Clone)]
pub struct Config {
    pub user_agent: String,
    pub credentials: Arc<dyn Credentials>,
    pub trust: Trust,
    /// Registries (`host` or `host:port`) that are not reached by verified TLS. Loopback hosts use
    /// plain HTTP without being named here, unless the folder of certificates knows them.
    pub insecure: BTreeMap<String, Insecure>,
    /// Folders laid out like `/etc/docker/certs.d`: `HOST[:PORT]/{*.crt,*.cert,*.key}`.
    pub certs_dirs: Vec<PathBuf>,
    /// For a domain (`docker.io`), where to read first, as `http://` or `https://` base URLs.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// For a registry host, the hosts of token services that may get its credentials besides itself.
    pub token_services: BTreeMap<String, BTreeSet<String>>,
    /// Where Docker Hub is searched, as a base URL.
    pub search_index: String,
    pub proxy: ProxySettings,
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub retries: Retries,
}

/// A registry without verified TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insecure {
    PlainHttp,
    /// TLS with any certificate.
    UnverifiedTls,
}

/// Where certificates of authorities come from.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// A PEM bundle (`SSL_CERT_FILE`). Where neither this nor `dir` is set, the well-known places of
    /// distributions are tried.
    pub file: Option<PathBuf>,
    /// A folder of PEM files (`SSL_CERT_DIR`).
    pub dir: Option<PathBuf>,
}

/// Proxies as their usual environment variables write them.
#[derive(Debug, Clone, Default)]
pub struct ProxySettings {
    pub http: Option<String>,
    pub https: Option<String>,
    /// Comma-separated hosts, domains and networks that are reached directly.
    pub no_proxy: Option<String>,
}

/// Times after which a peer counts as dead. A transfer as a whole has no limit.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    pub connect: Duration,
    /// Without an answer, or with fewer than 1,024 bytes of a blob.
    pub idle: Duration,
    /// For a whole small answer (a manifest, a token).
    pub document: Duration,
    /// For the registry to accept an upload that was sent to the end.
    pub accept: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(20),
            idle: Duration::from_secs(60),
            document: Duration::from_secs(120),
            accept: Duration::from_secs(600),
        }
    }
}

/// What is done about transient failures.
#[derive(Debug, Clone, Copy)]
pub struct Retries {
    /// Attempts in all, at least one. For a blob they start anew after each mebibyte that arrived.
    pub attempts: u32,
    /// The first pause; each further one is twice as long.
    pub first_pause: Duration,
    /// The longest pause, also where a registry asks for more (`Retry-After`).
    pub longest_pause: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Retries {
            attempts: 6,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(60),
        }
    }
}

impl Retries {
    /// The pause before attempt `n + 1`, after `n` failed ones. A registry that names a longer pause than
    /// the longest one is not waited for: `None`.
    pub(crate) fn pause(&self, n: u32, asked: Option<Duration>) -> Option<Duration> {
        let own = self.first_pause.saturating_mul(1 << n.saturating_sub(1).min(16)).min(self.longest_pause);
        match asked {
            Some(asked) if asked > self.longest_pause => None,
            Some(asked) => Some(asked.max(own)),
            None => Some(own),
        }
    }
}

impl Config {
    /// Defaults: verified TLS, no mirrors, no proxy.
    pub fn new(credentials: Arc<dyn Credentials>) -> Self {
        Config {
            user_agent: "ctrbuild".into(),
            credentials,
            trust: Trust::default(),
            insecure: BTreeMap::new(),
            certs_dirs: Vec::new(),
            mirrors: BTreeMap::new(),
            token_services: BTreeMap::new(),
            search_index: "https://index.docker.io/".into(),
            proxy: ProxySettings::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            retries: Retries::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let r = Retries {
            attempts: 9,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(5),
        };
        let secs = |n, asked| r.pause(n, asked).map(|d| d.as_secs());
        assert_eq!([1, 2, 3, 4, 99].map(|n| secs(n, None)), [1, 2, 4, 5, 5].map(Some));
        assert_eq!(secs(1, Some(Duration::from_secs(3))), Some(3));
        assert_eq!(secs(1, Some(Duration::from_secs(6))), None);
    }
}
