//! Root file systems for the outside: as a folder and as a tar.

use crate::copy::{Style, Target};
use crate::select::{Entry, Kind};
use crate::{Snapshotter, hash};
use graph::PathSelector;
use layer::pack::Form;
use sandbox::RootDir;
use solver::ErrorKind;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use store::SnapshotId;

/// Copy the root file system into a folder. Everything belongs to whoever runs the builder; device nodes
/// are left out for those who may not make them. With an `epoch` (seconds since 1970) all times are that. Of Windows
/// images it is drive C.
pub fn export_folder(
    snapshotter: &Snapshotter,
    layers: &[SnapshotId],
    dest: &Path,
    epoch: Option<i64>,
    form: Form,
) -> Result<(), ErrorKind> {
    let tree = snapshotter.tree(layers)?;
    let root = RootDir::open_path(dest).map_err(crate::copy::io)?;
    let owner = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let style = Style { owner: Some(owner), time: epoch, ..Style::default() };
    for mut selected in tree.select(&whole(form))? {
        selected.entries.retain(|e| !matches!(e.kind, Kind::Socket | Kind::Device { .. }));
        renumber(&mut selected.entries);
        Target { root: &root, style: &style }.copy(&tree, &selected, "/")?;
    }
    Ok(())
}

/// Hard-link indices after entries were taken out. Only files are ever linked, and none was.
fn renumber(entries: &mut [Entry]) {
    let mut first: std::collections::HashMap<u64, usize> = std::collections::HashMap::new();
    for (i, entry) in entries.iter_mut().enumerate() {
        if entry.kind != Kind::File {
            continue;
        }
        match entry.hard_link {
            Some(_) => entry.hard_link = first.get(&entry.stamp.inode).copied(),
            None => {
                first.insert(entry.stamp.inode, i);
            }
        }
    }
}

fn failed(e: std::io::Error) -> ErrorKind {
    ErrorKind::other(format!("can't write the tar: {e}"))
}

/// One root file system of a tar.
pub struct TarRoot {
    /// What its names begin with: `linux_amd64/`, or nothing.
    pub prefix: String,
    pub layers: Vec<SnapshotId>,
    /// All times are this, in seconds since 1970.
    pub epoch: Option<i64>,
    pub form: Form,
}

/// All files of an image.
fn whole(form: Form) -> PathSelector {
    match form {
        Form::Unix => PathSelector::everything(),
        Form::Windows => PathSelector::of(oci::windows::FILES),
    }
}

/// Write root file systems to one tar.
pub fn export_tar(
    snapshotter: &Snapshotter,
    roots: &[TarRoot],
    out: &mut dyn Write,
) -> Result<(), ErrorKind> {
    let mut builder = tar::Builder::new(out);
    for root in roots {
        append_root(&mut builder, snapshotter, root)?;
    }
    builder.into_inner().map(|_| ()).map_err(failed)
}

fn append_root<W: Write>(
    builder: &mut tar::Builder<W>,
    snapshotter: &Snapshotter,
    root: &TarRoot,
) -> Result<(), ErrorKind> {
    if root.layers.is_empty() {
        return Ok(());
    }
    let tree = snapshotter.tree(&root.layers)?;
    for selected in tree.select(&whole(root.form))? {
        let prefix = Path::new(&root.prefix);
        let names: Vec<PathBuf> = selected.entries.iter().map(|e| prefix.join(&e.rel)).collect();
        for (entry, name) in selected.entries.iter().zip(&names) {
            if entry.rel.as_os_str().is_empty() || entry.kind == Kind::Socket {
                continue;
            }
            let mtime = root.epoch.map_or(entry.stamp.mtime, |epoch| (epoch, 0));
            let mut header = header_of(entry);
            header.set_mtime(mtime.0.max(0) as u64);
            let mut pax: Vec<(String, Vec<u8>)> = entry
                .xattrs
                .iter()
                .map(|(n, v)| (format!("SCHILY.xattr.{}", n.to_string_lossy()), v.clone()))
                .collect();
            if mtime.1 != 0 {
                pax.push(("mtime".into(), format!("{}.{:09}", mtime.0, mtime.1).into_bytes()));
            }
            if !pax.is_empty() {
                builder
                    .append_pax_extensions(pax.iter().map(|(k, v)| (k.as_str(), v.as_slice())))
                    .map_err(failed)?;
            }
            match (&entry.kind, entry.hard_link) {
                (Kind::File, Some(first)) => {
                    header.set_entry_type(tar::EntryType::Link);
                    builder.append_link(&mut header, name, &names[first]).map_err(failed)?;
                }
                (Kind::File, None) => {
                    header.set_size(entry.size);
                    if entry.size == 0 {
                        builder.append_data(&mut header, name, std::io::empty()).map_err(failed)?;
                    } else {
                        builder.append_data(&mut header, name, hash::open(&tree, entry)?).map_err(failed)?;
                    }
                }
                (Kind::Symlink(text), _) => {
                    builder.append_link(&mut header, name, Path::new(text)).map_err(failed)?;
                }
                (Kind::Dir, _) => {
                    let mut with_slash = name.as_os_str().as_bytes().to_vec();
                    with_slash.push(b'/');
                    let path = Path::new(std::ffi::OsStr::from_bytes(&with_slash)).to_path_buf();
                    builder.append_data(&mut header, path, std::io::empty()).map_err(failed)?;
                }
                _ => builder.append_data(&mut header, name, std::io::empty()).map_err(failed)?,
            }
        }
    }
    Ok(())
}

fn header_of(entry: &Entry) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(entry.mode);
    header.set_uid(u64::from(entry.uid));
    header.set_gid(u64::from(entry.gid));
    header.set_size(0);
    header.set_entry_type(match entry.kind {
        Kind::Dir => tar::EntryType::Directory,
        Kind::File | Kind::Socket => tar::EntryType::Regular,
        Kind::Symlink(_) => tar::EntryType::Symlink,
        Kind::Fifo => tar::EntryType::Fifo,
        Kind::Device { block: true, .. } => tar::EntryType::Block,
        Kind::Device { block: false, .. } => tar::EntryType::Char,
    });
    if let Kind::Device { rdev, .. } = entry.kind {
        // The header of this format always has room for device numbers.
        let _ = header.set_device_major(rustix::fs::major(rdev));
        let _ = header.set_device_minor(rustix::fs::minor(rdev));
    }
    header
}
