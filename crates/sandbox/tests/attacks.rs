//! Hostile root file systems and specifications: a canary outside of the root must stay as it is.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::{Image, explain, image};
use sandbox::*;

struct Canary {
    image: Image,
    dir: PathBuf,
}

/// An image, and a folder of the host beside it with something to lose.
fn canary() -> Option<Canary> {
    let image = image()?;
    let dir = image.dir.path().join("canary");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), "untouched").unwrap();
    Some(Canary { image, dir })
}

impl Canary {
    fn check(&self) {
        let names: Vec<_> = fs::read_dir(&self.dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["file"]);
        assert_eq!(fs::read_to_string(self.dir.join("file")).unwrap(), "untouched");
    }
}

#[test]
fn system_folders_that_are_links() {
    for name in ["dev", "proc", "sys"] {
        let Some(canary) = canary() else { return };
        symlink(&canary.dir, canary.image.lower().join(name)).unwrap();
        match canary.image.run_spec(canary.image.step("echo x > /dev/null; ls /dev/null")) {
            Ok((exit, output)) => {
                assert_eq!(name, "dev");
                assert!(exit.status.success() && output.contains("/dev/null"), "{output}");
                assert!(
                    fs::symlink_metadata(canary.image.upper().join("dev")).is_err(),
                    "the link itself stays"
                );
            }
            Err(e) => {
                assert_ne!(name, "dev", "{}", explain(&e));
                assert!(explain(&e).contains("not a folder"), "{}", explain(&e));
            }
        }
        canary.check();
    }
}

#[test]
fn relative_links_that_climb_out() {
    let Some(canary) = canary() else { return };
    symlink("../../../../../../../..", canary.image.lower().join("up")).unwrap();
    let target = PathBuf::from(format!("/up{}/made", canary.dir.display()));
    let mut spec = canary.image.step("true");
    spec.mounts = vec![Mount::new(&target, MountKind::Tmpfs { size: None, mode: 0o755, uid: 0, gid: 0 })];
    let (exit, _) = canary.image.run_spec(spec).unwrap();
    assert!(exit.stubs.iter().all(|s| s.removed), "{:?}", exit.stubs);
    canary.check();
    // The folder that held the first stub has been copied up, as on any overlay; it is empty.
    let first = canary.dir.components().nth(1).unwrap().as_os_str().to_str().unwrap();
    assert!(canary.image.changes().iter().all(|c| ["dev", "proc", "sys", first].contains(&c.as_str())));
}

#[test]
fn mount_targets_through_links() {
    let Some(canary) = canary() else { return };
    let lower = canary.image.lower();
    symlink(&canary.dir, lower.join("out")).unwrap();
    symlink(canary.dir.join("dangling"), lower.join("etc/resolv.conf")).unwrap();
    symlink(canary.dir.join("file"), lower.join("etc/hosts")).unwrap();
    let file = |content: &str| MountKind::File { content: content.into(), mode: 0o644, uid: 0, gid: 0 };
    let mut spec =
        canary.image.step("cat /etc/resolv.conf /etc/hosts /out/new; cd /out && pwd -P; echo y > /etc/hosts");
    spec.resolv_conf = Some(b"r\n".to_vec());
    spec.hosts = Some(b"h\n".to_vec());
    spec.mounts = vec![Mount::new("/out/new", file("n\n"))];
    let (exit, output) = canary.image.run_spec(spec).unwrap();
    assert!(output.starts_with(&format!("r\nh\nn\n{}\n", canary.dir.display())), "{output}");
    assert!(exit.stubs.iter().all(|s| s.removed), "{:?}", exit.stubs);
    canary.check();
    assert!(!canary.image.changes().iter().any(|c| c.contains("canary")), "{:?}", canary.image.changes());
}

#[test]
fn stubs_swapped_for_links_by_the_step() {
    let Some(canary) = canary() else { return };
    let trap = canary.dir.join("file");
    fs::write(&trap, "").unwrap();
    let script = format!("mv /d /gone; ln -s {} /d; ls -l /", canary.dir.display());
    let mut spec = canary.image.step(&script);
    fs::create_dir(canary.image.lower().join("d")).unwrap();
    let kind = MountKind::File { content: vec![], mode: 0o644, uid: 0, gid: 0 };
    spec.mounts = vec![Mount::new("/d/file", kind)];
    // Renaming a folder that holds a mount point is possible; its stub is then found nowhere.
    let (_, output) = canary.image.run_spec(spec).unwrap();
    assert!(trap.exists(), "{output}");
}

