//! Base images of Windows image files (WIM).
//!
//! One image of the file becomes one layer: `Files`, which is drive C, with everything that the file knows, in the order
//! of names. Registry hives stay where Windows has them, `Files/Windows/System32/config`: a base layer has no `Hives`,
//! and Windows makes those of the files when it takes the layer (hcsshim, Microsoft's Install-ContainerOSImage). The same
//! file gives the same bytes; nothing of the machine or the moment goes in.
//!
//! Deliberately not here: `UtilityVM`, which runs isolated containers and is another image of the file, extended attributes,
//! object ids and times of access.

use super::{Imported, Installed, is_another, version};
use crate::{Error, ErrorKind, Session, compose, images, lookup};
use digest::DiffId;
use layer::known::{KnownEntry, KnownKind, KnownLayer};
use oci::media::Format;
use oci::{Descriptor, ImageConfig, Platform, Reference};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;
use store::{Expected, LayerBlobV1, LayerRecordV1};
use wim::{FileTime, ImageInfo, Kind, Target, Tree, WindowsInfo};

/// Which image of a file with several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Numbers begin with 1.
    Index(u32),
    Name(String),
}

impl Choice {
    /// A number, or else a name.
    pub fn parse(text: &str) -> Choice {
        text.parse().map_or_else(|_| Choice::Name(text.to_string()), Choice::Index)
    }
}

type Wim = wim::Wim<BufReader<File>>;

/// Install an image of the file at `path`.
pub(super) fn import(
    session: &Session,
    path: &Path,
    name: Option<&Reference>,
    choice: Option<&Choice>,
    force: bool,
) -> Result<Imported, Error> {
    let named = |mut e: Error| {
        e.message = format!("{}: {}", path.display(), e.message);
        e
    };
    let file = File::open(path).map_err(|e| Error::world(format!("can't open {}: {e}", path.display())))?;
    let mut wim = Wim::open(BufReader::new(file)).map_err(|e| named(e.into()))?;
    let index = choose(wim.images(), choice).map_err(named)?;
    let info = wim.images().get(&index).cloned().unwrap_or_default();
    let (platform, os_version) = platform(index, &info).map_err(named)?;
    let name = match name {
        Some(name) => name.clone(),
        None => name_of(index, &info, &os_version).map_err(named)?,
    };
    let tree = wim.tree(index).map_err(|e| named(e.into()))?;
    let hash = wim.hash(index).map_err(|e| named(e.into()))?;
    let mut config = configure(&platform, &os_version, &info, &tree);
    let comment = format!("image {:?} of a Windows image file, its metadata {hash}", info.name);
    config.history.push(oci::History {
        created: config.created.clone(),
        created_by: "ctrbuild os-image import".into(),
        comment,
        ..oci::History::default()
    });
    let mut done = Imported::default();
    if !force && is_installed(session, &name, &config)? {
        done.present.push(name);
        return Ok(done);
    }
    let layer = write(session, &mut wim, &tree).map_err(named)?;
    config.rootfs.diff_ids = vec![layer.1];
    let image = compose::assemble(&session.store, &config, &[layer.0], Format::Oci, BTreeMap::new())?;
    let target = images::target(&oci::Document::Manifest(Box::new(image.manifest.clone())));
    session.store.set_ref(&name.to_string(), target, images::KIND_BASE, &Expected::Any)?;
    done.installed.push(Installed {
        version: version(&image.config.value, &name),
        digest: image.manifest.digest,
        id: image.id(),
        packages: 0,
        name,
    });
    Ok(done)
}

