//! Outputs: where a built image goes, in the forms that `docker buildx build -o` knows.

use crate::annotation::Annotations;
use crate::blobs::ImageBlobs;
use crate::compose::{self, Compression, Recompress};
use crate::{Error, ErrorKind, Session};
use exporter::Named;
use oci::media::Format;
use oci::{Content, Image, Platform, Reference};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::SnapshotId;
use worker::RemoteLayer;

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub kind: OutputKind,
    pub compression: Compression,
    pub convert: Convert,
    /// No time in a layer is later than SOURCE_DATE_EPOCH, where that is given.
    pub rewrite_timestamp: bool,
    /// OCI media types; `None` is the default of the kind.
    pub oci_media_types: Option<bool>,
    /// Further names.
    pub names: Vec<String>,
    pub annotations: Annotations,
}

/// Which layers get the compression if they have another one already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Convert {
    #[default]
    None,
    /// A compression was named: all but those of the base image, whatever an earlier output made of them.
    Own,
    /// `force-compression`.
    All,
}

/// What kind of output it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputKind {
    /// The local store; `push` also sends it to the registries of its names.
    Image { push: bool },
    /// An OCI layout as a tar.
    OciArchive { dest: Destination },
    /// An OCI layout as a folder.
    OciFolder { dest: PathBuf },
    /// What `docker load` reads.
    Docker { dest: Destination },
    /// The root file system as a tar.
    Tar { dest: Destination, split: Option<bool> },
    /// The root file system as a folder.
    Local { dest: PathBuf, split: Option<bool> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    Stdout,
    File(PathBuf),
}

impl Destination {
    fn parse(text: &str) -> Self {
        if text == "-" { Destination::Stdout } else { Destination::File(PathBuf::from(text)) }
    }
}

impl Output {
    /// The local store alone.
    pub fn store() -> Self {
        Output {
            kind: OutputKind::Image { push: false },
            compression: Compression::AsIs,
            convert: Convert::None,
            rewrite_timestamp: false,
            oci_media_types: None,
            names: Vec::new(),
            annotations: Annotations::default(),
        }
    }

