//! Where base images can be had: distributions' mirrors, and repositories of registries.

use crate::{Error, ErrorKind, Session};
use debian::Architecture;
use futures_util::stream::{self, StreamExt};
use oci::{Document, Platform, Reference};
use std::path::PathBuf;
use std::time::SystemTime;

/// Repositories whose tags are base images, known without being configured. They are asked only by name.
pub const REPOSITORIES: [&str; 3] = [
    "mcr.microsoft.com/windows/nanoserver",
    "mcr.microsoft.com/windows/servercore",
    "mcr.microsoft.com/windows/server",
];
/// Documents that are asked for at the same time.
const AT_ONCE: usize = 8;

/// A place to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A mirror of Debian, by its address.
    Debian(String),
    /// A repository, by its name without a tag; asked always, or where its name is asked for.
    Repository { name: Reference, always: bool },
}

impl Source {
    /// `https://mirror/debian`, `file:///folder`, or `HOST/REPOSITORY`.
    pub fn parse(text: &str) -> Result<Source, Error> {
        if text.contains("://") {
            return Ok(Source::Debian(text.trim_end_matches('/').to_string()));
        }
        let name = text.parse::<Reference>().map_err(|e| {
            Error::new(ErrorKind::Recipe, format!("invalid source {text:?}: {e}"))
                .hint("name the address of a mirror, or a repository of a registry")
        })?;
        Ok(Source::Repository { name: name.name_only(), always: true })
    }

    /// How people know it.
    pub fn title(&self) -> String {
        match self {
            Source::Debian(mirror) => mirror.clone(),
            Source::Repository { name, .. } => name.familiar_name(),
        }
    }
}

/// What else is needed to ask.
#[derive(Debug, Clone)]
pub struct FindRequest {
    /// `debian`, `debian:bookworm`, `nanoserver`, `windows/nanoserver:ltsc2022`; nothing is everything.
    pub name: Option<String>,
    pub sources: Vec<Source>,
    pub keyring: Option<PathBuf>,
    pub proxies: debian::Proxies,
    pub now: SystemTime,
    /// Most tags of a repository.
    pub limit: usize,
}

/// A base image that can be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Available {
    /// For `os-image install NAME:VERSION`.
    pub name: String,
    pub version: String,
    pub platforms: Vec<String>,
    pub source: String,
    pub summary: String,
}

/// What was found, and the sources that could not be asked.
#[derive(Debug, Default)]
pub struct Offer {
    pub images: Vec<Available>,
    pub failed: Vec<(String, Error)>,
}

/// Ask all sources that may have what is looked for, at the same time.
pub async fn find(session: &Session, request: &FindRequest) -> Result<Offer, Error> {
    let (name, version) = match request.name.as_deref().map(|n| n.rsplit_once(':').unwrap_or((n, ""))) {
        None => ("", ""),
        // `host:5000/name` has no version.
        Some((_, after)) if after.contains('/') => (request.name.as_deref().unwrap_or_default(), ""),
        Some(parts) => parts,
    };
    let wanted = |source: &&Source| match source {
        Source::Debian(_) => name.is_empty() || "debian".contains(name),
        Source::Repository { name: own, always } => match name {
            "" => *always,
            name => own.repository().contains(name),
        },
    };
    let sources: Vec<&Source> = request.sources.iter().filter(wanted).collect();
    if sources.is_empty() {
        let known: Vec<String> = request.sources.iter().map(Source::title).collect();
        return Err(Error::new(ErrorKind::NotFound, format!("no source has base images called {name}"))
            .hint(format!("there are {}; --source names others", known.join(", "))));
    }
    let asked = sources.into_iter().map(|source| async move {
        let found = match source {
            Source::Debian(mirror) => suites(session, request, mirror, version).await,
            Source::Repository { name, .. } => repository(session, name, version, request.limit).await,
        };
        (source.title(), found)
    });
    let mut offer = Offer::default();
    for (title, found) in futures_util::future::join_all(asked).await {
        match found {
            Ok(images) => offer.images.extend(images),
            Err(e) => offer.failed.push((title, e)),
        }
    }
    Ok(offer)
}

