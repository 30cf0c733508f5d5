//! What to make, and its first half: everything that needs the network.

use crate::arch::Architecture;
use crate::error::{Error, Result};
use crate::fetch::{Expected, Fetcher, Proxies, blocking, without_credentials};
use crate::index::Index;
use crate::install::Report;
use crate::pgp::{Keyring, verify_cleartext};
use crate::release::{IndexFile, Release};
use crate::resolve::{Reason, minbase, order, resolve};
use crate::runner::ChrootRunner;
use digest::Digest;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Debian's own content delivery network.
pub const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";
/// The same for security updates.
pub const DEFAULT_SECURITY_MIRROR: &str = "http://deb.debian.org/debian-security";

/// Where the archive keys usually are; the first that exists is used.
const KEYRINGS: &[&str] = &[
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/etc/apt/trusted.gpg.d",
    "/etc/apt/trusted.gpg",
];

/// How much of each package goes into the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Variant {
    /// Essential and required packages and apt, whole.
    #[default]
    Minbase,
    /// The same without manuals, documentation and translations, also for packages installed later.
    Slim,
}

/// What to do about release files that say they are out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expiry {
    #[default]
    Enforce,
    /// For mirrors that are no longer updated: everything else is still checked.
    Ignore,
}

/// One more suite to take packages from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraSource {
    pub mirror: String,
    pub suite: String,
}

/// Suites besides the main one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ExtraSources {
    /// `-updates` and `-security` where the suite has them: all but sid, unstable and experimental.
    #[default]
    Usual,
    None,
    These(Vec<ExtraSource>),
}

/// A base image to make. Fill it with struct update syntax from [`Bootstrap::new`].
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// Suite or code name, such as `bookworm`, `stable`, `sid`.
    pub suite: String,
    /// `http://`, `https://` or `file://` address of the archive's root.
    pub mirror: String,
    /// The same of the security archive.
    pub security_mirror: String,
    pub extra: ExtraSources,
    /// Usually `main` alone.
    pub components: Vec<String>,
    pub arch: Architecture,
    pub variant: Variant,
    /// More packages by name.
    pub include: Vec<String>,
    /// Keyring files; empty means the usual places of the host.
    pub keyrings: Vec<PathBuf>,
    /// Archives and indices are kept here between runs; several processes may share it.
    pub cache_dir: PathBuf,
    pub proxies: Proxies,
    /// For expiry checks.
    pub now: SystemTime,
    pub expiry: Expiry,
    /// Files fetched at the same time, at least 1.
    pub downloads: usize,
    /// Threads that unpack, at least 1.
    pub threads: usize,
}

impl Bootstrap {
    /// The defaults: Debian's own mirrors, component `main`, the usual extra suites and keyrings.
    pub fn new(
        suite: impl Into<String>,
        arch: Architecture,
        cache_dir: impl Into<PathBuf>,
        now: SystemTime,
    ) -> Self {
        Bootstrap {
            suite: suite.into(),
            mirror: DEFAULT_MIRROR.into(),
            security_mirror: DEFAULT_SECURITY_MIRROR.into(),
            extra: ExtraSources::Usual,
            components: vec!["main".into()],
            arch,
            variant: Variant::Minbase,
            include: Vec::new(),
            keyrings: Vec::new(),
            cache_dir: cache_dir.into(),
            proxies: Proxies::default(),
            now,
            expiry: Expiry::Enforce,
            downloads: 8,
            threads: std::thread::available_parallelism().map_or(2, usize::from),
        }
    }
}

/// What happens, for progress displays. Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A release file is there and its signature is good.
    Release { url: String, codename: String, version: Option<String>, signers: Vec<String> },
    /// A suite of the usual extra ones does not serve this architecture.
    SuiteSkipped { suite: String, why: String },
    /// A package index is read.
    Index { url: String, size: u64 },
    /// What will be installed.
    Resolved { packages: usize, bytes: u64 },
    /// Bytes of packages that have arrived so far, also those from the cache.
    Downloading { done: u64, total: u64 },
    /// A package is unpacked; `done` of `total` packages.
    Unpacked { package: String, done: usize, total: usize },
    /// A step inside the new root begins.
    Step { what: String },
    /// What a step printed.
    Log { text: String },
}

/// One suite with a good release file.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub mirror: String,
    pub suite: String,
    pub release: Release,
    /// Of the bytes of `InRelease`.
    pub digest: Digest,
}

/// One package archive in the cache.
#[derive(Debug, Clone)]
pub(crate) struct Fetchable {
    pub name: String,
    pub version: String,
    pub architecture: String,
    pub expected: Expected,
    pub size: u64,
    /// Addresses in order of preference.
    pub urls: Vec<String>,
    pub path: PathBuf,
    pub reason: Reason,
    /// Part of the minimal set, which is unpacked without dpkg.
    pub base: bool,
    /// Names of packages that must be configured before this one is unpacked.
    pub pre_depends: Vec<String>,
    pub protected: bool,
}

