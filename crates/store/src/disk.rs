//! Disk primitives: atomic writes, folder syncs, robust removal, random names.

use crate::Result;
use crate::error::{Context, Error};
use rayon::prelude::*;
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How far a write must have gone when the call returns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// In the page cache: survives the death of any process.
    Cached,
    /// On the disk, with its name: survives power loss.
    Synced,
}

/// 32 lower-case hexadecimal digits from the kernel's random source.
pub fn random_hex() -> Result<String> {
    let mut raw = [0u8; 16];
    let mut filled = 0;
    while filled < raw.len() {
        match rustix::rand::getrandom(&mut raw[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::io("read", Path::new("getrandom"), e.into())),
        }
    }
    Ok(raw.iter().map(|b| format!("{b:02x}")).collect())
}

/// Whether `text` has the form that [`random_hex`] makes.
pub fn is_random_hex(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Make sure that `dir` exists with mode 0700.
pub fn ensure_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.at("create", dir),
    }
}

pub fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Open a lock or append file, making it where it is missing.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Lets the disk begin with what is written to a file while more comes, so that little is left for the sync at its end.
#[derive(Debug, Default)]
pub struct WriteBehind {
    begun: u64,
}

impl WriteBehind {
    const STEP: u64 = 8 << 20;

    /// Tell that all of `file` up to `end` is written.
    pub fn reached(&mut self, file: &File, end: u64) {
        let Some(len) = NonZeroU64::new(end.saturating_sub(self.begun)).filter(|len| len.get() >= Self::STEP)
        else {
            return;
        };
        // Dirty pages can't be dropped: the kernel begins to write them, and goes on. An error shows in the sync.
        let _ = rustix::fs::fadvise(file, self.begun, Some(len), rustix::fs::Advice::DontNeed);
        self.begun = end;
    }
}

/// Persist the names in `dir`.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).at("sync", dir)
}

/// Move `from` to `to`. `Ok(false)` means that `to` exists already and nothing happened.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<bool> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // File systems without the flag: a hard link refuses to overwrite just as well.
        Err(Errno::INVAL | Errno::NOSYS) => match fs::hard_link(from, to) {
            Ok(()) => fs::remove_file(from).map(|()| true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        },
        Err(e) => Err(e.into()),
    }
}

/// Replace `to` by `bytes` in one step, through `tmp` in the same file system. Makes the parent
/// folder of `to` where it is missing. `tmp` is gone afterwards, also on failure.
pub fn write_atomic(tmp: &Path, to: &Path, bytes: &[u8], durability: Durability) -> Result<()> {
    let written = (|| {
        let mut file = create_new(tmp)?;
        file.write_all(bytes)?;
        if durability == Durability::Synced { file.sync_all() } else { Ok(()) }
    })()
    .at("write", to)
    .and_then(|()| with_parent(to, || fs::rename(tmp, to)).at("write", to));
    if written.is_err() {
        // Ignored: the name may never have come to be, and the first error is the one to report.
        let _ = fs::remove_file(tmp);
    }
    written?;
    if durability == Durability::Synced
        && let Some(parent) = to.parent()
    {
        sync_dir(parent)?;
    }
    Ok(())
}

/// Run `action`; where it fails since the folder of `path` is missing, make that and try once more.
/// The new folder's own name is made durable at once: that happens at most 256 times in a store.
pub fn with_parent<T>(path: &Path, mut action: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match action() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let Some(parent) = path.parent() else { return Err(e) };
            use std::os::unix::fs::DirBuilderExt;
            match fs::DirBuilder::new().mode(0o700).create(parent) {
                Ok(()) => {
                    if let Some(above) = parent.parent() {
                        File::open(above)?.sync_all()?;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
            action()
        }
        other => other,
    }
}

/// Read a whole small file; `None` where it does not exist.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path, e)),
    }
}

/// Remove a file; it is fine if it is gone already. `Ok(true)` where this call removed it.
pub fn remove_file(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("remove", path, e)),
    }
}

/// Remove a tree without following links, also one whose folders deny access to their owner (as
/// overlay's work folder does). It is fine if it is gone already.
pub fn remove_tree(path: &Path) -> Result<()> {
    for attempt in 0..2 {
        match fs::remove_dir_all(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => {
                return Ok(());
            }
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => return remove_file(path).map(|_| ()),
            Err(e) if attempt == 0 => match e.kind() {
                io::ErrorKind::PermissionDenied => open_up(path),
                // Somebody else removes the same tree.
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty => {}
                _ => return Err(Error::io("remove", path, e)),
            },
            other => return other.at("remove", path),
        }
    }
    Ok(())
}

