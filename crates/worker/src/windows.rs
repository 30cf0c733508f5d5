//! Layers of Windows images: how they are told from others, and what may be in them.
//!
//! On disk such a layer is a folder with `Files`, which is drive C, and perhaps `Hives`. Plans have paths of that kind
//! already, so steps do nothing special but to check names. The note in a snapshot's record says how to pack it.

use crate::copy::io;
use crate::snapshotter::folders;
use layer::pack::Form;
use rustix::fs::FileType;
use sandbox::RootDir;
use solver::ErrorKind;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use store::{LocalStore, SnapshotId, SnapshotMeta};

/// Key and value of the note.
const NOTE: (&str, &str) = ("layer-form", "windows");

/// The form of layers of images for an operating system.
pub fn form_of(os: &str) -> Form {
    if os == "windows" { Form::Windows } else { Form::Unix }
}

/// What is noted of a layer of that form.
pub fn meta(form: Form) -> SnapshotMeta {
    let extra = match form {
        Form::Unix => BTreeMap::new(),
        Form::Windows => BTreeMap::from([(NOTE.0.to_string(), NOTE.1.to_string())]),
    };
    SnapshotMeta { extra, ..SnapshotMeta::default() }
}

/// The form of a layer in the store.
pub fn form(store: &LocalStore, id: &SnapshotId) -> store::Result<Form> {
    let noted = store.snapshot(id)?.extra.get(NOTE.0).is_some_and(|value| value == NOTE.1);
    Ok(if noted { Form::Windows } else { Form::Unix })
}

/// Whether Windows could have the files of the new layer `upper` beside those of `base`: it takes names that differ in
/// case only for the same one, some for devices, and it has neither pipes nor devices among its files.
pub(crate) fn check(store: &LocalStore, upper: &Path, base: &[SnapshotId]) -> Result<(), ErrorKind> {
    let own = RootDir::open_path(upper).map_err(io)?;
    let lowers = folders(store, base)?;
    let lowers = lowers.iter().map(RootDir::open_path).collect::<Result<Vec<_>, _>>().map_err(io)?;
    let mut todo = vec![PathBuf::from(oci::windows::FILES)];
    while let Some(dir) = todo.pop() {
        match own.symlink_metadata(&dir) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => {}
            Ok(_) => continue,
            Err(e) if crate::is_missing(&e) => continue,
            Err(e) => return Err(io(e)),
        }
        let mut seen: HashMap<String, OsString> = HashMap::new();
        let mut gone: HashSet<OsString> = HashSet::new();
        for entry in own.read_dir(&dir).map_err(io)? {
            let path = dir.join(&entry.name);
            let stat = own.symlink_metadata(&path).map_err(io)?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind.is_char_device() && stat.st_rdev == 0 {
                gone.insert(entry.name);
                continue;
            }
            if !kind.is_file() && !kind.is_dir() && !kind.is_symlink() {
                return Err(ErrorKind::with_hint(
                    format!(
                        "{} is neither a file nor a folder nor a link, and Windows has nothing else",
                        shown(&path)
                    ),
                    "leave it out, in .dockerignore or with --exclude",
                ));
            }
            let name = entry.name.to_str().ok_or("is not in UTF-8".to_string());
            let name = name.and_then(|n| oci::windows::check_name(n).map(|()| n).map_err(|e| e.to_string()));
            let name = name.map_err(|reason| {
                ErrorKind::with_hint(
                    format!("a Windows image can't have {}: its name {reason}", shown(&path)),
                    "rename it, or leave it out, in .dockerignore or with --exclude",
                )
            })?;
            if let Some(other) = seen.insert(oci::windows::folded(name), entry.name.clone()) {
                return Err(collision(&path, &dir.join(other), "rename one of them"));
            }
            if kind.is_dir() {
                todo.push(path);
            }
        }
        for lower in &lowers {
            match lower.symlink_metadata(&dir) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => {}
                Ok(_) => break,
                Err(e) if crate::is_missing(&e) => continue,
                Err(e) => return Err(io(e)),
            }
            for entry in lower.read_dir(&dir).map_err(io)? {
                if gone.contains(&entry.name) {
                    continue;
                }
                let stat = lower.symlink_metadata(dir.join(&entry.name)).map_err(io)?;
                if FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == 0 {
                    gone.insert(entry.name);
                    continue;
                }
                let Some(name) = entry.name.to_str() else { continue };
                if let Some(new) = seen.get(&oci::windows::folded(name))
                    && *new != entry.name
                {
                    let hint = "write the name as it is in the base image";
                    return Err(collision(&dir.join(new), &dir.join(&entry.name), hint));
                }
            }
        }
    }
    Ok(())
}

fn collision(new: &Path, other: &Path, hint: &str) -> ErrorKind {
    let message = format!(
        "{} and {} differ in case only, which is the same name for Windows",
        shown(new),
        shown(other)
    );
    ErrorKind::with_hint(message, hint)
}

/// A path of a layer as people on Windows write it.
fn shown(path: &Path) -> String {
    let within = path.strip_prefix(oci::windows::FILES).unwrap_or(path);
    format!("C:\\{}", within.display().to_string().replace('/', "\\"))
}
