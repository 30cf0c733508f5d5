//! `LocalStore`: opening, the format file, and the paths of everything else.

use crate::batch::{Batches, Stamp};
use crate::disk;
use crate::error::{Context, Error};
use crate::format::FormatV1;
use crate::lease::Lease;
use crate::lock::retry;
use crate::{Result, SnapshotId, moved};
use digest::{CacheKey, DiffId, Digest};
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Folders directly below the root.
pub(crate) const FOLDERS: [&str; 20] = [
    "blobs",
    "blobs/sha256",
    "partial",
    "snapshots",
    "active",
    "layers-v1",
    "cache-v1",
    "index-v1",
    "refs",
    "named-v1",
    "leases",
    "locks",
    "batches",
    "tmp",
    "trash",
    "quarantine",
    "mounts",
    "logs",
    "containers-v1",
    "hints-v1",
];

/// What the store takes from its surroundings.
#[derive(Clone)]
pub struct StoreOptions {
    /// The clock; creation and last-use times come from it.
    pub now: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    /// Identity of the running kernel. Records of another boot count only once they were sealed.
    /// `None` reads `/proc/sys/kernel/random/boot_id`.
    pub boot_id: Option<String>,
    /// A record's last-use time is refreshed at most this often.
    pub touch_interval: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            now: Arc::new(SystemTime::now),
            boot_id: None,
            touch_interval: Duration::from_secs(60),
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("boot_id", &self.boot_id)
            .field("touch_interval", &self.touch_interval)
            .finish_non_exhaustive()
    }
}

/// A store on a local file system. Clones share one lease and one batch; open it once a build.
///
/// Dropping the last clone ends the lease: what the build found or wrote and no reference or cache
/// record keeps may then be collected.
#[derive(Clone)]
pub struct LocalStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub root: PathBuf,
    /// Kept open from the start, so that `syncfs` reports every write error since then.
    pub root_dir: File,
    pub options: StoreOptions,
    pub writable: bool,
    /// Whether that is so because of the file system.
    pub read_only_disk: bool,
    pub lease: Mutex<Option<Lease>>,
    pub batches: Batches,
    names: AtomicU64,
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalStore").field("root", &self.inner.root).finish_non_exhaustive()
    }
}

