//! An ordinary user: builds, runs steps, and makes the same image as root does.

use crate::place::{EPOCH, Outcome, Place, has, run};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

/// A user with a range of subordinate ids, removed with the value.
struct User {
    name: String,
    uid: u32,
}

impl User {
    fn new() -> Option<User> {
        if !has(&["useradd", "userdel", "newuidmap", "setpriv"]) {
            return None;
        }
        let name = format!("ctrbuild-e2e-{}", std::process::id());
        let made =
            run(Command::new("useradd").args(["--no-create-home", "--home-dir", "/nonexistent", &name]));
        if made.code != Some(0) {
            println!("skipped: can't make a user: {}", made.stderr.trim());
            return None;
        }
        let uid = run(Command::new("id").args(["-u", &name])).ok().parse().unwrap();
        let user = User { name, uid };
        for file in ["/etc/subuid", "/etc/subgid"] {
            let text = fs::read_to_string(file).unwrap_or_default();
            if !text.lines().any(|l| l.starts_with(&format!("{}:", user.name))) {
                println!("skipped: useradd gives no subordinate ids here");
                return None;
            }
        }
        Some(user)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = Command::new("userdel").arg(&self.name).output();
    }
}

/// A copy of ctrbuild that the user can reach, and a home.
struct Rootless<'a> {
    place: &'a Place,
    user: User,
    program: std::path::PathBuf,
}

impl<'a> Rootless<'a> {
    fn new(place: &'a Place) -> Option<Self> {
        let user = User::new()?;
        let program = place.path("ctrbuild");
        fs::copy(env!("CARGO_BIN_EXE_ctrbuild"), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let home = place.path("user");
        fs::create_dir(&home).unwrap();
        chown(&home, Some(user.uid), Some(user.uid)).unwrap();
        Some(Rootless { place, user, program })
    }

    fn command(&self, args: &[&str]) -> Command {
        let uid = self.user.uid.to_string();
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--"])
            .arg(&self.program)
            .args(args);
        command.current_dir(self.place.dir.path()).env_clear().env("HOME", self.place.path("user"));
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("USER", &self.user.name);
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Outcome {
        run(&mut self.command(args))
    }
}

#[test]
fn an_ordinary_user_builds_what_root_builds() {
    let Some(place) = Place::with_base() else { return };
    let Some(rootless) = Rootless::new(&place) else { return };
    // An image is the same wherever it is.
    place.run(["save", "-o", "saved.tar", "base"]).ok();
    rootless.run(&["load", "-i", "saved.tar"]).ok();
    assert_eq!(rootless.run(&["inspect", "base"]).ok(), place.run(["inspect", "base"]).ok());
    let context = place.context(&[
        (
            "Dockerfile",
            "FROM base\nCOPY --chown=app hello /hello\nRUN test \"$(id -u)\" = 0 && chown 33:44 /etc/passwd\n\
             USER app\nWORKDIR /home/app\nRUN test \"$(id -u):$(id -g)\" = 1000:1001\n",
        ),
        ("hello", "hello\n"),
    ]);
    let epoch = format!("SOURCE_DATE_EPOCH={EPOCH}");
    let args = ["build", "--build-arg", &epoch, "-t", "app", "-o", "type=tar,dest=user/files.tar", &context];
    rootless.run(&args).ok();
    let files =
        run(Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(place.path("user/files.tar"))).ok();
    let owner = |name: &str| {
        let line = files.lines().find(|l| l.split_whitespace().last() == Some(name));
        line.and_then(|l| l.split_whitespace().nth(1)).map(str::to_string)
    };
    assert_eq!(owner("etc/passwd").as_deref(), Some("33/44"), "{files}");
    assert_eq!(owner("hello").as_deref(), Some("1000/1001"), "{files}");
    assert_eq!(owner("bin/busybox").as_deref(), Some("0/0"), "{files}");
    // The same image as root's, to the last byte: who builds leaves no trace.
    let output = "type=oci,rewrite-timestamp=true,dest=user/image.tar";
    let args = ["build", "--build-arg", &epoch, "-o", output, &context];
    let archive = place.path("user/image.tar");
    let theirs = (rootless.run(&args).ok(), fs::read(&archive).unwrap());
    fs::remove_file(&archive).unwrap();
    let mine = (run(&mut place.command(args)).ok(), fs::read(&archive).unwrap());
    assert_eq!(theirs.0, mine.0);
    assert!(theirs.1 == mine.1, "the digests agree and the archives do not");
    rootless.run(&["store", "verify"]).ok();
}

#[test]
fn an_ordinary_user_sees_errors_as_root_does() {
    let Some(place) = Place::with_base() else { return };
    let Some(rootless) = Rootless::new(&place) else { return };
    let tar = place.busybox_tar();
    rootless.run(&["import", tar.to_str().unwrap(), "base"]).ok();
    let context = place.recipe("FROM base\nRUN echo to-the-log; exit 9\n");
    let said = rootless.run(&["build", &context]).err();
    assert!(said.contains("exit code: 9") && said.contains("to-the-log"), "{said}");
}
