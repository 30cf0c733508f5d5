//! Base operating system images, made from a distribution's packages.
//!
//! For machines that reach a mirror but no registry: `debian:bookworm` is bootstrapped natively, its
//! packages verified against the archive's key, and configured by dpkg in our own sandbox. Archives and Windows image
//! files bring others.

mod wim;

pub use self::wim::Choice;

use crate::blobs::StoreSink;
use crate::{Error, ErrorKind, Session, images};
use debian::{Architecture, Bootstrap, ChrootCommand, ChrootOutput, ChrootRunner, Event, Exit};
use digest::Digest;
use oci::{ImageConfig, Platform, Reference};
use sandbox::{MountFd, RootDir, SandboxSpec, Status, Stdio};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use store::{Expected, RefV1};

/// Tags of `debian` that can be made here (each also with `-slim`); only hints rely on it.
pub const DEBIAN_TAGS: [&str; 9] =
    ["latest", "stable", "oldstable", "testing", "sid", "bullseye", "bookworm", "trixie", "forky"];

/// What to install and from where.
#[derive(Debug, Clone)]
pub struct InstallRequest {
    /// `debian:bookworm`.
    pub name: Reference,
    pub platform: Platform,
    pub mirror: Option<String>,
    pub include: Vec<String>,
    pub keyring: Option<PathBuf>,
    /// Accept a release that is past its date (sid between updates).
    pub ignore_expiry: bool,
    /// Make it anew although it is installed.
    pub force: bool,
    pub proxies: debian::Proxies,
    pub now: std::time::SystemTime,
}

/// What was installed.
#[derive(Debug, Clone)]
pub struct Installed {
    pub name: Reference,
    pub version: String,
    pub digest: Digest,
    pub id: Digest,
    pub packages: usize,
}

/// Whether a base image is made of packages here, or has to come from elsewhere.
pub fn is_made_here(name: &Reference) -> bool {
    name.familiar_name() == "debian"
}

/// Fetch a base image from its registry, layers and all. `None` if it is installed already and `force` is off.
pub async fn fetch(
    session: &Session,
    name: &Reference,
    platform: &Platform,
    force: bool,
    progress: Arc<dyn registry::Progress>,
) -> Result<Option<Installed>, Error> {
    if !force && session.store.get_ref(&name.to_string())?.is_some() {
        return Ok(None);
    }
    let pulled = images::pull(session, name, platform, progress).await.map_err(|mut e| {
        e.message = format!(
            "there is no way to make {} here, and it can't be fetched: {}",
            name.familiar(),
            e.message
        );
        e.maybe_hint(Some(
            "debian:SUITE can be made, such as debian:bookworm; `ctrbuild os-image find` lists what there is",
        ))
    })?;
    Ok(Some(Installed {
        name: name.clone(),
        version: version(&pulled.image.config.value, name),
        digest: pulled.top().digest,
        id: pulled.image.id(),
        packages: 0,
    }))
}

/// The version of a base image as people know it.
fn version(config: &ImageConfig, name: &Reference) -> String {
    let label = config.config.labels.get(crate::containers::VERSION).filter(|v| !v.is_empty());
    let version = label.cloned().or_else(|| config.os_version.clone());
    version.unwrap_or_else(|| name.tag().unwrap_or_default().to_string())
}

/// What an import did.
#[derive(Debug, Clone, Default)]
pub struct Imported {
    pub installed: Vec<Installed>,
    /// What was installed already.
    pub present: Vec<Reference>,
}

/// The name belongs to an image that is not the one of the `source`.
fn is_another(name: &Reference, old: &RefV1, source: &str) -> Error {
    let message = format!(
        "{} is already installed (use --force): it is another image ({})",
        name.familiar(),
        old.target.digest.short()
    );
    Error::new(ErrorKind::Conflict, message)
        .hint(format!("--force moves the name to the image of the {source}"))
}

/// Whether a file begins as Windows image files do.
fn is_wim(mut file: impl Read) -> bool {
    let mut magic = [0; ::wim::MAGIC.len()];
    file.read_exact(&mut magic).is_ok() && magic == ::wim::MAGIC
}