impl LocalStore {
    /// Open the store at `root`, making it (mode 0700) where there is none. Leftovers of processes
    /// that died are removed on the way.
    ///
    /// # Errors
    /// [`Error::Format`] where the folder holds a store of another format or something else.
    pub fn open(root: &Path, options: StoreOptions) -> Result<LocalStore> {
        let (root, format) = moved::follow(root)?;
        let format = match format {
            Some(format) => format,
            None => create(&root)?,
        };
        let writable = format.check(&root)?;
        let root = fs::canonicalize(&root).at("open", &root)?;
        let root_dir = File::open(&root).at("open", &root)?;
        // What is on such a disk can be read without a lease: nobody collects it there.
        let read_only_disk = rustix::fs::fstatvfs(&root_dir)
            .is_ok_and(|s| s.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
        let writable = writable && !read_only_disk;
        let boot = match &options.boot_id {
            Some(id) => id.clone(),
            None => {
                let path = Path::new("/proc/sys/kernel/random/boot_id");
                fs::read_to_string(path).at("read", path)?.trim().to_string()
            }
        };
        let store = LocalStore {
            inner: Arc::new(Inner {
                root,
                root_dir,
                options,
                writable,
                read_only_disk,
                lease: Mutex::new(None),
                batches: Batches::new(boot)?,
                names: AtomicU64::new(0),
            }),
        };
        if writable {
            store.reap_if_needed()?;
        }
        Ok(store)
    }

    /// The folder of the store, canonical.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.inner.root.join(relative)
    }
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.sharded("blobs/sha256", &digest.hex(), "")
    }
    pub(crate) fn layer_path(&self, diff: &DiffId) -> PathBuf {
        self.sharded("layers-v1", &diff.hex(), ".json")
    }
    pub(crate) fn cache_path(&self, key: &CacheKey) -> PathBuf {
        self.sharded("cache-v1", &key.hex(), ".json")
    }
    pub(crate) fn index_path(&self, op_hex: &str) -> PathBuf {
        self.sharded("index-v1", op_hex, "")
    }
    pub(crate) fn named_path(&self, digest: &Digest) -> PathBuf {
        self.sharded("named-v1", &digest.hex(), "")
    }
    pub(crate) fn snapshot_dir(&self, id: &SnapshotId) -> PathBuf {
        self.inner.root.join("snapshots").join(id.as_str())
    }
    fn sharded(&self, folder: &str, hex: &str, suffix: &str) -> PathBuf {
        let mut path = String::with_capacity(folder.len() + hex.len() + suffix.len() + 4);
        for part in [folder, "/", &hex[..2], "/", hex, suffix] {
            path.push_str(part);
        }
        self.inner.root.join(path)
    }

    /// A fresh name under `tmp`, owned by this handle's lease.
    pub(crate) fn tmp_path(&self) -> Result<PathBuf> {
        let lease = self.lease_id()?;
        Ok(self.tmp_name(&lease))
    }
    /// As `tmp_path`, but only where there is a lease already.
    pub(crate) fn tmp_path_if_leased(&self) -> Option<PathBuf> {
        self.own_lease().map(|lease| self.tmp_name(&lease))
    }
    fn tmp_name(&self, lease: &str) -> PathBuf {
        let n = self.inner.names.fetch_add(1, Ordering::Relaxed);
        self.inner.root.join(format!("tmp/{lease}.{n}"))
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        let path = || self.inner.root.clone();
        match (self.inner.writable, self.inner.read_only_disk) {
            (true, _) => Ok(()),
            (false, true) => Err(Error::ReadOnlyDisk { path: path() }),
            (false, false) => Err(Error::ReadOnly { path: path() }),
        }
    }

    pub(crate) fn boot_id(&self) -> &str {
        self.inner.batches.boot()
    }
    pub(crate) fn now(&self) -> SystemTime {
        (self.inner.options.now)()
    }
    /// Seconds since 1970.
    pub(crate) fn now_secs(&self) -> u64 {
        self.now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
    }

    /// Note that the record at `path` was used, unless that was noted a short time ago. Failure is
    /// ignored: a wrong time of use makes a collection less apt, never wrong.
    pub(crate) fn touch(&self, path: &Path) {
        let now = self.now();
        let fresh = fs::metadata(path).and_then(|m| m.modified()).is_ok_and(|used| {
            now.duration_since(used).is_ok_and(|age| age < self.inner.options.touch_interval)
        });
        if !fresh && self.inner.writable {
            let _ = disk::set_mtime(path, now);
        }
    }

    /// The stamp and the right to write one record with it; see [`Batches`].
    pub(crate) fn stamped<T>(&self, write: impl FnOnce(Stamp) -> Result<T>) -> Result<T> {
        self.check_writable()?;
        self.inner.batches.stamped(write)
    }
}

/// Make the folders of a store where they are missing, and the collection lock.
pub(crate) fn furnish(root: &Path) -> Result<()> {
    for folder in FOLDERS {
        disk::ensure_dir(&root.join(folder))?;
    }
    let lock = root.join("gc.lock");
    disk::open_or_create(&lock).at("create", &lock)?;
    disk::sync_dir(&root.join("blobs"))
}

/// Make the folders and the format file.
fn create(root: &Path) -> Result<FormatV1> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(root).at("create", root)?;
    let foreign = disk::names(root)?
        .into_iter()
        .find(|n| !FOLDERS.contains(&n.as_str()) && n != "gc.lock" && !n.starts_with("format"));
    if let Some(name) = foreign {
        return Err(Error::Format {
            path: root.to_path_buf(),
            found: format!("unknown (it holds `{name}`)"),
        });
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o700)).at("protect", root)?;
    furnish(root)?;
    let lock = root.join("gc.lock");
    let turn = File::open(&lock).at("open", &lock)?;
    // One maker at a time, so that what a killed one left of the format file can be told and replaced.
    retry(|| turn.lock()).at("lock", &lock)?;
    if let Some(made) = FormatV1::read(root)? {
        return Ok(made);
    }
    let format = FormatV1::current();
    // The format file comes last: where it exists, so does everything else.
    format.write(root)?;
    Ok(format)
}
