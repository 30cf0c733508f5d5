//! How stacks of layers become root file systems: by overlay, or by copies where overlay is refused.
//!
//! Overlay is refused inside of many containers (whose own root is one), to ordinary users before Linux 5.11, and on
//! file systems that can't be an upper folder. Then each step gets a copy of the layers below, and what it changed
//! is moved into an upper folder afterwards: layers have one form, whoever made them, and one digest.
//!
//! Which way is taken is found out at the first use, by an overlay that does what steps do.

use crate::copy::io;
use crate::select::{Tree, TreeKind};
use crate::{store_error, windows};
use digest::{CacheKey, StableHasher};
use layer::pack::Form;
use layer::stack::{Purpose, Record};
use rustix::fs::{Mode, OFlags};
use sandbox::{Access, Folder, MountFd, Overlay, OverlayOptions, RootDir, Sync, Upper, XattrPrefix};
use solver::ErrorKind;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use store::{Active, LocalStore, RecordV1, SnapshotId, SnapshotMeta};

/// Which way to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SnapshotterKind {
    /// Overlay, and copies where it is refused.
    #[default]
    Auto,
    Overlay,
    Copy,
}

/// Turns stacks of layers into root file systems. Cheap to clone.
#[derive(Clone)]
pub struct Snapshotter {
    store: LocalStore,
    kind: SnapshotterKind,
    found: Arc<OnceLock<Way>>,
}

/// What was found out.
#[derive(Debug, Clone)]
enum Way {
    Overlay,
    /// With the reason, if it was not asked for.
    Copy(Option<String>),
}

/// A root file system that can be written to.
pub struct Prepared {
    mount: MountFd,
    /// The copy and what it was like; nothing for an overlay, which writes to the upper folder by itself.
    copied: Option<(PathBuf, Record)>,
}

impl Prepared {
    /// Files of the root through another descriptor of its mount.
    pub fn root(&self) -> Result<RootDir, ErrorKind> {
        self.mount.root().map_err(io)
    }

    /// Another descriptor of the mount, for a step.
    pub fn mount(&self) -> Result<MountFd, ErrorKind> {
        self.mount.try_clone().map_err(io)
    }

    /// The mount itself, where nothing that is written counts.
    pub fn into_mount(self) -> MountFd {
        self.mount
    }

    /// The mount, for whoever is to have the only descriptor of it, and what is left to be settled then.
    pub fn give(self) -> (MountFd, Unsettled) {
        (self.mount, Unsettled { copied: self.copied })
    }

    /// Everything was written: the upper folder of `active` is complete afterwards. Nothing may use the root any
    /// more.
    pub fn settle(self, active: &Active) -> Result<(), ErrorKind> {
        self.give().1.settle(active)
    }
}

/// A root file system that somebody else writes to.
pub struct Unsettled {
    copied: Option<(PathBuf, Record)>,
}

impl Unsettled {
    /// As [`Prepared::settle`].
    pub fn settle(self, active: &Active) -> Result<(), ErrorKind> {
        let Some((work, record)) = self.copied else { return Ok(()) };
        layer::diff::extract(&work, &record, &active.upper(), marks()).map_err(|e| layer_error("", &e))
    }
}

/// Where overlay's marks are kept here.
pub(crate) fn marks() -> layer::Marks {
    if sandbox::userns::inside() { layer::Marks::User } else { layer::Marks::Trusted }
}

fn options(sync: Sync) -> OverlayOptions {
    let xattrs = if sandbox::userns::inside() { XattrPrefix::User } else { XattrPrefix::Trusted };
    OverlayOptions { xattrs, sync, ..OverlayOptions::default() }
}

/// An error of a layer with its cause, after what was to be done.
pub(crate) fn layer_error(what: &str, e: &layer::Error) -> ErrorKind {
    let mut message = format!("{what}{e}");
    if let Some(cause) = std::error::Error::source(e) {
        message.push_str(&format!(": {cause}"));
    }
    ErrorKind::Other { message, hint: e.hint().map(str::to_string) }
}

/// Folders of a stack, the topmost first, as overlay wants them: it refuses a folder that is there twice. Of
/// a layer that is repeated the topmost says all that the others could.
pub(crate) fn folders(store: &LocalStore, layers: &[SnapshotId]) -> Result<Vec<PathBuf>, ErrorKind> {
    let mut seen = HashSet::new();
    let once = layers.iter().rev().filter(|id| seen.insert(*id));
    once.map(|id| store.snapshot_path(id).map_err(|e| store_error(&e))).collect()
}