/// Install base images from an archive, a layout or a Windows image file. `name` is for an archive with a single image;
/// `choice` for a Windows image file, of whose images one is installed. Every digest is checked before the first name
/// changes.
pub fn import(
    session: &Session,
    source: images::LoadSource<'_>,
    name: Option<&Reference>,
    choice: Option<&Choice>,
    force: bool,
) -> Result<Imported, Error> {
    let scratch = session.store.root().join("tmp");
    let loaded = match source {
        images::LoadSource::Path(path) => {
            if std::fs::File::open(path).is_ok_and(is_wim) {
                return wim::import(session, path, name, choice, force);
            }
            exporter::open(path, &scratch, Default::default()).map_err(|e| {
                let mut error = Error::from(e);
                let shown = path.display().to_string();
                if !error.message.contains(&shown) {
                    error.message = format!("{shown}: {}", error.message);
                }
                error
            })?
        }
        images::LoadSource::Stream(mut reader) => {
            let mut begin = Vec::new();
            let read = reader.by_ref().take(::wim::MAGIC.len() as u64).read_to_end(&mut begin);
            read.map_err(|e| Error::world(format!("can't read the archive: {e}")))?;
            if is_wim(&begin[..]) {
                return Err(Error::new(ErrorKind::Recipe, "a Windows image file can't come from a stream")
                    .hint("save it to a file first: its data are in no order"));
            }
            exporter::open_reader(
                Box::new(std::io::Cursor::new(begin).chain(reader)),
                &scratch,
                Default::default(),
            )?
        }
    };
    if choice.is_some() {
        return Err(Error::new(
            ErrorKind::Recipe,
            "--index is for Windows image files, and this is an archive",
        )
        .hint("leave it out: all images of an archive are installed"));
    }
    let mut wanted = Vec::new();
    let mut done = Imported::default();
    for image in loaded.images() {
        let names = match (name, loaded.images().len()) {
            (Some(name), 1) => vec![name.clone()],
            (Some(_), n) => {
                return Err(Error::new(
                    ErrorKind::Recipe,
                    format!("there are {n} images in the archive, and one name"),
                )
                .hint("leave out --name: they get the names that they have in the archive"));
            }
            (None, _) if image.references.is_empty() => {
                return Err(Error::new(ErrorKind::Recipe, "an image in the archive has no name")
                    .hint("give it one: --name NAME:VERSION"));
            }
            (None, _) => image.references.clone(),
        };
        for name in names {
            match session.store.get_ref(&name.to_string())? {
                Some(old)
                    if !force
                        && old.target.digest == image.content.digest()
                        && old.kind == images::KIND_BASE =>
                {
                    done.present.push(name);
                }
                Some(old) if !force && old.target.digest != image.content.digest() => {
                    return Err(is_another(&name, &old, "archive"));
                }
                _ => wanted.push((name, image)),
            }
        }
    }
    let images: Vec<exporter::LoadedImage> = wanted.iter().map(|(_, image)| (*image).clone()).collect();
    loaded.ingest(&images, &StoreSink::new(&session.store))?;
    for (name, image) in wanted {
        let inner = images::images_of(&session.store, &image.content.top)?;
        for image in &inner {
            images::remember_layers(&session.store, image)?;
        }
        let target = images::target(&image.content.top);
        session.store.set_ref(&name.to_string(), target, images::KIND_BASE, &Expected::Any)?;
        let first = inner.first();
        done.installed.push(Installed {
            version: first.map(|i| version(&i.config.value, &name)).unwrap_or_default(),
            digest: image.content.digest(),
            id: first.map_or(image.content.digest(), oci::Image::id),
            packages: 0,
            name,
        });
    }
    Ok(done)
}

/// Runs dpkg in our sandbox, straight in the folder that becomes the layer.
struct Sandboxed {
    runtime: sandbox::Runtime,
    emulator: Option<sandbox::Emulator>,
}

impl ChrootRunner for Sandboxed {
    fn run(
        &self,
        command: &ChrootCommand<'_>,
    ) -> Result<ChrootOutput, Box<dyn std::error::Error + Send + Sync>> {
        let folder = RootDir::open_path(command.root)?;
        let root = MountFd::clone_of(&folder, sandbox::Access::ReadWrite)?;
        let mut spec = SandboxSpec::new(root, command.argv);
        spec.env = command.env.iter().map(|(n, v)| (n.into(), v.into())).collect();
        spec.network = sandbox::Network::None;
        spec.emulator = self.emulator.clone();
        if !command.stdin.is_empty() {
            // A step has no standard input: a shell opens a file in its place.
            let target = "/dev/ctrbuild-stdin";
            let kind =
                sandbox::MountKind::File { content: command.stdin.to_vec(), mode: 0o400, uid: 0, gid: 0 };
            spec.mounts.push(sandbox::Mount::new(target, kind));
            let script = ["/bin/sh", "-c", "exec \"$@\" < /dev/ctrbuild-stdin", "sh"].map(Into::into);
            spec.args = script.into_iter().chain(spec.args).collect();
        }
        let (mut reader, writer) = std::io::pipe()?;
        let child = self.runtime.spawn(spec, Stdio::merged(writer.into())?)?;
        let mut log = Vec::new();
        reader.read_to_end(&mut log)?;
        let exit = match child.wait()?.status {
            Status::Code(code) => Exit::Code(code),
            Status::Signal(signal) => Exit::Signal(signal),
            Status::OutOfMemory => Exit::Signal(9),
            Status::TimedOut => Exit::Signal(15),
        };
        Ok(ChrootOutput { exit, log })
    }
}

