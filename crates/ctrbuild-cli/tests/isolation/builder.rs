//! ctrbuild as root and as an ordinary user, each with a store, and a canary outside that nothing may touch.

use crate::place::{Outcome, Place, has, run};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// What an attack must not reach.
const SECRET: &str = "the-canary-sings";

/// A user with a range of subordinate ids, removed with the value.
struct User {
    name: String,
    uid: u32,
}

impl User {
    fn new() -> Option<User> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !has(&["useradd", "userdel", "newuidmap", "setpriv"]) {
            return None;
        }
        let name = format!("ctrb-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let made =
            run(Command::new("useradd").args(["--no-create-home", "--home-dir", "/nonexistent", &name]));
        if made.code != Some(0) {
            println!("skipped: can't make a user: {}", made.stderr.trim());
            return None;
        }
        let uid = run(Command::new("id").args(["-u", &name])).ok().parse().unwrap();
        let user = User { name, uid };
        let ranges = fs::read_to_string("/etc/subuid").unwrap_or_default();
        if !ranges.lines().any(|l| l.starts_with(&format!("{}:", user.name))) {
            println!("skipped: useradd gives no subordinate ids here");
            return None;
        }
        Some(user)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = Command::new("userdel").args(["-f", &self.name]).output();
    }
}

/// One who builds.
pub struct Builder {
    pub place: Place,
    user: Option<User>,
    pub program: PathBuf,
}

/// Run a test as root, then as an ordinary user.
pub fn everybody(test: impl Fn(&Builder)) {
    if let Some(builder) = Builder::root() {
        test(&builder);
    }
    if let Some(builder) = Builder::rootless() {
        test(&builder);
    }
}

impl Builder {
    pub fn root() -> Option<Builder> {
        let builder = Builder { place: Place::new()?, user: None, program: PathBuf::new() };
        Some(builder.settle())
    }

    pub fn rootless() -> Option<Builder> {
        let place = Place::new()?;
        let user = User::new()?;
        fs::create_dir(place.path("user")).unwrap();
        chown(place.path("user"), Some(user.uid), Some(user.uid)).unwrap();
        Some(Builder { place, user: Some(user), program: PathBuf::new() }.settle())
    }

    /// The program, the base image and the canary.
    fn settle(mut self) -> Builder {
        self.program = self.place.path("ctrbuild");
        fs::copy(env!("CARGO_BIN_EXE_ctrbuild"), &self.program).unwrap();
        fs::set_permissions(&self.program, fs::Permissions::from_mode(0o755)).unwrap();
        let canary = self.canary();
        fs::create_dir(&canary).unwrap();
        // Within reach of everybody on the host, so that only the sandbox is in the way.
        fs::set_permissions(&canary, fs::Permissions::from_mode(0o777)).unwrap();
        for name in ["file", "passwd", "null"] {
            fs::write(canary.join(name), format!("root:x:0:0:{SECRET}:/:/bin/sh\n")).unwrap();
            fs::set_permissions(canary.join(name), fs::Permissions::from_mode(0o666)).unwrap();
        }
        let tar = self.place.busybox_tar();
        self.run(&["import", tar.to_str().unwrap(), "base"]).ok();
        self
    }

    pub fn is_root(&self) -> bool {
        self.user.is_none()
    }

    /// A folder of the host with files of everybody's.
    pub fn canary(&self) -> PathBuf {
        self.place.path("canary")
    }

    /// All that can be seen of the canary and of the builder's executable.
    pub fn host(&self) -> String {
        let describe = |path: &Path| {
            let m = fs::symlink_metadata(path).unwrap();
            // The executable is large; a write to it would change its times.
            let content =
                if m.is_file() && path != self.program { fs::read(path).unwrap() } else { Vec::new() };
            let sum = content.iter().fold(0u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(*b)));
            let times = (m.mtime(), m.mtime_nsec());
            format!(
                "{} {:o} {}:{} {} {times:?} {sum:x}\n",
                path.display(),
                m.mode(),
                m.uid(),
                m.gid(),
                m.size()
            )
        };
        let mut names: Vec<PathBuf> =
            fs::read_dir(self.canary()).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        names.push(self.canary());
        names.push(self.program.clone());
        names.iter().map(|n| describe(n)).collect()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = match &self.user {
            None => Command::new(&self.program),
            Some(user) => {
                let uid = user.uid.to_string();
                let mut command = Command::new("setpriv");
                command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--"]).arg(&self.program);
                command
            }
        };
        let home = if self.is_root() { "home" } else { "user" };
        command.args(args).current_dir(self.place.dir.path()).env_clear().stdin(std::process::Stdio::null());
        command.env("HOME", self.place.path(home)).env("CTRBUILD_ROOT", self.store());
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        if let Some(user) = &self.user {
            command.env("USER", &user.name);
        }
        command
    }

    /// Odd on purpose: commas and colons are separators of mount options.
    pub fn store(&self) -> PathBuf {
        self.place.path(if self.is_root() { "home/st,o:re=x" } else { "user/st,o:re=x" })
    }

    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Outcome {
        run(&mut self.command(args))
    }

    /// Build a recipe in a context of its own.
    #[track_caller]
    pub fn build(&self, recipe: &str, args: &[&str]) -> Outcome {
        let context = self.place.recipe(recipe);
        self.build_in(&context, args)
    }

    #[track_caller]
    pub fn build_in(&self, context: &str, args: &[&str]) -> Outcome {
        let mut all = vec!["build", "--progress=plain"];
        all.extend(args);
        all.push(context);
        self.run(&all)
    }

    /// A build that may end either way, but must leave the host as it is and say nothing of its secret.
    #[track_caller]
    pub fn attack(&self, context: &str, args: &[&str]) -> Outcome {
        let before = self.host();
        let outcome = self.build_in(context, args);
        assert_eq!(before, self.host(), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains(SECRET), "{}", outcome.stderr);
        assert!(matches!(outcome.code, Some(0 | 1)), "{:?}: {}", outcome.code, outcome.stderr);
        assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
        outcome
    }

    #[track_caller]
    pub fn attack_by(&self, recipe: &str, args: &[&str]) -> Outcome {
        let context = self.place.recipe(recipe);
        self.attack(&context, args)
    }
}

/// A number that no other process has among its arguments.
pub fn marker() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}{:03}.375", 7_000_000 + u64::from(std::process::id()), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Processes with this argument.
pub fn processes(argument: &str) -> usize {
    let lines =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|e| fs::read(e.path().join("cmdline")).ok());
    lines.filter(|line| line.split(|b| *b == 0).any(|arg| arg == argument.as_bytes())).count()
}

/// cgroups of builders that live no longer, or of the one with this pid.
pub fn cgroups_of(pid: u32) -> Vec<PathBuf> {
    fn walk(folder: &Path, depth: u32, wanted: &str, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.contains("ctrbuild") && name.split(|c: char| !c.is_ascii_digit()).any(|n| n == wanted) {
                out.push(entry.path());
            } else if depth > 0 {
                walk(&entry.path(), depth - 1, wanted, out);
            }
        }
    }
    let mut out = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), 4, &pid.to_string(), &mut out);
    out
}