impl Snapshotter {
    pub fn new(store: LocalStore, kind: SnapshotterKind) -> Self {
        Snapshotter { store, kind, found: Arc::default() }
    }

    pub fn store(&self) -> &LocalStore {
        &self.store
    }

    /// Why steps work on copies here, if that was not asked for.
    pub fn refusal(&self) -> Option<&str> {
        match self.found.get() {
            Some(Way::Copy(reason)) => reason.as_deref(),
            _ => None,
        }
    }

    fn way(&self) -> &Way {
        self.found.get_or_init(|| match self.kind {
            SnapshotterKind::Overlay => Way::Overlay,
            SnapshotterKind::Copy => Way::Copy(None),
            SnapshotterKind::Auto => match self.probe() {
                Ok(()) => Way::Overlay,
                Err(e) => Way::Copy(Some(e.to_string())),
            },
        })
    }

    /// Whether an overlay in the store can do what steps need: marks of deleted files and of replaced folders.
    fn probe(&self) -> Result<(), ErrorKind> {
        let active = self.store.prepare().map_err(|e| store_error(&e))?;
        let lower = RootDir::open_path(self.scratch(&active, "lower")?).map_err(io)?;
        lower.mkdir("folder", 0o755).map_err(io)?;
        drop(lower.create_file("folder/file", 0o644).map_err(io)?);
        let mount = self.overlay(&active, &[active.scratch().join("lower")], Sync::Volatile)?;
        let root = mount.root().map_err(io)?;
        root.remove_all("folder").map_err(io)?;
        root.mkdir("folder", 0o755).map_err(io)?;
        match root.read_dir("folder").map_err(io)?.is_empty() {
            true => Ok(()),
            false => Err(ErrorKind::other("an overlay does not hide what was replaced")),
        }
    }

    fn scratch(&self, active: &Active, name: &str) -> Result<PathBuf, ErrorKind> {
        let folder = active.scratch().join(name);
        std::fs::create_dir_all(&folder)
            .map_err(|e| ErrorKind::other(format!("can't make {}: {e}", folder.display())))?;
        Ok(folder)
    }

    fn overlay(&self, active: &Active, lowers: &[PathBuf], sync: Sync) -> Result<MountFd, ErrorKind> {
        let (upper, work) = (active.upper(), active.work());
        let upper = Upper { upper: upper.as_path().into(), work: work.as_path().into() };
        Overlay::mount(&as_folders(lowers), Some(upper), options(sync)).map_err(io)
    }

    /// A root file system of `base` whose changes go to `active` once it is settled.
    pub fn prepare(&self, active: &Active, base: &[SnapshotId], sync: Sync) -> Result<Prepared, ErrorKind> {
        let mut lowers = folders(&self.store, base)?;
        match self.way() {
            Way::Overlay => {
                if lowers.is_empty() {
                    lowers.push(self.scratch(active, "empty")?);
                }
                let mount = self.overlay(active, &lowers, sync)?;
                Ok(Prepared { mount, copied: None })
            }
            Way::Copy(_) => {
                let work = self.scratch(active, "root")?;
                // As the upper folder, which is the root of an overlay.
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(&work, std::fs::Permissions::from_mode(0o755))
                    .map_err(|e| ErrorKind::other(format!("can't protect {}: {e}", work.display())))?;
                let lowers: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
                let record = layer::stack::copy(&lowers, &work, marks(), Purpose::Work);
                let record = record.map_err(|e| layer_error("", &e))?;
                let mount = MountFd::root_of(open(&work)?).map_err(io)?;
                Ok(Prepared { mount, copied: Some((work, record)) })
            }
        }
    }

    /// A read-only view of a stack of layers, which must not be empty.
    pub fn view(&self, layers: &[SnapshotId]) -> Result<MountFd, ErrorKind> {
        let lowers = folders(&self.store, layers)?;
        if let ([_], _) | (_, Way::Overlay) = (lowers.as_slice(), self.way()) {
            return Overlay::mount(&as_folders(&lowers), None, options(Sync::default())).map_err(io);
        }
        let merged = self.merged(layers, &lowers)?;
        let folder = self.store.snapshot_path(&merged).map_err(|e| store_error(&e))?;
        MountFd::clone_of(open(&folder)?, Access::ReadOnly).map_err(io)
    }