impl From<debian::Error> for Error {
    fn from(e: debian::Error) -> Self {
        Error::world(crate::chain(&e)).maybe_hint(e.hint())
    }
}

/// Install a base image. `None` if it is installed already and `force` is off.
pub async fn install(
    session: &Session,
    request: InstallRequest,
    observe: Arc<dyn Fn(Event) + Send + Sync>,
) -> Result<Option<Installed>, Error> {
    let name = request.name.clone();
    if name.familiar_name() != "debian" {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("there is no way to make {} here", name.familiar()),
        )
        .hint("debian:SUITE is known, such as debian:bookworm; others can be pulled from a registry"));
    }
    let tag = name.tag().unwrap_or("stable");
    let suite = match tag {
        "latest" => "stable",
        tag => tag,
    };
    let (suite, variant) = match suite.strip_suffix("-slim") {
        Some(suite) => (suite, debian::Variant::Slim),
        None => (suite, debian::Variant::Minbase),
    };
    if !request.force && session.store.get_ref(&name.to_string())?.is_some() {
        return Ok(None);
    }
    let arch = Architecture::from_oci(&request.platform.architecture, request.platform.variant.as_deref())?;
    let cache = session.store.root().join("os-image");
    let mut bootstrap = Bootstrap::new(suite, arch, cache, request.now);
    bootstrap.variant = variant;
    bootstrap.include = request.include.clone();
    bootstrap.proxies = request.proxies.clone();
    bootstrap.keyrings = request.keyring.iter().cloned().collect();
    if request.ignore_expiry {
        bootstrap.expiry = debian::Expiry::Ignore;
    }
    if let Some(mirror) = &request.mirror {
        bootstrap.mirror = mirror.trim_end_matches('/').to_string();
        bootstrap.security_mirror = security_mirror(&bootstrap.mirror);
    }
    let fetched = bootstrap.fetch(&observe).await?;
    let session = session.clone();
    par::blocking(move || {
        let runner =
            Sandboxed { runtime: sandbox::Runtime::new()?, emulator: worker::emulator(&request.platform) };
        let mut report = None;
        let mut config = ImageConfig::scratch(&request.platform);
        config.config.env =
            vec![format!("PATH={}", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")];
        config.config.cmd = Some(vec!["bash".into()]);
        let epoch = request.now.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let created_by = format!("ctrbuild os-image install {}", name.familiar());
        config.created = Some(oci::rfc3339(epoch as i64, 0));
        config.history.push(oci::History {
            created: config.created.clone(),
            created_by,
            comment: format!("from {}", bootstrap.mirror),
            ..oci::History::default()
        });
        let image = images::from_folder(&session, &name, images::KIND_BASE, config, |folder, config| {
            let done = fetched.install(folder, &runner, &|e| observe(e))?;
            // The release's date, so that the same release gives the same image.
            let created = Some(oci::rfc3339(done.epoch as i64, 0));
            config.created = created.clone();
            for entry in &mut config.history {
                entry.created = created.clone();
            }
            let labels = &mut config.config.labels;
            labels.insert("org.opencontainers.image.ref.name".into(), name.familiar_name());
            labels.insert(crate::containers::VERSION.into(), done.version.clone());
            labels.insert(crate::containers::PUBLISHER.into(), "Debian".into());
            report = Some(done);
            Ok(())
        })?;
        let report = report.ok_or_else(|| Error::world("internal error: nothing was installed"))?;
        Ok(Some(Installed {
            name,
            version: report.version,
            digest: image.manifest.digest,
            id: image.id(),
            packages: report.packages.len(),
        }))
    })
    .await
}

/// The security archive beside a mirror of the main one.
fn security_mirror(mirror: &str) -> String {
    match mirror.strip_suffix("/debian") {
        Some(base) => format!("{base}/debian-security"),
        None => debian::DEFAULT_SECURITY_MIRROR.to_string(),
    }
}