/// Give the owner access to every folder below `dir`, as far as that works.
fn open_up(dir: &Path) {
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        // What cannot be changed shows up as the error of the removal that follows.
        let _ = fs::set_permissions(&dir, fs::Permissions::from_mode(0o700));
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        todo.extend(entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
}

/// Names in `dir`, sorted; none where it does not exist. Names that are not UTF-8 are never ours.
pub fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("list", dir, e)),
    };
    let mut out = Vec::new();
    for entry in entries {
        if let Ok(name) = entry.at("list", dir)?.file_name().into_string() {
            out.push(name);
        }
    }
    out.sort_unstable();
    Ok(out)
}

/// What `visit` makes of the bytes of each small file in `dir`, in no order, by several threads; nothing where it does
/// not exist. Files that vanish meanwhile are left out.
pub fn each_file<T: Send>(dir: &Path, visit: impl Fn(&CStr, &[u8]) -> Option<T> + Sync) -> Result<Vec<T>> {
    let Some((folder, names)) = open_and_list(dir)? else { return Ok(Vec::new()) };
    let pieces: Vec<Result<Vec<T>>> = names
        .par_chunks(512)
        .map(|names| {
            let mut out = Vec::new();
            let mut buffer = Vec::with_capacity(4096);
            for name in names {
                if read_small(&folder, name, &mut buffer).at("read", &dir.join(&*name.to_string_lossy()))? {
                    out.extend(visit(name, &buffer));
                }
            }
            Ok(out)
        })
        .collect();
    pieces.into_iter().try_fold(Vec::new(), |mut all, piece| {
        all.extend(piece?);
        Ok(all)
    })
}

/// The whole of a small file into `buffer`; `Ok(false)` where there is none of this name, or it is no file.
fn read_small(folder: &OwnedFd, name: &CStr, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::LOOP) => return Ok(false),
        other => other?,
    };
    buffer.clear();
    // `read_to_end` of the standard library would ask for size and place first, which takes as long as reading.
    let mut piece = [0; 4096];
    loop {
        match rustix::io::read(&file, &mut piece) {
            Ok(0) => return Ok(true),
            Ok(n) => buffer.extend_from_slice(&piece[..n]),
            Err(Errno::INTR) => {}
            // A folder among them is nobody's record.
            Err(Errno::ISDIR) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Names in `dir` and their bytes on disk, in no order; none where it does not exist.
pub fn blocks(dir: &Path) -> Result<Vec<(String, u64)>> {
    let Some((folder, names)) = open_and_list(dir)? else { return Ok(Vec::new()) };
    let measured = names.into_iter().filter_map(|name| {
        // Vanished meanwhile.
        let stat = rustix::fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some((name.into_string().ok()?, u64::try_from(stat.st_blocks).unwrap_or(0) * 512))
    });
    Ok(measured.collect())
}

/// How many names there are in `dir`.
pub fn count(dir: &Path) -> Result<usize> {
    Ok(open_and_list(dir)?.map_or(0, |(_, names)| names.len()))
}

fn open_and_list(dir: &Path) -> Result<Option<(OwnedFd, Vec<CString>)>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = match rustix::fs::open(dir, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.at("open", dir)?,
    };
    let mut names = Vec::new();
    for entry in Dir::read_from(&folder).at("list", dir)? {
        let entry = entry.at("list", dir)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(Some((folder, names)))
}

/// Set the modification time of `path`, used as the last-used time of records.
pub fn set_mtime(path: &Path, time: SystemTime) -> io::Result<()> {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: since.as_secs() as i64,
            tv_nsec: i64::from(since.subsec_nanos()) as _,
        },
    };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// What a tree takes on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TreeUsage {
    /// Bytes of allocated blocks; of a file that has names elsewhere too, the share of the names here.
    pub bytes: u64,
    /// Bytes that it would take in addition if each of its files were its own.
    pub saved: u64,
}

/// Bytes on disk of all that is below `dir`.
pub fn tree_usage(dir: &Path) -> TreeUsage {
    use std::os::unix::fs::MetadataExt;
    let mut usage = TreeUsage::default();
    // Of files with several names: how many are here and in all, and their bytes.
    let mut linked: std::collections::HashMap<(u64, u64), (u64, u64, u64)> = std::collections::HashMap::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                todo.push(entry.path());
            } else if meta.nlink() > 1 {
                linked.entry((meta.dev(), meta.ino())).or_insert((0, meta.nlink(), meta.blocks() * 512)).0 +=
                    1;
                continue;
            }
            usage.bytes += meta.blocks() * 512;
        }
    }
    for (here, all, bytes) in linked.into_values() {
        let share = bytes * here.min(all) / all;
        usage.bytes += share;
        usage.saved += bytes - share;
    }
    usage
}

/// Bytes on disk of one file or folder by itself.
pub fn own_usage(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).map_or(0, |m| m.blocks() * 512)
}
