//! The builder of an ordinary user, with and without subordinate ids. Root makes the user, runs this same program as
//! that user, and removes the user again; without root the program checks itself as it is.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use common::{explain, image};
use sandbox::*;

const USER: &str = "ctrbuild-test";

/// True if it passed.
type Check = fn() -> bool;

fn main() {
    sandbox::reexec();
    if std::env::args().nth(1).as_deref() == Some("builder") {
        std::process::exit(builder());
    }
    // `cargo test` passes flags and filters; listing is all that tools ask of a program without harness.
    if std::env::args().any(|arg| arg == "--list") {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root to make a user");
        return;
    }
    let mut all = true;
    let checks: [(&str, Check); 3] =
        [("single_id", single_id), ("subordinate_ids", subordinate_ids), ("signals_reach_the_step", signals)];
    for (name, check) in checks {
        let passed = check();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        all &= passed;
    }
    std::process::exit(if all { 0 } else { 101 });
}

/// This program as builder of another user, in a folder of that user's own.
fn command_as(uid: u32, gid: u32, mode: &str) -> (tempfile::TempDir, Command) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("builder");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let own = dir.path().join("own");
    fs::create_dir(&own).unwrap();
    chown(&own, Some(uid), Some(gid)).unwrap();
    let mut command = Command::new(&program);
    command.args(["builder", mode]).uid(uid).gid(gid).current_dir(&own).env("TMPDIR", &own);
    (dir, command)
}

fn run_as(uid: u32, gid: u32, mode: &str) -> bool {
    let (_dir, mut command) = command_as(uid, gid, mode);
    let status = command.status().unwrap();
    if !status.success() {
        eprintln!("the builder of {uid} ended with {status}");
    }
    status.success()
}

/// Tells the builder how long its step sleeps: by this number it is known among all processes.
const VARIABLE: &str = "SANDBOX_TEST_SECONDS";

fn own_mark() -> String {
    format!("{}.625", std::process::id())
}

fn sleepers() -> usize {
    let lines =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|e| fs::read(e.path().join("cmdline")).ok());
    let mark = own_mark();
    lines.filter(|line| line.split(|b| *b == 0).any(|arg| arg == mark.as_bytes())).count()
}