    /// Parse `type=KIND,key=value,…`; a bare path is a folder, `-` a tar on standard output.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |message: String| {
            Error::new(ErrorKind::Recipe, format!("invalid --output {text:?}: {message}"))
                .hint("write type=oci|docker|tar|local|image|registry[,dest=PATH][,…], or a folder")
        };
        let mut out = Output::store();
        if !text.contains('=') {
            out.kind = match text {
                "" => return Err(wrong("it is empty".into())),
                "-" => OutputKind::Tar { dest: Destination::Stdout, split: None },
                path => OutputKind::Local { dest: PathBuf::from(path), split: None },
            };
            return Ok(out);
        }
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        for field in split_csv(text) {
            let (key, value) = field.split_once('=').ok_or_else(|| wrong(format!("{field:?} has no `=`")))?;
            // Names of annotations are not ours.
            let (key, lower) = (key.trim(), key.trim().to_lowercase());
            let is_annotation = lower.starts_with("annotation");
            fields.insert(if is_annotation { key.to_string() } else { lower }, value.to_string());
        }
        let boolean = |fields: &mut BTreeMap<String, String>, key: &str| match fields.remove(key).as_deref() {
            None => Ok(None),
            Some("true" | "1" | "") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(wrong(format!("{key} is true or false, not {other:?}"))),
        };
        let kind = fields.remove("type").unwrap_or_default();
        let dest = fields.remove("dest");
        let need = |dest: Option<String>| dest.ok_or_else(|| wrong("dest is missing".into()));
        let push = boolean(&mut fields, "push")?.unwrap_or(false);
        let as_tar = boolean(&mut fields, "tar")?.unwrap_or(true);
        let split = boolean(&mut fields, "platform-split")?;
        let force = boolean(&mut fields, "force-compression")?.unwrap_or(false);
        out.rewrite_timestamp = boolean(&mut fields, "rewrite-timestamp")?.unwrap_or(false);
        out.oci_media_types = boolean(&mut fields, "oci-mediatypes")?;
        out.kind = match kind.as_str() {
            "image" => OutputKind::Image { push },
            "registry" => OutputKind::Image { push: true },
            "oci" if !as_tar => OutputKind::OciFolder { dest: PathBuf::from(need(dest)?) },
            "oci" => {
                OutputKind::OciArchive { dest: dest.map_or(Destination::Stdout, |d| Destination::parse(&d)) }
            }
            "docker" => OutputKind::Docker { dest: Destination::parse(&need(dest)?) },
            "tar" => {
                OutputKind::Tar { dest: dest.map_or(Destination::Stdout, |d| Destination::parse(&d)), split }
            }
            "local" => OutputKind::Local { dest: PathBuf::from(need(dest)?), split },
            "" => return Err(wrong("type is missing".into())),
            other => return Err(wrong(format!("there is no type {other:?}"))),
        };
        let (kind, level) = (fields.remove("compression"), fields.remove("compression-level"));
        let compression = Compression::parse(kind.as_deref(), level.as_deref()).map_err(wrong)?;
        out.convert = match (force, compression) {
            (true, _) => Convert::All,
            (false, Some(_)) => Convert::Own,
            (false, None) => Convert::None,
        };
        out.compression = compression.unwrap_or(match out.kind {
            OutputKind::Image { push: false } => Compression::AsIs,
            _ => Compression::Gzip { level: None },
        });
        if let Some(names) = fields.remove("name") {
            out.names = names.split(',').map(str::to_string).collect();
        }
        for (key, value) in std::mem::take(&mut fields) {
            if !out.annotations.take_option(&key, &value).map_err(wrong)? {
                return Err(wrong(format!("there is no option {key:?}")));
            }
        }
        Ok(out)
    }

    /// Whether it writes to standard output, which then belongs to it alone.
    pub fn uses_stdout(&self) -> bool {
        matches!(
            &self.kind,
            OutputKind::OciArchive { dest: Destination::Stdout }
                | OutputKind::Docker { dest: Destination::Stdout }
                | OutputKind::Tar { dest: Destination::Stdout, .. }
        )
    }

    /// Whether it only sends an image as it is, so that layers that a registry has need not be here.
    pub(crate) fn needs_no_files(&self) -> bool {
        matches!(self.kind, OutputKind::Image { push: true })
            && self.convert != Convert::All
            && !self.rewrite_timestamp
    }

    /// Whether what it is to carry has a place in images of these platforms. Files alone carry nothing.
    pub(crate) fn check(&self, platforms: &[&Platform]) -> Result<(), Error> {
        match self.kind {
            OutputKind::Tar { .. } | OutputKind::Local { .. } => Ok(()),
            _ => self.annotations.check(platforms),
        }
    }

    /// Docker's own documents have no annotations.
    fn format(&self) -> Format {
        match self.oci_media_types {
            Some(false) if self.annotations.is_empty() => Format::Docker,
            _ => Format::Oci,
        }
    }
}

/// Fields of a CSV line; quotes protect commas.
pub(crate) fn split_csv(text: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(String::new()),
            c => {
                if let Some(last) = out.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    out
}

/// A built image of one platform, before export.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    pub platform: Platform,
    pub layers: Vec<SnapshotId>,
    /// As the local store has it.
    pub image: Image,
    /// SOURCE_DATE_EPOCH, in seconds since 1970.
    pub epoch: Option<i64>,
    /// Layers at the bottom that are those of a base image.
    pub base_layers: usize,
    /// Where the layers are that are not here: all of them, or none.
    pub elsewhere: Vec<RemoteLayer>,
}

/// What an export made.
#[derive(Debug, Clone)]
pub struct Exported {
    /// What was written or pushed; none for root file systems.
    pub content: Option<Content>,
    pub names: Vec<Reference>,
}