/// The number of the image that was asked for, or of the only one.
fn choose(images: &BTreeMap<u32, ImageInfo>, choice: Option<&Choice>) -> Result<u32, Error> {
    let list = || {
        let shown = images.iter().map(|(index, info)| match info.name.as_str() {
            "" => format!("{index} (without a name)"),
            name => format!("{index} {name:?}"),
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    let none = |what: String| {
        let e = Error::new(ErrorKind::NotFound, format!("it has no image {what}, but {}", list()));
        e.hint("choose one by its number or name: --index N")
    };
    let matching: Vec<u32> = match choice {
        None => images.keys().copied().collect(),
        Some(Choice::Index(wanted)) => images.keys().copied().filter(|i| i == wanted).collect(),
        Some(Choice::Name(wanted)) => {
            let by = |i: &ImageInfo| i.name == *wanted || i.display_name == *wanted;
            images.iter().filter(|(_, info)| by(info)).map(|(index, _)| *index).collect()
        }
    };
    match (matching.as_slice(), choice) {
        ([one], _) => Ok(*one),
        ([], None) => Err(Error::new(ErrorKind::Recipe, "it has no image")),
        ([], Some(Choice::Index(wanted))) => Err(none(wanted.to_string())),
        ([], Some(Choice::Name(wanted))) => Err(none(format!("{wanted:?}"))),
        (several, _) => {
            let message = format!("it has {} images: {}", several.len(), list());
            let hint = match several.contains(&2) && images.len() == 2 {
                // As Microsoft's own base images were.
                true => {
                    "choose one by its number or name, such as --index 1: the second one is often the utility VM"
                }
                false => "choose one by its number or name, such as --index 1",
            };
            Err(Error::new(ErrorKind::Recipe, message).hint(hint))
        }
    }
}

/// What the image is for, and its version.
fn platform(index: u32, info: &ImageInfo) -> Result<(Platform, String), Error> {
    let unknown = |what: &str| {
        let message = format!("image {index} ({:?}) does not say {what}", info.name);
        Error::new(ErrorKind::Recipe, message).hint(format!(
            "if it is a Windows, tell it: wimlib-imagex info FILE {index} --image-property WINDOWS/ARCH=9 \
             --image-property WINDOWS/VERSION/MAJOR=10 (and MINOR, BUILD, SPBUILD)"
        ))
    };
    let windows = info.windows.as_ref().ok_or_else(|| unknown("which Windows it is"))?;
    let WindowsInfo { architecture, version: (major, minor, build, revision), .. } = windows;
    if *major == 0 || *build == 0 {
        return Err(unknown("which Windows it is"));
    }
    // PROCESSOR_ARCHITECTURE_… of Windows.
    let architecture = match architecture {
        Some(0) => "386",
        Some(5) => "arm",
        Some(9) => "amd64",
        Some(12) => "arm64",
        None => return Err(unknown("its architecture")),
        Some(other) => {
            let message = format!("image {index} is for an architecture that no image has ({other})");
            return Err(Error::new(ErrorKind::Recipe, message));
        }
    };
    let mut platform = Platform::new("windows", architecture);
    if architecture == "arm" {
        platform.variant = Some("v7".into());
    }
    Ok((platform, format!("{major}.{minor}.{build}.{revision}")))
}

/// A name that follows from the image: `Nano Server` of 10.0.14393.5 is `nano-server:10.0.14393.5`.
fn name_of(index: u32, info: &ImageInfo, os_version: &str) -> Result<Reference, Error> {
    let lower = info.name.to_ascii_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("-");
    let name = format!("{name}:{os_version}").parse::<Reference>();
    name.map_err(|_| {
        let message = format!("image {index} has no name that an image could have ({:?})", info.name);
        Error::new(ErrorKind::Recipe, message).hint("give it one: --name NAME:VERSION")
    })
}

fn configure(platform: &Platform, os_version: &str, info: &ImageInfo, tree: &Tree) -> ImageConfig {
    let mut config = ImageConfig::scratch(platform);
    config.os_version = Some(os_version.to_string());
    let time = if info.modified == FileTime::default() { info.created } else { info.modified };
    if time != FileTime::default() {
        let (seconds, nanos) = time.unix();
        config.created = Some(oci::rfc3339(seconds, nanos));
    }
    let shell = ["Windows", "System32", "cmd.exe"];
    let is_there = tree.entries.iter().enumerate().any(|(i, entry)| {
        entry.name.eq_ignore_ascii_case(shell[2]) && tree.path(i).eq_ignore_ascii_case(&shell.join("/"))
    });
    if is_there {
        config.config.cmd = Some(vec![r"c:\windows\system32\cmd.exe".into()]);
    }
    let labels = &mut config.config.labels;
    labels.insert(crate::containers::VERSION.into(), os_version.to_string());
    labels.insert(crate::containers::PUBLISHER.into(), "Microsoft".into());
    if !info.name.is_empty() {
        labels.insert("org.opencontainers.image.title".into(), info.name.clone());
    }
    config
}

/// Whether the base image `name` was made of the same image of a file.
fn is_installed(session: &Session, name: &Reference, config: &ImageConfig) -> Result<bool, Error> {
    let Some(old) = session.store.get_ref(&name.to_string())? else { return Ok(false) };
    let document = lookup::document(&session.store, &old.target.digest)?;
    let same = |document: &oci::Document| -> Result<bool, Error> {
        let found = images::images_of(&session.store, document)?;
        Ok(found.iter().any(|image| {
            let without = ImageConfig { rootfs: config.rootfs.clone(), ..image.config.value.clone() };
            without == *config
        }))
    };
    if document.as_ref().map(same).transpose()?.unwrap_or_default() {
        // As with archives, what has the kind of another image becomes a base image.
        return Ok(old.kind == images::KIND_BASE);
    }
    Err(is_another(name, &old, "file"))
}

/// Pack the layer into a blob of the store.
fn write(session: &Session, wim: &mut Wim, tree: &Tree) -> Result<(Descriptor, DiffId), Error> {
    let store = &session.store;
    let compression = layer::compress::Compression::GZIP;
    let mut out = layer::compress::Compressor::new(store.ingest(None)?, compression);
    let stats = layer::known::write_known(&mut out, |layer| entries(wim, tree, layer))?;
    let (mut blob, _) = out.finish().map_err(|e| Error::world(format!("can't compress a layer: {e}")))?;
    blob.flush().map_err(|e| Error::world(format!("can't write a layer: {e}")))?;
    let (digest, size) = blob.commit()?;
    let media_type = oci::media::OCI_LAYER_GZIP;
    store.put_layer(LayerRecordV1 {
        diff_id: stats.diff_id,
        size: Some(stats.size),
        snapshot: None,
        blobs: vec![LayerBlobV1 {
            media_type: media_type.to_string(),
            digest,
            size,
            annotations: BTreeMap::new(),
        }],
        created: 0,
    })?;
    Ok((Descriptor::new(media_type, digest, size), stats.diff_id))
}

/// All entries of the layer, in the order of the tree.
fn entries(wim: &mut Wim, tree: &Tree, layer: &mut KnownLayer<'_>) -> Result<(), Error> {
    let root = oci::windows::FILES.trim_start_matches('/');
    let path_of = |index: usize| match index {
        0 => root.to_string(),
        _ => format!("{root}/{}", tree.path(index)),
    };
    let mut names: HashSet<(u32, String)> = HashSet::new();
    let mut links = HashMap::new();
    for (i, entry) in tree.entries.iter().enumerate() {
        let path = path_of(i);
        let refused = |reason: &str| Error::new(ErrorKind::Recipe, format!("{path}: {reason}"));
        if entry.name.starts_with(".wh.") {
            return Err(refused("a layer can't have a file whose name begins with .wh."));
        }
        if i > 0 && !names.insert((entry.parent, oci::windows::folded(&entry.name))) {
            return Err(refused(
                "its name differs from another one in case only, which is the same for Windows",
            ));
        }
        let target = target_of(wim, entry.kind).map_err(|e| refused(&e.message).maybe_hint(e.hint))?;
        let data = match entry.kind {
            Kind::File { data } => data,
            _ => None,
        };
        let mut first = None;
        if let Some(group) = entry.link_group {
            let is_same = |other: &usize| {
                let other = &tree.entries[*other];
                (other.attributes, &other.streams) == (entry.attributes, &entry.streams)
                    && tree.descriptor(other) == tree.descriptor(entry)
            };
            // Some writers use a number for several files.
            first =
                Some(*links.entry((group, data)).or_insert(i)).filter(|first| *first != i && is_same(first));
        }
        let to = first.map(path_of);
        let kind = match (entry.kind, &target, &to) {
            (_, _, Some(to)) => KnownKind::HardLink { to },
            (Kind::Folder, ..) => KnownKind::Folder,
            (_, Some(Target::Symlink(target)), _) => KnownKind::Symlink { target },
            (_, Some(Target::MountPoint(target)), _) => KnownKind::MountPoint { target },
            _ => KnownKind::File { size: wim.size(data.as_ref()).map_err(|e| within(&path, e))? },
        };
        let modified = time(entry.modified).unwrap_or((0, 0));
        let known = KnownEntry {
            path: &path,
            kind,
            attributes: entry.attributes,
            descriptor: tree.descriptor(entry),
            created: time(entry.created).unwrap_or(modified),
            modified,
        };
        layer.entry(&known)?;
        if to.is_some() {
            continue;
        }
        if let Some(hash) = data {
            wim.copy(&hash, |piece| Ok::<_, Error>(layer.data(piece)?)).map_err(|e| within(&path, e))?;
        }
        for stream in &entry.streams {
            let path = format!("{path}:{}", stream.name);
            let size = wim.size(stream.data.as_ref()).map_err(|e| within(&path, e))?;
            layer.entry(&KnownEntry { path: &path, kind: KnownKind::Stream { size }, ..known })?;
            if let Some(hash) = stream.data {
                wim.copy(&hash, |piece| Ok::<_, Error>(layer.data(piece)?)).map_err(|e| within(&path, e))?;
            }
        }
    }
    Ok(())
}

/// An error about the file at `path`.
fn within(path: &str, e: impl Into<Error>) -> Error {
    let e = e.into();
    Error { message: format!("{path}: {}", e.message), ..e }
}

/// Where a reparse point leads. What is none leads nowhere.
fn target_of(wim: &mut Wim, kind: Kind) -> Result<Option<Target>, Error> {
    let Kind::Reparse { tag, is_literal, data } = kind else { return Ok(None) };
    let bytes = match data {
        Some(hash) => wim.read(&hash, wim::MOST_REPARSE)?,
        None => Vec::new(),
    };
    let place = |target: String| match wim.has_fixed_links() && !is_literal {
        true => wim::on_drive_c(&target),
        false => target,
    };
    Ok(Some(match Target::parse(tag, &bytes)? {
        Target::Symlink(target) => Target::Symlink(place(target)),
        Target::MountPoint(target) => Target::MountPoint(place(target)),
        Target::Other => {
            let message =
                format!("it is a reparse point ({tag:#010x}), and layers have links and mount points only");
            return Err(
                Error::new(ErrorKind::Recipe, message).hint("leave it out when the image is captured")
            );
        }
    }))
}

/// Seconds and nanoseconds since 1970, within what readers of layers can count in nanoseconds; `None` where it was not
/// set.
fn time(time: FileTime) -> Option<(i64, u32)> {
    const MOST: i64 = i64::MAX / 1_000_000_000;
    let (seconds, nanos) = time.unix();
    match seconds {
        _ if time == FileTime::default() => None,
        seconds if seconds <= -MOST => Some((-MOST, 0)),
        seconds if seconds >= MOST => Some((MOST, 0)),
        seconds => Some((seconds, nanos)),
    }
}