/// SIGTERM is passed on; SIGKILL of the outer program ends the inner one and the step.
fn signals() -> bool {
    for (signal, code) in [("-TERM", Some(143)), ("-KILL", None)] {
        let (_dir, mut command) = command_as(54_321, 54_321, "sleep");
        let mut outer = command.env(VARIABLE, own_mark()).spawn().unwrap();
        let wait_until = |count: usize| {
            let start = std::time::Instant::now();
            while sleepers() != count {
                if start.elapsed() > std::time::Duration::from_secs(10) {
                    return false;
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            true
        };
        let started = wait_until(1);
        let killed = Command::new("kill").args([signal, &outer.id().to_string()]).status().unwrap();
        let status = outer.wait().unwrap();
        assert!(started && killed.success(), "{started} {killed}");
        if status.code() != code || !wait_until(0) {
            eprintln!("{signal}: {status}, {} left", sleepers());
            return false;
        }
    }
    true
}

/// A user without a name and without ranges.
fn single_id() -> bool {
    run_as(54_321, 54_321, "single")
}

struct RemoveUser;

impl Drop for RemoveUser {
    fn drop(&mut self) {
        let _gone = Command::new("userdel").args(["-f", USER]).output();
    }
}

fn subordinate_ids() -> bool {
    if ["/usr/bin/newuidmap", "/usr/sbin/useradd"].iter().any(|p| !Path::new(p).exists()) {
        eprintln!("skipped: needs uidmap and useradd");
        return true;
    }
    let remove = RemoveUser;
    let made = Command::new("useradd").args(["--no-create-home", USER]).output().unwrap();
    if !made.status.success() {
        eprintln!("skipped: {}", String::from_utf8_lossy(&made.stderr));
        return true;
    }
    let id = Command::new("id").args(["-u", USER]).output().unwrap();
    let uid: u32 = String::from_utf8(id.stdout).unwrap().trim().parse().unwrap();
    let ranges = fs::read_to_string("/etc/subuid").unwrap();
    if userns::subordinate_ranges(&ranges, USER, uid).is_empty() {
        let args = ["--add-subuids", "2000000000-2000065535", "--add-subgids", "2000000000-2000065535", USER];
        assert!(Command::new("usermod").args(args).status().unwrap().success());
    }
    let passed = run_as(uid, uid, "ranges");
    drop(remove);
    passed
}

/// The ordinary user's side.
fn builder() -> i32 {
    if userns::needed() {
        return match userns::reexec_in_userns() {
            Ok(code) => code,
            Err(e) => {
                eprintln!("{} (hint: {:?})", explain(&e), e.hint());
                1
            }
        };
    }
    assert!(userns::inside());
    assert!(rustix::process::geteuid().is_root());
    let mut image = image().expect("steps can run");
    image.runtime = Runtime::new().unwrap_or_else(|e| panic!("{}", explain(&e)));
    if std::env::args().nth(2).as_deref() == Some("sleep") {
        let spec =
            SandboxSpec::new(image.mount(), ["/bin/sleep".into(), std::env::var_os(VARIABLE).unwrap()]);
        image.run_spec(spec).unwrap();
        return 0;
    }
    let ranges = std::env::args().nth(2).as_deref() == Some("ranges");
    fs::write(image.lower().join("etc/gone"), "").unwrap();

    let script = "id -u; grep -E 'CapEff|Seccomp:' /proc/self/status; echo x > /dev/null && echo null; \
                  head -c 4 /dev/urandom | wc -c; rm /etc/gone; echo new > /new; ls /proc | grep -c '^[0-9]'; \
                  touch /sys/x; ls -d /sys/class; touch /dev/shm/f; mknod /m c 1 1; hostname; ls /dev/pts; readlink /proc/1/exe";
    let (exit, output) = image.run_spec(image.step(script)).unwrap_or_else(|e| panic!("{}", explain(&e)));
    assert_eq!(exit.status, Status::Code(0), "{output}");
    for expected in [
        "0\n",
        "CapEff:\t00000000a80425fb",
        "Seccomp:\t2",
        "null\n4\n",
        "Read-only file system",
        "/sys/class",
        "Operation not permitted",
        "buildkitsandbox",
        "ptmx",
        "/bin/busybox",
    ] {
        assert!(output.contains(expected), "{expected:?} is missing in {output}");
    }
    let whiteout = fs::symlink_metadata(image.upper().join("etc/gone")).unwrap();
    assert_eq!((whiteout.rdev(), whiteout.mode() & 0o170_000), (0, 0o020_000), "a whiteout");

    let mut spec = image.step("cat /k; ls /sys/class/net; touch /c/made");
    spec.network = Network::None;
    let cache = image.dir.path().join("cache");
    fs::create_dir(&cache).unwrap();
    let source = BindSource::Host(fs::File::open(&cache).unwrap().into());
    spec.mounts = vec![
        Mount::new("/k", MountKind::File { content: b"key\n".to_vec(), mode: 0o400, uid: 0, gid: 0 }),
        Mount::new("/c", MountKind::Bind { source, access: Access::ReadWrite }),
    ];
    assert_eq!(image.sh_spec(spec), "key\nlo\n");
    assert!(cache.join("made").exists());

    let mut spec = image.step("id -u; id -g; chown 1000 /home/x || touch /home/failed");
    if ranges {
        fs::write(image.lower().join("home/x"), "").unwrap();
        assert_eq!(image.sh_spec(spec), "0\n0\n");
        assert_eq!(fs::metadata(image.upper().join("home/x")).unwrap().uid(), 1000);
        let mut spec = image.step("id -u; id -G; echo out > /dev/stdout; cat /proc/self/uid_map | wc -l");
        spec.identity = Identity { uid: 1000, gid: 1001, groups: vec![1001, 5] };
        let output = image.sh_spec(spec);
        assert!(
            output.starts_with("1000\n1001 5\nout\n") || output.starts_with("1000\n5 1001\nout\n"),
            "{output}"
        );
    } else {
        spec.identity = Identity { uid: 1000, gid: 1000, groups: vec![] };
        let error = image.run_spec(spec).unwrap_err();
        assert!(matches!(error, Error::User { uid: 1000, .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("/etc/subuid"));
    }
    let mut spec = image.step("true");
    spec.limits.memory = Some(1 << 25);
    match image.run_spec(spec) {
        Ok(_) => {}
        Err(e) => assert!(matches!(e, Error::Limit { .. }) && e.hint().is_some(), "{e:?}"),
    }
    0
}