/// Write `images` to one output. `names` come from `--tag`.
pub async fn export(
    session: &Session,
    output: &Output,
    images: &[BuiltImage],
    names: &[Reference],
    progress: Arc<dyn registry::Progress>,
) -> Result<Exported, Error> {
    let mut names = names.to_vec();
    for name in &output.names {
        names.push(crate::images::parse_name(name)?);
    }
    if let OutputKind::Tar { split, .. } | OutputKind::Local { split, .. } = &output.kind {
        let split = split.unwrap_or(images.len() > 1);
        let (session, output, images) = (session.clone(), output.clone(), images.to_vec());
        par::blocking(move || root_file_systems(&session, &output, &images, split)).await?;
        return Ok(Exported { content: None, names });
    }
    let (s, o, i) = (session.clone(), output.clone(), images.to_vec());
    let packed = par::blocking(move || {
        i.iter()
            .map(|b| {
                let recompress = match o.convert {
                    Convert::All => Recompress::All,
                    // Layers that are elsewhere stay as they are there.
                    Convert::Own if b.elsewhere.is_empty() => Recompress::From(b.base_layers),
                    _ => Recompress::None,
                };
                let image = match b.epoch.filter(|_| o.rewrite_timestamp) {
                    Some(epoch) => compose::rewrite(&s.store, &b.image, b.base_layers, epoch, o.compression)?,
                    None => b.image.clone(),
                };
                let annotations = o.annotations.manifest(&b.platform);
                compose::pack(&s.store, &image, o.compression, recompress, o.format(), annotations)
            })
            .collect::<Result<Vec<_>, _>>()
    })
    .await?;
    let content = content(&session.store, &packed, output)?;
    match &output.kind {
        OutputKind::Image { push } => {
            keep(session, &content, &names)?;
            if *push {
                for name in &names {
                    for built in images {
                        crate::shared_cache::send(session, name, &built.elsewhere).await?;
                    }
                    crate::images::push_content(session, name, &content, progress.clone()).await?;
                }
            }
        }
        OutputKind::OciArchive { dest } | OutputKind::Docker { dest } => {
            let docker = matches!(output.kind, OutputKind::Docker { .. });
            let named = [Named { references: names.clone(), content: content.clone() }];
            let (source, dest) = (ImageBlobs::of(&session.store, [&content])?, dest.clone());
            par::blocking(move || write_file(&dest, |out| archive(out, &named, &source, docker))).await?;
        }
        OutputKind::OciFolder { dest } => {
            let named = [Named { references: names.clone(), content: content.clone() }];
            let (source, dest) = (ImageBlobs::of(&session.store, [&content])?, dest.clone());
            par::blocking(move || exporter::write_layout(&dest, &named, &source)).await?;
        }
        OutputKind::Tar { .. } | OutputKind::Local { .. } => {}
    }
    Ok(Exported { content: Some(content), names })
}

fn archive(out: &mut dyn Write, named: &[Named], source: &ImageBlobs, docker: bool) -> Result<(), Error> {
    match docker {
        true => exporter::write_docker_archive(out, named, source).map(|_| ())?,
        false => exporter::write_oci_archive(out, named, source).map(|_| ())?,
    }
    Ok(())
}

/// One image, or an index of several.
pub fn content(store: &store::LocalStore, images: &[Image], output: &Output) -> Result<Content, Error> {
    let entry = |image: &Image| {
        let mut entry = image.descriptor();
        if let Some(platform) = &entry.platform {
            entry.annotations.extend(output.annotations.manifest_descriptor(platform));
        }
        entry
    };
    if let [image] = images {
        return Ok(Content { descriptor: entry(image), ..Content::image(image) });
    }
    let entries = images.iter().map(entry).collect();
    let index = oci::mutate::index(entries, output.format(), output.annotations.index());
    store.put_blob(&index.bytes)?;
    let mut content = Content::index(index, images.iter().map(|i| i.manifest.clone()).collect());
    content.descriptor.annotations.extend(output.annotations.index_descriptor());
    Ok(content)
}

/// Point names at an image.
pub fn keep(session: &Session, content: &Content, names: &[Reference]) -> Result<(), Error> {
    let top = &content.top;
    for name in names {
        let target = store::RefTarget {
            media_type: top.media_type().to_string(),
            digest: top.digest(),
            size: top.bytes().len() as u64,
            annotations: BTreeMap::new(),
        };
        session.store.set_ref(
            &name.to_string(),
            target,
            crate::images::KIND_DERIVED,
            &store::Expected::Any,
        )?;
    }
    if names.is_empty() {
        crate::images::keep_untagged(session, content)?;
    }
    Ok(())
}