/// Everything that an image needs, verified and on disk. The second half is [`Fetched::install`].
#[derive(Debug, Clone)]
pub struct Fetched {
    pub(crate) bootstrap: Bootstrap,
    pub(crate) sources: Vec<Source>,
    /// What must be there first comes first.
    pub(crate) packages: Vec<Fetchable>,
    pub(crate) took: Duration,
}

impl Fetched {
    /// sha256 of the main suite's `InRelease`, as signed.
    pub fn release_digest(&self) -> Digest {
        self.sources[0].digest
    }

    /// The main suite's release file.
    pub fn release(&self) -> &Release {
        &self.sources[0].release
    }

    /// A digest of everything that decides the result: all release files, the architecture, the variant and
    /// the names and hashes of all packages. Equal digests give equal images.
    pub fn identity(&self) -> Digest {
        let mut text = String::from("debian-image-v1\n");
        let mut add = |part: &str| text += &format!("{}:{part}\n", part.len());
        add(self.bootstrap.arch.as_str());
        add(match self.bootstrap.variant {
            Variant::Minbase => "minbase",
            Variant::Slim => "slim",
        });
        for source in &self.sources {
            add(&without_credentials(&source.mirror));
            add(&source.suite);
            add(&source.digest.to_string());
        }
        for package in &self.packages {
            add(&package.name);
            add(&package.expected.digest.to_string());
        }
        Digest::of(text.as_bytes())
    }
}

/// Bounds for files whose size is not signed, or that a release file promises.
const RELEASE_LIMIT: u64 = 32 << 20;
const INDEX_LIMIT: u64 = 1 << 30;

pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A suite name becomes a part of an address and of files: letters, digits and a few signs.
pub(crate) fn check_name(kind: &'static str, name: &str) -> Result<()> {
    let ok = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+/".contains(&b))
        && !name.split('/').any(|p| matches!(p, "" | "." | ".."));
    if ok { Ok(()) } else { Err(Error::Name { kind, name: name.into() }) }
}

/// Reads the keyrings given, or the first of the usual ones.
pub(crate) fn load_keyring(files: &[PathBuf]) -> Result<Keyring> {
    let usual: Vec<PathBuf>;
    let files = if files.is_empty() {
        let first = KEYRINGS.iter().map(Path::new).find(|p| p.exists()).ok_or(Error::NoKeyring)?;
        usual = if first.is_dir() {
            let mut all: Vec<PathBuf> = std::fs::read_dir(first)
                .map_err(Error::io("read", first))?
                .filter_map(|e| Some(e.ok()?.path()))
                .filter(|p| p.extension().is_some_and(|e| e == "gpg" || e == "asc"))
                .collect();
            all.sort();
            all
        } else {
            vec![first.to_path_buf()]
        };
        &usual
    } else {
        files
    };
    let mut ring = Keyring::default();
    for path in files {
        let mut data = Vec::new();
        std::fs::File::open(path)
            .and_then(|f| f.take(64 << 20).read_to_end(&mut data))
            .map_err(Error::io("read", path))?;
        ring.extend(Keyring::parse(&data).map_err(|source| Error::Keyring { path: path.clone(), source })?);
    }
    if ring.fingerprints().is_empty() { Err(Error::NoKeyring) } else { Ok(ring) }
}

