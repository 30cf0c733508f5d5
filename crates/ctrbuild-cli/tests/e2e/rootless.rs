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
pub struct Rootless<'a> {
    place: &'a Place,
    user: User,
    program: std::path::PathBuf,
}

impl<'a> Rootless<'a> {
    pub fn new(place: &'a Place) -> Option<Self> {
        let user = User::new()?;
        let program = place.path("ctrbuild");
        fs::copy(env!("CARGO_BIN_EXE_ctrbuild"), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let home = place.path("user");
        fs::create_dir(&home).unwrap();
        chown(&home, Some(user.uid), Some(user.uid)).unwrap();
        Some(Rootless { place, user, program })
    }

    pub fn command(&self, args: &[&str]) -> Command {
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

/// A user without ranges has one id: what needs no other works, and what needs one says so.
#[test]
fn a_user_with_one_id_builds_what_needs_no_other() {
    let Some(place) = Place::new() else { return };
    if !has(&["setpriv"]) {
        return;
    }
    let (program, home) = (place.path("ctrbuild"), place.path("user"));
    fs::copy(env!("CARGO_BIN_EXE_ctrbuild"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(&home).unwrap();
    // Nobody's number, which no file of ids names.
    let uid = 1_900_000_000 + std::process::id() % 1_000_000;
    chown(&home, Some(uid), Some(uid)).unwrap();
    let uid = uid.to_string();
    let ctrbuild = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--"]).arg(&program).args(args);
        command.current_dir(place.dir.path()).env_clear().env("HOME", &home);
        run(command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"))
    };
    place.import("base");
    place.run(["save", "-o", "saved.tar", "base"]).ok();
    ctrbuild(&["load", "-i", "saved.tar"]).ok();
    let good = "FROM base AS a\nRUN id -u && echo x > /x && chmod 4755 /x && chown 0:0 /x && rm /etc/passwd && ln /x /y\n\
                FROM base\nCOPY --from=a /x /y /copied/\nCOPY Dockerfile /\n";
    let context = place.context_in("good", &[("Dockerfile", good)]);
    let epoch = format!("SOURCE_DATE_EPOCH={EPOCH}");
    let args = ["build", "-q", "--build-arg", &epoch, "-o", "type=image,rewrite-timestamp=true", &context];
    let theirs = ctrbuild(&args).ok();
    assert_eq!(theirs, run(&mut place.command(args)).ok(), "the same as root's");
    for bad in [
        "RUN chown 33:44 /etc/passwd",
        "COPY --chown=33:44 Dockerfile /x",
        "USER 1000\nRUN id",
        "USER app\nRUN true",
    ] {
        let context = place.context_in("bad", &[("Dockerfile", &format!("FROM base\n{bad}\n"))]);
        let said = ctrbuild(&["build", &context]).err();
        assert!(said.contains("there is only one user id") && said.contains("/etc/subuid"), "{bad}: {said}");
    }
    // Files of others in an image: which one, and what to do.
    let theirs = place.context_in("theirs", &[("Dockerfile", "FROM base\nRUN chown 33:44 /etc/passwd\n")]);
    place.run(["build", "-q", "-t", "theirs", &theirs]).ok();
    place.run(["save", "-o", "theirs.tar", "theirs"]).ok();
    ctrbuild(&["load", "-i", "theirs.tar"]).ok();
    let context = place.context_in("onto", &[("Dockerfile", "FROM theirs\nRUN true\n")]);
    let said = ctrbuild(&["build", &context]).err();
    assert!(said.contains("etc/passwd") && said.contains("/etc/subuid"), "{said}");
    ctrbuild(&["store", "verify"]).ok();
}