    /// The files of a stack of layers.
    pub fn tree(&self, layers: &[SnapshotId]) -> Result<Tree, ErrorKind> {
        Ok(Tree { root: self.view(layers)?.root().map_err(io)?, kind: TreeKind::Layers, known: None })
    }

    /// The topmost `changes` layers of a stack as one layer that means the same on top of the others.
    pub fn squash(&self, base: &[SnapshotId], changes: &[SnapshotId]) -> Result<SnapshotId, ErrorKind> {
        let (uppers, lowers) = (folders(&self.store, changes)?, folders(&self.store, base)?);
        let active = self.store.prepare().map_err(|e| store_error(&e))?;
        layer::squash::squash(&as_paths(&uppers), &as_paths(&lowers), &active.upper(), marks())
            .map_err(|e| layer_error("", &e))?;
        // All of a stack are layers of the same image.
        let form = changes.last().map_or(Ok(Form::Unix), |id| windows::form(&self.store, id));
        let meta = windows::meta(form.map_err(|e| store_error(&e))?);
        self.store.commit(active, meta).map_err(|e| store_error(&e))
    }

    /// Copy the files of a stack to the empty folder `dest`, to be worked on by anybody. What [`Snapshotter::take_in`]
    /// needs to know later is returned as text.
    pub fn lay_out(&self, layers: &[SnapshotId], dest: &Path) -> Result<String, ErrorKind> {
        let lowers = folders(&self.store, layers)?;
        let record = layer::stack::copy(&as_paths(&lowers), dest, marks(), Purpose::Work);
        record.map(|r| r.to_text()).map_err(|e| layer_error("", &e))
    }

    /// What was changed in a copy since it was laid out, as a layer. The copy, on the store's file system, is useless
    /// afterwards.
    pub fn take_in(&self, copy: &Path, record: &str) -> Result<SnapshotId, ErrorKind> {
        let record = Record::from_text(record)
            .ok_or_else(|| ErrorKind::other("what is known of the mounted files is damaged"))?;
        let active = self.store.prepare().map_err(|e| store_error(&e))?;
        layer::diff::extract(copy, &record, &active.upper(), marks()).map_err(|e| layer_error("", &e))?;
        self.store.commit(active, SnapshotMeta::default()).map_err(|e| store_error(&e))
    }

    /// A snapshot of all the files of a stack, made once for each stack. It is nobody's layer: it goes when it was
    /// not used for long.
    fn merged(&self, layers: &[SnapshotId], lowers: &[PathBuf]) -> Result<SnapshotId, ErrorKind> {
        let mut h = StableHasher::new("ctrbuild.merged-layers.v1");
        h.u64(layers.len() as u64);
        for layer in layers {
            h.put(layer.as_str());
        }
        let key = CacheKey::from_bytes(h.finish());
        let store = &self.store;
        let _lock = store.key_lock(&key).map_err(|e| store_error(&e))?;
        if let Some(found) = store.cache_get(&key).map_err(|e| store_error(&e))?
            && let [id] = found.snapshots.as_slice()
        {
            return Ok(id.clone());
        }
        let active = store.prepare().map_err(|e| store_error(&e))?;
        let lowers: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
        layer::stack::copy(&lowers, &active.upper(), marks(), Purpose::View)
            .map_err(|e| layer_error("", &e))?;
        let id = store.commit(active, SnapshotMeta::default()).map_err(|e| store_error(&e))?;
        store.cache_put(&key, RecordV1::of(vec![id.clone()])).map_err(|e| store_error(&e))?;
        Ok(id)
    }
}

fn as_paths(paths: &[PathBuf]) -> Vec<&Path> {
    paths.iter().map(PathBuf::as_path).collect()
}

fn as_folders(paths: &[PathBuf]) -> Vec<Folder<'_>> {
    paths.iter().map(|p| p.as_path().into()).collect()
}

fn open(path: &Path) -> Result<std::os::fd::OwnedFd, ErrorKind> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| ErrorKind::other(format!("can't open {}: {e}", path.display())))
}