/// Unpacks an index of known name.
fn unpack_index(path: &Path, name: &str) -> Result<String> {
    let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
    let reader: Box<dyn Read> = if name.ends_with(".xz") {
        Box::new(liblzma::read::XzDecoder::new(file))
    } else if name.ends_with(".gz") {
        Box::new(flate2::read::GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut data = Vec::new();
    let n = reader
        .take(INDEX_LIMIT)
        .read_to_end(&mut data)
        .map_err(|e| Error::malformed(format!("package index {name}"), e.to_string()))?;
    if n as u64 >= INDEX_LIMIT {
        return Err(Error::malformed(format!("package index {name}"), "it unpacks to too much"));
    }
    String::from_utf8(data).map_err(|_| Error::malformed(format!("package index {name}"), "it is no UTF-8"))
}

type Progress = dyn Fn(Event) + Send + Sync;

impl Bootstrap {
    /// Both halves. `dest` is an empty folder or does not exist yet; after an error it holds a part.
    pub async fn run(
        &self,
        dest: &Path,
        runner: Arc<dyn ChrootRunner>,
        progress: Arc<Progress>,
    ) -> Result<Report> {
        let fetched = self.fetch(&progress).await?;
        let dest = dest.to_path_buf();
        blocking(move || fetched.install(&dest, &*runner, &*progress)).await
    }

    /// Fetches and checks release files, indices and packages. Cancel-safe: what is whole is kept.
    pub async fn fetch(&self, progress: &Arc<Progress>) -> Result<Fetched> {
        let start = Instant::now();
        check_name("suite", &self.suite)?;
        for component in &self.components {
            check_name("component", component)?;
        }
        let keyring = {
            let files = self.keyrings.clone();
            blocking(move || load_keyring(&files)).await?
        };
        let fetcher = Fetcher::new(&self.cache_dir, &self.proxies)?;
        let main = self.source(&fetcher, &keyring, &self.mirror, &self.suite, &**progress).await?;
        if !main.release.architectures.iter().any(|a| a == self.arch.as_str()) {
            let what =
                format!("packages for {} (it has {})", self.arch, main.release.architectures.join(", "));
            return Err(Error::NotOffered { suite: self.suite.clone(), what });
        }
        let mut sources = vec![main];
        for extra in self.extra_sources(&sources[0].release) {
            check_name("suite", &extra.suite)?;
            let source = self.source(&fetcher, &keyring, &extra.mirror, &extra.suite, &**progress).await?;
            if source.release.architectures.iter().any(|a| a == self.arch.as_str()) {
                sources.push(source);
            } else {
                let why = format!("it has no packages for {}", self.arch);
                progress(Event::SuiteSkipped { suite: extra.suite, why });
            }
        }
        let mut texts = Vec::new();
        for (number, source) in sources.iter().enumerate() {
            for component in &self.components {
                for text in self.indices(&fetcher, source, component, number, &**progress).await? {
                    texts.push((text, number));
                }
            }
        }
        let mut packages = {
            let this = self.clone();
            let sources = sources.clone();
            let fetcher = fetcher.clone();
            blocking(move || this.choose(&texts, &sources, &fetcher)).await?
        };
        let total: u64 = packages.iter().map(|p| p.size).sum();
        progress(Event::Resolved { packages: packages.len(), bytes: total });
        self.download(&fetcher, &packages, total, progress).await?;
        // A fixed order, whatever came first from the network.
        packages.shrink_to_fit();
        Ok(Fetched { bootstrap: self.clone(), sources, packages, took: start.elapsed() })
    }

    fn extra_sources(&self, release: &Release) -> Vec<ExtraSource> {
        match &self.extra {
            ExtraSources::None => Vec::new(),
            ExtraSources::These(list) => list.clone(),
            ExtraSources::Usual => {
                let name = &release.codename;
                if matches!(&**name, "" | "sid" | "experimental" | "rc-buggy") {
                    return Vec::new();
                }
                // Up to Debian 10 the security suite was called `buster/updates`.
                let old = ["wheezy", "jessie", "stretch", "buster"].contains(&&**name);
                let security = if old { format!("{name}/updates") } else { format!("{name}-security") };
                vec![
                    ExtraSource { mirror: self.mirror.clone(), suite: format!("{name}-updates") },
                    ExtraSource { mirror: self.security_mirror.clone(), suite: security },
                ]
            }
        }
    }

    async fn source(
        &self,
        fetcher: &Fetcher,
        keyring: &Keyring,
        mirror: &str,
        suite: &str,
        progress: &Progress,
    ) -> Result<Source> {
        let mirror = mirror.trim_end_matches('/').to_string();
        let url = format!("{mirror}/dists/{suite}/InRelease");
        let data = fetcher.small(&url, RELEASE_LIMIT).await?;
        let url = without_credentials(&url);
        let now = seconds(self.now);
        let (keyring, shown) = (keyring.clone(), url.clone());
        let (release, digest, signers) = blocking(move || {
            let verified = verify_cleartext(&data, &keyring, now)
                .map_err(|source| Error::Signature { url: shown.clone(), source })?;
            let release = Release::parse(&verified.text, &shown)?;
            Ok((release, Digest::of(&data), verified.signers))
        })
        .await?;
        let answers = release.answers_to(suite)
            // `Suite: oldstable-security` and code name `bookworm-security`; older ones say plain `buster`.
            || suite.strip_suffix("/updates").is_some_and(|s| release.answers_to(s));
        if !answers {
            let found = format!("{} ({})", release.suite, release.codename);
            return Err(Error::WrongSuite { url, wanted: suite.into(), found });
        }
        if self.expiry == Expiry::Enforce {
            if let Some(end) = release.valid_until.filter(|end| *end < now) {
                let why = format!("out of date since {} days", (now - end) / 86_400 + 1);
                return Err(Error::Stale { url, why });
            }
            if release.date > now + 86_400 {
                return Err(Error::Stale { url, why: "from the future".into() });
            }
        }
        progress(Event::Release {
            url,
            codename: release.codename.clone(),
            version: release.version.clone(),
            signers,
        });
        Ok(Source { mirror, suite: suite.into(), release, digest })
    }

    async fn indices(
        &self,
        fetcher: &Fetcher,
        source: &Source,
        component: &str,
        number: usize,
        progress: &Progress,
    ) -> Result<Vec<String>> {
        let mut texts = Vec::new();
        for choices in source.release.package_indices(&self.arch, component) {
            let Some(name) = choices.into_iter().next() else {
                // An extra suite may have nothing for a component, the main one may not.
                if number == 0 && texts.is_empty() {
                    let what = format!("component `{component}` for {}", self.arch);
                    return Err(Error::NotOffered { suite: source.suite.clone(), what });
                }
                continue;
            };
            let IndexFile { digest, size } = source.release.files[&name];
            if size > INDEX_LIMIT {
                return Err(Error::malformed(format!("package index {name}"), "its size is beyond reason"));
            }
            let base = format!("{}/dists/{}", source.mirror, source.suite);
            let mut urls = vec![format!("{base}/{name}")];
            if source.release.by_hash {
                let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                urls.insert(0, format!("{base}/{folder}/by-hash/SHA256/{}", digest.hex()));
            }
            let path = fetcher.blob(&urls, Expected { digest, size }, &|_| {}).await?;
            let shown = without_credentials(&urls[urls.len() - 1]);
            texts.push(blocking(move || unpack_index(&path, &name)).await?);
            progress(Event::Index { url: shown, size });
        }
        Ok(texts)
    }

    /// Solves dependencies; the result is in order of installation.
    fn choose(
        &self,
        texts: &[(String, usize)],
        sources: &[Source],
        fetcher: &Fetcher,
    ) -> Result<Vec<Fetchable>> {
        let texts: Vec<(&str, usize)> = texts.iter().map(|(t, n)| (&**t, *n)).collect();
        let index = Index::read(&texts, &self.arch)?;
        let suites: Vec<&str> = sources.iter().map(|s| &*s.suite).collect();
        let suites = suites.join(", ");
        let base_roots = minbase(&index);
        if base_roots.is_empty() || index.get("dpkg").is_none() {
            let what = format!("package dpkg for {}", self.arch);
            return Err(Error::NotOffered { suite: self.suite.clone(), what });
        }
        let mut roots = base_roots.clone();
        roots.extend(self.include.iter().map(String::as_str));
        let all = resolve(&index, &roots, &suites)?;
        // What the minimal set needs out of the whole choice, so that the two never disagree.
        let mut base = BTreeSet::new();
        let mut open: Vec<&str> = base_roots;
        while let Some(name) = open.pop() {
            if base.insert(name) {
                open.extend(crate::resolve::needs(name, &all.packages)?);
            }
        }
        let mut fetchable = Vec::with_capacity(all.packages.len());
        for name in order(&all.packages)? {
            let package = all.packages[name];
            let mut pre_depends = Vec::new();
            for relation in package.relations(crate::index::Field::PreDepends)?.into_iter().flatten() {
                let who = all.packages.values().filter(|p| p.answers(&relation));
                pre_depends.extend(who.map(|p| p.name.to_string()));
            }
            fetchable.push(Fetchable {
                name: name.to_string(),
                version: package.version.to_string(),
                architecture: package.architecture.to_string(),
                expected: Expected { digest: package.digest, size: package.size },
                size: package.size,
                urls: vec![format!("{}/{}", sources[package.source].mirror, package.filename)],
                path: fetcher.place(&package.digest),
                reason: all.reasons.get(name).copied().unwrap_or(Reason::Dependency),
                base: base.contains(name),
                pre_depends,
                protected: package.essential || package.priority == crate::index::Priority::Required,
            });
        }
        Ok(fetchable)
    }

    async fn download(
        &self,
        fetcher: &Fetcher,
        packages: &[Fetchable],
        total: u64,
        progress: &Arc<Progress>,
    ) -> Result<()> {
        let done = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let mut open: Vec<Fetchable> = packages.to_vec();
        // The largest first (popped from the end), so that the last one is a short one.
        open.sort_by(|a, b| a.size.cmp(&b.size).then_with(|| b.name.cmp(&a.name)));
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            while tasks.len() < self.downloads.max(1) {
                let Some(package) = open.pop() else { break };
                let (fetcher, progress, done) = (fetcher.clone(), Arc::clone(progress), Arc::clone(&done));
                tasks.spawn(async move {
                    let arrived = move |n: u64| {
                        let before = done.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
                        progress(Event::Downloading { done: (before + n).min(total), total });
                    };
                    fetcher.blob(&package.urls, package.expected, &arrived).await.map(drop)
                });
            }
            match tasks.join_next().await {
                // Dropping the set ends the other downloads.
                Some(Ok(result)) => result?,
                Some(Err(e)) => return Err(Error::Internal(e.to_string())),
                None => return Ok(()),
            }
        }
    }
}