async fn suites(
    session: &Session,
    request: &FindRequest,
    mirror: &str,
    version: &str,
) -> Result<Vec<Available>, Error> {
    let one = [version.trim_end_matches("-slim")];
    let names = match version {
        "" => debian::KNOWN_SUITES,
        "latest" => &["stable"],
        _ => &one[..],
    };
    let keyrings: Vec<PathBuf> = request.keyring.iter().cloned().collect();
    let cache = session.store.root().join("os-image");
    let found = debian::find_suites(mirror, names, &keyrings, &cache, &request.proxies, request.now).await?;
    Ok(found
        .into_iter()
        .map(|suite| {
            let platforms = suite.architectures.iter().filter_map(|a| Architecture::new(a).ok());
            let platforms = platforms.map(|a| {
                let (architecture, variant) = a.to_oci();
                let variant = variant.map(str::to_string);
                Platform { variant, ..Platform::new("linux", architecture) }.normalize().short()
            });
            let mut summary = suite.description.unwrap_or_else(|| "Debian".into());
            if let Some(version) = suite.version.filter(|v| !summary.contains(v.as_str())) {
                summary.push_str(&format!(" {version}"));
            }
            summary.push_str(&format!(" ({})", suite.suite));
            if suite.expired {
                summary.push_str(", out of date");
            }
            Available {
                name: "debian".into(),
                version: suite.codename,
                platforms: platforms.collect(),
                source: suite.mirror,
                summary,
            }
        })
        .collect())
}

async fn repository(
    session: &Session,
    name: &Reference,
    version: &str,
    limit: usize,
) -> Result<Vec<Available>, Error> {
    let client = (session.registry)()?;
    let mut tags = client.tags(name).await?;
    tags.retain(|t| version.is_empty() || t == version || t.starts_with(&format!("{version}-")));
    let all = tags.len();
    // Names of versions sort by age, more or less; the newest are wanted.
    tags.sort_by(|a, b| b.cmp(a));
    tags.truncate(limit);
    let more = all - tags.len();
    let asked = stream::iter(tags).map(|tag| {
        let (client, name) = (client.clone(), name.clone());
        async move {
            let platforms = match name.with_tag(&tag) {
                Ok(reference) => platforms(&client, &reference).await,
                Err(_) => Vec::new(),
            };
            (tag, platforms)
        }
    });
    let found: Vec<(String, Vec<Platform>)> = asked.buffered(AT_ONCE).collect().await;
    let last = found.len().saturating_sub(1);
    let each = found.into_iter().enumerate().map(|(n, (tag, platforms))| {
        let versions: std::collections::BTreeSet<&str> =
            platforms.iter().filter_map(|p| p.os_version.as_deref()).collect();
        let mut summary = match platforms.first() {
            Some(p) if p.os == "windows" => {
                format!("Windows {}", versions.into_iter().collect::<Vec<_>>().join(", "))
            }
            _ => format!("tag of {}", name.path()),
        };
        if n == last && more > 0 {
            summary.push_str(&format!("; {more} more tags (--limit)"));
        }
        Available {
            name: name.familiar_name(),
            version: tag,
            platforms: platforms.iter().map(ToString::to_string).collect(),
            source: name.domain().to_string(),
            summary,
        }
    });
    Ok(each.collect())
}

/// The platforms of an image, as far as its registry tells.
async fn platforms(client: &registry::Client, reference: &Reference) -> Vec<Platform> {
    match client.document(reference).await {
        Ok(Document::Index(index)) => {
            index.value.images().filter_map(|entry| entry.platform.clone()).collect()
        }
        Ok(Document::Manifest(manifest)) => {
            let blob = &manifest.value.config;
            let config = client.blob_bytes(reference, blob, oci::MAX_CONFIG_BYTES).await.ok();
            let config = config.and_then(|c| oci::ImageConfig::parse(&c, &blob.media_type).ok());
            config.map(|c| c.value.platform()).into_iter().collect()
        }
        Err(_) => Vec::new(),
    }
}
