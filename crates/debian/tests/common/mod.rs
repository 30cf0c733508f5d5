//! What the tests of this crate share: a runner over unshare(1) and chroot(1), and trees as text.

#![allow(dead_code)]

use debian::{ChrootCommand, ChrootOutput, ChrootRunner, Exit};
use std::fmt::Write as _;
use std::io::{Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// The simplest runner: own mount and pid namespaces, so that nothing is left mounted or running.
pub struct PlainRunner;

const SETUP: &str = r#"
root=$1; shift
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for n in null zero full random urandom tty; do : > "$root/dev/$n"; mount --bind "/dev/$n" "$root/dev/$n"; done
ln -s /proc/self/fd "$root/dev/fd"
exec chroot "$root" "$@"
"#;

/// Root of a user namespace with the subordinate ids of the user.
pub const ROOTLESS: [&str; 3] = ["--user", "--map-root-user", "--map-auto"];

pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n")
}

pub fn stdin_of(data: &[u8]) -> Stdio {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(data).unwrap();
    file.rewind().unwrap();
    file.into()
}

impl ChrootRunner for PlainRunner {
    fn run(
        &self,
        command: &ChrootCommand<'_>,
    ) -> Result<ChrootOutput, Box<dyn std::error::Error + Send + Sync>> {
        let mut log = tempfile::tempfile()?;
        let mut unshare = Command::new("unshare");
        if !is_root() {
            unshare.args(ROOTLESS);
        }
        let status = unshare
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--ipc",
                "--uts",
                "--net",
                "sh",
                "-ec",
                SETUP,
                "sh",
            ])
            .arg(command.root)
            .args(command.argv)
            .env_clear()
            .envs(command.env)
            .stdin(stdin_of(command.stdin))
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .status()?;
        let mut text = Vec::new();
        log.rewind()?;
        std::io::Read::read_to_end(&mut log, &mut text)?;
        let exit = match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or(0)),
        };
        Ok(ChrootOutput { exit, log: text })
    }
}

/// The mirror to use, or `None` with a word why not.
pub fn can_bootstrap() -> Option<String> {
    let mirror = std::env::var("CTRBUILD_TEST_MIRROR").unwrap_or_else(|_| debian::DEFAULT_MIRROR.into());
    let mut namespaces = Command::new("unshare");
    namespaces.args(["--mount", "--pid", "--fork"]);
    if !is_root() {
        namespaces.args(ROOTLESS);
    }
    let why = if mirror == "off" {
        "turned off"
    } else if !namespaces.arg("true").status().is_ok_and(|s| s.success()) {
        "cannot make namespaces"
    } else if !reachable(&mirror) {
        "the mirror cannot be reached"
    } else {
        return Some(mirror);
    };
    println!("skipped: {why}");
    None
}

fn reachable(mirror: &str) -> bool {
    let Some((scheme, rest)) = mirror.split_once("://") else { return false };
    if scheme == "file" {
        return Path::new(rest).is_dir();
    }
    let host = rest.split('/').next().unwrap_or_default();
    let address = if host.contains(':') {
        host.to_string()
    } else {
        format!("{host}:{}", if scheme == "https" { 443 } else { 80 })
    };
    std::net::ToSocketAddrs::to_socket_addrs(&address)
        .ok()
        .and_then(|mut a| a.next())
        .is_some_and(|a| std::net::TcpStream::connect_timeout(&a, std::time::Duration::from_secs(5)).is_ok())
}

/// `path mode uid:gid mtime content`, a line each, sorted.
pub fn tree_text(root: &Path) -> String {
    let mut text = String::new();
    add(root, root, &mut text);
    text
}

fn add(root: &Path, folder: &Path, text: &mut String) {
    let mut all: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    for path in all {
        let meta = path.symlink_metadata().unwrap();
        let content = if meta.is_symlink() {
            std::fs::read_link(&path).unwrap().display().to_string()
        } else if meta.is_file() {
            digest::Digest::of(&std::fs::read(&path).unwrap()).hex()
        } else {
            "-".into()
        };
        let name = path.strip_prefix(root).unwrap().display().to_string().replace(' ', "\\x20");
        writeln!(text, "{name} {:o} {}:{} {} {content}", meta.mode(), meta.uid(), meta.gid(), meta.mtime())
            .unwrap();
        if meta.is_dir() {
            add(root, &path, text);
        }
    }
}