#[test]
fn nothing_is_mounted_in_proc() {
    let Some(canary) = canary() else { return };
    for target in ["/proc", "/proc/self/fd", "/proc/sys/kernel", "/sys/kernel", "/x/proc"] {
        let image = &canary.image;
        let _existing = symlink("/proc/sys", image.lower().join("x"));
        let target = if target == "/x/proc" { "/x/kernel" } else { target };
        let mut spec = image.step("true");
        spec.mounts = vec![Mount::new(target, MountKind::Tmpfs { size: None, mode: 0o755, uid: 0, gid: 0 })];
        let error = image.run_spec(spec).unwrap_err();
        assert!(matches!(error, Error::MountPlace { .. }), "{target}: {error:?}");
    }
}

#[test]
fn working_directories_in_proc() {
    let Some(canary) = canary() else { return };
    for number in 0..40 {
        let image = &canary.image;
        let mut spec = image.step("pwd -P; ls");
        spec.cwd = format!("/proc/self/fd/{number}").into();
        // Folders are bound, so that descriptors of the host are around while the step is set up.
        let host = fs::File::open(&canary.dir).unwrap().into();
        let kind = MountKind::Bind { source: BindSource::Host(host), access: Access::ReadWrite };
        spec.mounts = vec![Mount::new("/bound", kind)];
        match image.run_spec(spec) {
            Ok((_, output)) => panic!("{number}: {output}"),
            Err(e) => assert!(matches!(e, Error::WorkingDir { .. }), "{number}: {e:?}"),
        }
    }
    canary.check();
}

#[test]
fn a_null_device_that_is_a_link() {
    let Some(canary) = canary() else { return };
    let dev = canary.image.lower().join("dev");
    fs::create_dir(&dev).unwrap();
    symlink(canary.dir.join("file"), dev.join("null")).unwrap();
    let mut spec = canary.image.step("cat; echo over > /dev/null");
    // A bind over /dev puts the link into the step's sight.
    let source = BindSource::Host(fs::File::open(&dev).unwrap().into());
    spec.mounts = vec![Mount::new("/dev", MountKind::Bind { source, access: Access::ReadOnly })];
    let (_, output) = canary.image.run_spec(spec).unwrap();
    assert!(!output.contains("untouched"), "{output}");
    canary.check();
}

/// `/proc/self/exe` is the runner while the program starts.
#[test]
fn the_builders_executable_can_not_be_written() {
    let Some(image) = image() else { return };
    // The runtime of the program under test seals its own executable.
    let runner = env!("CARGO_BIN_EXE_sandbox-runner");
    let before = fs::read(runner).unwrap();
    let runtime = Runtime::with_program(runner).unwrap();
    fs::write(image.lower().join("script"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(image.lower().join("script"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    for program in ["/proc/self/exe", "/script"] {
        let spec = SandboxSpec::new(image.mount(), [program]);
        // Static or not, it is either refused or runs as an ordinary program that knows no builder.
        match common::run(&runtime, spec) {
            Ok((exit, output)) => assert!(!exit.status.success(), "{output}"),
            Err(e) => assert!(matches!(e, Error::Exec { .. }), "{e:?}"),
        }
    }
    assert_eq!(fs::read(runner).unwrap(), before);
}

#[test]
fn mounts_that_do_not_fit() {
    let Some(canary) = canary() else { return };
    let image = &canary.image;
    let file = || MountKind::File { content: vec![], mode: 0o644, uid: 0, gid: 0 };
    let tmpfs = || MountKind::Tmpfs { size: None, mode: 0o755, uid: 0, gid: 0 };
    for (target, kind) in [("/etc", file()), ("/etc/passwd", tmpfs()), ("/etc/passwd/x", tmpfs())] {
        let mut spec = image.step("true");
        spec.mounts = vec![Mount::new(target, kind)];
        let error = image.run_spec(spec).unwrap_err();
        let place = match &error {
            Error::MountPlace { target, .. } | Error::Mount { target, .. } => target,
            other => panic!("{other:?}"),
        };
        assert_eq!(place, Path::new(target), "{error:?}");
    }
    // A loop of links.
    symlink("b", image.lower().join("a")).unwrap();
    symlink("a", image.lower().join("b")).unwrap();
    let mut spec = image.step("true");
    spec.mounts = vec![Mount::new("/a/x", tmpfs())];
    assert!(explain(&image.run_spec(spec).unwrap_err()).contains("symbolic links"));
}

/// What lies on top of the root would be found by way of "/..".
#[test]
fn nothing_is_above_the_root() {
    let Some(image) = image() else { return };
    std::os::unix::fs::symlink("../../../../../../..", image.lower().join("up")).unwrap();
    for access in [sandbox::Access::ReadWrite, sandbox::Access::ReadOnly] {
        let mut spec = image.step(
            "for p in / /.. /../.. /up/ /up/.. /proc/self/root/.. /proc/self/cwd/..; do stat -c %i $p/; done | sort -u | wc -l; \
             ls -a /../ | grep -c lower; grep -c ' / / ' /proc/self/mountinfo",
        );
        spec.root_access = access;
        let (_, output) = image.run_spec(spec).unwrap();
        assert_eq!(output, "1\n0\n1\n");
    }
}
