//! A place for one test: a store, contexts, a home without settings, a base image of busybox.

use base64::Engine as _;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use testkit::{Access, RegistryProcess};

/// The instant that reproducible builds are given, in seconds since 1970.
pub const EPOCH: &str = "1700000000";

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// False (with a word) where one of the programs is missing.
pub fn has(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> =
        std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from)).collect();
    for program in programs {
        if !dirs.iter().any(|d| d.join(program).is_file()) {
            println!("skipped: {program} is not installed");
            return false;
        }
    }
    true
}

/// What a command came to.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Standard output without its line end; anything but success is a failed test.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
        self.stdout.trim_end().to_string()
    }

    /// Standard error of a command that failed as it should.
    #[track_caller]
    pub fn err(self) -> String {
        assert_eq!(self.code, Some(1), "{}\n{}", self.stdout, self.stderr);
        assert_eq!(self.stdout, "", "a failure writes no data");
        self.stderr
    }
}

/// Run to the end.
#[track_caller]
pub fn run(command: &mut Command) -> Outcome {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command.output().unwrap_or_else(|e| panic!("{name}: {e}"));
    Outcome {
        code: out.status.code(),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

pub struct Place {
    pub dir: tempfile::TempDir,
    pub root: PathBuf,
}

impl Place {
    /// A place where steps can run; `None` (with a word) where they can't.
    pub fn new() -> Option<Place> {
        if !is_root() {
            println!("skipped: needs root");
            return None;
        }
        has(&["busybox", "tar"]).then(Place::bare)
    }

    /// A place without a base image.
    pub fn bare() -> Place {
        let dir = tempfile::Builder::new().prefix("ctrbuild-e2e-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        let root = dir.path().join("store");
        Place { dir, root }
    }

    /// As [`Place::new`], with the image `base`.
    pub fn with_base() -> Option<Place> {
        let place = Place::new()?;
        place.import("base");
        Some(place)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// ctrbuild with the store of this place and nothing of the tester's settings.
    pub fn command<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Command {
        self.command_on(&self.root, args)
    }

    /// The same with another store.
    pub fn command_on<I: AsRef<OsStr>>(&self, store: &Path, args: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ctrbuild"));
        command.args(args).current_dir(self.dir.path()).env_clear().stdin(Stdio::null());
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", self.path("home")).env("CTRBUILD_ROOT", store);
        command
    }

    #[track_caller]
    pub fn run<const N: usize>(&self, args: [&str; N]) -> Outcome {
        run(&mut self.command(args))
    }

    /// Write files below `context` of this place; the context's name.
    pub fn context(&self, files: &[(&str, &str)]) -> String {
        self.context_in("context", files)
    }

    pub fn context_in(&self, folder: &str, files: &[(&str, &str)]) -> String {
        let context = self.path(folder);
        fs::create_dir_all(&context).unwrap();
        for (name, text) in files {
            let path = context.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder.to_string()
    }

    /// A context that is a recipe only.
    pub fn recipe(&self, text: &str) -> String {
        self.context(&[("Dockerfile", text)])
    }

    /// A root file system of busybox as a tar; its path.
    pub fn busybox_tar(&self) -> PathBuf {
        self.busybox_tar_of(&|_| true)
    }

    /// The same with some of busybox's commands. The first one of a place is its only one.
    pub fn busybox_tar_of(&self, wanted: &dyn Fn(&str) -> bool) -> PathBuf {
        let tar = self.path("base.tar");
        if tar.exists() {
            return tar;
        }
        let root = self.path("base");
        for folder in ["bin", "etc", "tmp", "root", "home/app"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        let busybox =
            ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists()).unwrap();
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        let all = run(Command::new(busybox).arg("--list")).ok();
        for applet in all.lines().filter(|a| *a != "busybox" && wanted(a)) {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n")
            .unwrap();
        let mut make = Command::new("tar");
        make.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@1600000000", "-C"]);
        run(make.arg(&root).arg("-cf").arg(&tar).arg(".")).ok();
        tar
    }

    /// Make `name` of busybox in the store.
    pub fn import(&self, name: &str) {
        let tar = self.busybox_tar();
        self.run(["import", tar.to_str().unwrap(), name]).ok();
    }

    /// The JSON of `ctrbuild inspect`.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> Value {
        let value: Value = serde_json::from_str(&self.run(["inspect", name]).ok()).unwrap();
        match value {
            Value::Array(mut all) => all.remove(0),
            one => one,
        }
    }

    /// Sound after whatever the test did: everything that can be seen is whole.
    #[track_caller]
    pub fn verify(&self) {
        self.run(["store", "verify"]).ok();
    }

    /// The text with what differs from run to run replaced.
    pub fn redact(&self, text: &str) -> String {
        let text = text.replace(self.dir.path().to_str().unwrap(), "[place]");
        let mut out = String::new();
        for line in text.lines() {
            out.push_str(&redact_line(line));
            out.push('\n');
        }
        out
    }
}

/// Ports of loopback, long hexadecimal numbers and times.
fn redact_line(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let loopback =
            rest.strip_prefix("127.0.0.1:").filter(|r| r.starts_with(|c: char| c.is_ascii_digit()));
        let hex = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        if let Some(port) = loopback {
            out.push_str("127.0.0.1:[port]");
            rest = port.trim_start_matches(|c: char| c.is_ascii_digit());
        } else if hex >= 12 {
            out.push_str("[hex]");
            rest = &rest[hex..];
        } else if hex > 0 {
            out.push_str(&rest[..hex]);
            rest = &rest[hex..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// A registry for this place, with its data in `registry`.
pub fn registry(place: &Place, access: Access) -> Option<RegistryProcess> {
    RegistryProcess::start(&place.path("registry"), access)
}

/// Log in by docker's settings file, as [`RegistryProcess::USER`].
pub fn login(place: &Place, domain: &str, password: &str) {
    let folder = place.path("home/.docker");
    fs::create_dir_all(&folder).unwrap();
    let auth =
        base64::engine::general_purpose::STANDARD.encode(format!("{}:{password}", RegistryProcess::USER));
    let config = serde_json::json!({"auths": {domain: {"auth": auth}}});
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

/// A folder as sorted text: `mode uid:gid size-or-target path`.
pub fn listing(folder: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    fn walk(top: &Path, folder: &Path, out: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(top).unwrap().display().to_string();
            let what = match meta.file_type() {
                t if t.is_symlink() => format!("-> {}", fs::read_link(&path).unwrap().display()),
                t if t.is_dir() => "/".to_string(),
                _ => meta.size().to_string(),
            };
            let mode = if meta.is_symlink() { 0o777 } else { meta.mode() & 0o7777 };
            out.push((name, format!("{mode:04o} {}:{} {what}", meta.uid(), meta.gid())));
            if meta.is_dir() {
                walk(top, &path, out);
            }
        }
    }
    let mut out = Vec::new();
    walk(folder, folder, &mut out);
    out.sort();
    out.into_iter().map(|(name, what)| format!("{what} {name}\n")).collect()
}
