//! A folder as text, for comparing folders.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// All below `dir` as lines `kind mode uid:gid size hash path`, sorted, parents first. Kinds are those of `ls -l` with
/// `f` for files; a link shows its target and a device its numbers; attributes that layers carry follow.
pub fn dump(dir: &Path) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    walk(dir, "", &mut lines)?;
    Ok(lines)
}

fn walk(dir: &Path, below: &str, lines: &mut Vec<String>) -> io::Result<()> {
    let mut entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_unstable_by(|a, b| a.file_name().as_bytes().cmp(b.file_name().as_bytes()));
    for entry in entries {
        let path = entry.path();
        let shown = format!("{below}/{}", entry.file_name().to_string_lossy());
        let meta = fs::symlink_metadata(&path)?;
        let kind = meta.file_type();
        let (mut size, mut hash, mut extra) = ("-".to_string(), "-".to_string(), String::new());
        let mut mode = meta.mode() & 0o7777;
        let letter = match () {
            () if kind.is_file() => {
                size = meta.size().to_string();
                hash = blake3::hash(&fs::read(&path)?).to_hex()[..16].to_string();
                'f'
            }
            () if kind.is_dir() => 'd',
            () if kind.is_symlink() => {
                // The permission bits of a link mean nothing and differ between systems.
                mode = 0o777;
                extra = format!(" -> {}", fs::read_link(&path)?.display());
                'l'
            }
            () if kind.is_fifo() => 'p',
            () if kind.is_socket() => 's',
            () => {
                size = format!("{},{}", rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
                if kind.is_block_device() { 'b' } else { 'c' }
            }
        };
        if kind.is_file() || kind.is_dir() {
            extra.push_str(&attributes(&path)?);
        }
        lines.push(format!("{letter} {mode:04o} {}:{} {size} {hash} {shown}{extra}", meta.uid(), meta.gid()));
        if kind.is_dir() {
            walk(&path, &shown, lines)?;
        }
    }
    Ok(())
}

fn attributes(path: &Path) -> io::Result<String> {
    let mut list = vec![0u8; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut list[..])?;
    let mut names: Vec<&[u8]> = list[..length].split(|b| *b == 0).filter(|n| !n.is_empty()).collect();
    names.sort_unstable();
    let mut out = String::new();
    for name in names {
        let text = String::from_utf8_lossy(name);
        let carried = text == "security.capability"
            || text.starts_with("user.") && !text.starts_with("user.overlay.")
            || text.starts_with("system.posix_acl_");
        if !carried {
            continue;
        }
        let mut value = vec![0u8; 64 << 10];
        let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..])?;
        let value: String = value[..length].iter().map(|b| format!("{b:02x}")).collect();
        out.push_str(&format!(" [{text}={value}]"));
    }
    Ok(out)
}