/// Write a file whole or not at all: under another name first, then renamed.
pub fn write_file<F>(dest: &Destination, write: F) -> Result<(), Error>
where
    F: FnOnce(&mut dyn Write) -> Result<(), Error>,
{
    let failed = |path: &Path, e: io::Error| Error::world(format!("can't write {}: {e}", path.display()));
    match dest {
        Destination::Stdout => {
            let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
            write(&mut out)?;
            out.flush().map_err(|e| failed(Path::new("standard output"), e))
        }
        Destination::File(path) => {
            let mut part = path.clone().into_os_string();
            part.push(format!(".part-{}", std::process::id()));
            let part = PathBuf::from(part);
            // A device or FIFO is written to as it is.
            let special = std::fs::metadata(path).is_ok_and(|m| !m.is_file());
            let to = if special { path.clone() } else { part.clone() };
            let file = File::create(&to).map_err(|e| failed(path, e))?;
            let mut out = BufWriter::with_capacity(1 << 20, file);
            let done = write(&mut out).and_then(|()| out.flush().map_err(|e| failed(path, e)));
            drop(out);
            let done = done.and_then(|()| match special {
                true => Ok(()),
                false => std::fs::rename(&part, path).map_err(|e| failed(path, e)),
            });
            if done.is_err() && !special {
                let _ = std::fs::remove_file(&part);
            }
            done
        }
    }
}

fn platform_folder(platform: &Platform) -> String {
    platform.to_string().replace('/', "_")
}

fn form(built: &BuiltImage) -> layer::pack::Form {
    worker::windows::form_of(&built.image.config.value.os)
}

fn root_file_systems(
    session: &Session,
    output: &Output,
    images: &[BuiltImage],
    split: bool,
) -> Result<(), Error> {
    match &output.kind {
        OutputKind::Local { dest, .. } => {
            for built in images {
                let folder = if split { dest.join(platform_folder(&built.platform)) } else { dest.clone() };
                std::fs::create_dir_all(&folder)
                    .map_err(|e| Error::world(format!("can't make {}: {e}", folder.display())))?;
                if !built.layers.is_empty() {
                    worker::export_folder(
                        &session.snapshotter,
                        &built.layers,
                        &folder,
                        built.epoch,
                        form(built),
                    )
                    .map_err(|e| Error::from(&e))?;
                }
            }
            Ok(())
        }
        OutputKind::Tar { dest, .. } => {
            let prefix = |b: &BuiltImage| {
                if split { format!("{}/", platform_folder(&b.platform)) } else { String::new() }
            };
            let root = |b: &BuiltImage| worker::TarRoot {
                prefix: prefix(b),
                layers: b.layers.clone(),
                epoch: b.epoch,
                form: form(b),
            };
            let roots: Vec<_> = images.iter().map(root).collect();
            write_file(dest, |out| {
                worker::export_tar(&session.snapshotter, &roots, out).map_err(|e| Error::from(&e))
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs() {
        let kind = |s: &str| Output::parse(s).unwrap().kind;
        assert_eq!(kind("out"), OutputKind::Local { dest: "out".into(), split: None });
        assert_eq!(kind("-"), OutputKind::Tar { dest: Destination::Stdout, split: None });
        assert_eq!(
            kind("type=oci,dest=x.tar"),
            OutputKind::OciArchive { dest: Destination::File("x.tar".into()) }
        );
        assert_eq!(kind("type=oci,dest=x,tar=false"), OutputKind::OciFolder { dest: "x".into() });
        assert_eq!(kind("type=registry"), OutputKind::Image { push: true });
        assert_eq!(Output::parse("type=image,\"name=a,b\"").unwrap().names, ["a", "b"]);
        assert_eq!(
            Output::parse("type=image,compression=zstd").unwrap().compression,
            Compression::Zstd { level: None }
        );
        let convert = |s: &str| Output::parse(s).unwrap().convert;
        assert_eq!(convert("type=oci,dest=x"), Convert::None);
        assert_eq!(convert("type=oci,dest=x,compression=zstd"), Convert::Own);
        assert_eq!(convert("type=oci,dest=x,compression-level=9"), Convert::Own);
        assert_eq!(convert("type=oci,dest=x,force-compression=true"), Convert::All);
        assert!(Output::parse("type=oci,dest=x,rewrite-timestamp=true").unwrap().rewrite_timestamp);
        for bad in [
            "",
            "type=x",
            "dest=a",
            "type=docker",
            "type=oci,foo=1",
            "type=image,compression=lzma",
            "type=oci,compression=zstd,compression-level=23",
        ] {
            assert!(Output::parse(bad).is_err(), "{bad}");
        }
    }
}
