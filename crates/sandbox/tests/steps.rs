//! Each row of the sandbox's promises, asserted from inside of a step.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use common::{explain, image};
use sandbox::*;

#[test]
fn true_runs() {
    let Some(image) = image() else { return };
    assert_eq!(image.sh("echo hello; pwd; umask; id -u; echo $$"), "hello\n/\n0022\n0\n1\n");
    assert_eq!(image.changes(), ["dev", "proc", "sys"]);
}

#[test]
fn capabilities_seccomp_and_privileges() {
    let Some(image) = image() else { return };
    let status = image.sh("cat /proc/self/status");
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned();
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(field(set), "00000000a80425fb", "{set}");
    }
    for set in ["CapInh:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "0");
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(field("Seccomp_filters:"), "1");
}

#[test]
fn ordinary_user_has_no_capabilities_but_setuid_works() {
    let Some(image) = image() else { return };
    fs::create_dir(image.lower().join("setuid")).unwrap();
    // geteuid, exit with it
    let code = [0xb8, 107, 0, 0, 0, 0x0f, 5, 0x89, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 5];
    common::write_elf(&image.lower().join("setuid/euid"), common::Class::Bits64, &code, 0o4755);
    let mut spec = image
        .step("id; grep Cap /proc/self/status; echo to-stdout > /dev/stdout; /setuid/euid; echo euid $?");
    spec.identity = Identity { uid: 1000, gid: 1001, groups: vec![1001, 7] };
    let output = image.sh_spec(spec);
    assert!(output.starts_with("uid=1000(app) gid=1001 groups=7,1001\n"), "{output}");
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert!(output.contains(&format!("{set}:\t0000000000000000")), "{output}");
    }
    assert!(output.contains("CapBnd:\t00000000a80425fb"), "{output}");
    assert!(output.contains("to-stdout"), "{output}");
    assert!(!cfg!(target_arch = "x86_64") || output.contains("euid 0\n"), "{output}");
}

#[test]
fn namespaces_are_new() {
    let Some(image) = image() else { return };
    let inside = image.sh("for n in pid ipc uts mnt net cgroup user; do readlink /proc/self/ns/$n; done; ls /proc | grep -c '^[0-9]'");
    let inside: Vec<&str> = inside.lines().collect();
    for (name, inside) in ["pid", "ipc", "uts", "mnt", "net", "cgroup", "user"].iter().zip(&inside) {
        let outside = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        let same = outside.to_str().unwrap() == *inside;
        assert_eq!(same, ["net", "user"].contains(name), "{name}: {inside} {outside:?}");
    }
    let processes: u32 = inside[7].parse().unwrap();
    assert!(processes <= 4, "only own processes: {processes}");
}

#[test]
fn network_none_has_loopback_only() {
    let Some(image) = image() else { return };
    let mut spec = image
        .step("ls /sys/class/net; ip addr show lo | grep -o 'inet 127.0.0.1'; ip addr | grep -c '^[0-9]'");
    spec.network = Network::None;
    assert_eq!(image.sh_spec(spec), "lo\ninet 127.0.0.1\n1\n");
}

#[test]
fn a_given_network_namespace_is_entered() {
    let Some(image) = image() else { return };
    let mut other =
        std::process::Command::new("/bin/busybox").args(["unshare", "-n", "sleep", "60"]).spawn().unwrap();
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let path = format!("/proc/{}/ns/net", other.id());
    let start = std::time::Instant::now();
    while fs::read_link(&path).unwrap() == own && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(2));
    }
    let namespace = fs::read_link(&path).unwrap();
    let mut spec = image.step("readlink /proc/self/ns/net");
    spec.network = Network::Namespace(fs::File::open(&path).unwrap().into());
    let output = image.sh_spec(spec);
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(output.trim(), namespace.to_str().unwrap());
    assert_ne!(namespace, own);
}

#[test]
fn devices_of_the_host_on_request() {
    let Some(image) = image() else { return };
    if !Path::new("/dev/fuse").exists() {
        return eprintln!("skipped: no /dev/fuse");
    }
    let mut spec = image.step("ls -l /dev/fuse; : < /dev/fuse && echo opened");
    spec.devices = vec!["/dev/fuse".into()];
    assert!(image.sh_spec(spec).ends_with("opened\n"));
    let mut spec = image.step("true");
    spec.devices = vec!["/dev/no-such-device".into()];
    assert!(matches!(image.run_spec(spec).unwrap_err(), Error::Io { .. }));
}

#[test]
fn system_mounts_have_their_flags() {
    let Some(image) = image() else { return };
    let mounts = image.sh("cat /proc/mounts");
    let options = |target: &str| -> Vec<String> {
        let line = mounts.lines().rfind(|l| l.split(' ').nth(1) == Some(target));
        let line = line.unwrap_or_else(|| panic!("{target} is missing in {mounts}"));
        line.split(' ').nth(3).unwrap().split(',').map(str::to_owned).collect()
    };
    let has = |target: &str, wanted: &[&str]| {
        let options = options(target);
        for option in wanted {
            assert!(options.iter().any(|o| o == option), "{target} lacks {option}: {options:?}");
        }
    };
    has("/proc", &["rw", "nosuid", "nodev", "noexec"]);
    has("/sys", &["ro", "nosuid", "nodev", "noexec"]);
    has("/sys/fs/cgroup", &["ro", "nosuid", "nodev", "noexec"]);
    has("/dev", &["rw", "nosuid", "mode=755"]);
    // The kernel shows strictatime by showing nothing.
    assert!(!options("/dev").iter().any(|o| o.ends_with("atime")), "{:?}", options("/dev"));
    has("/dev/pts", &["rw", "nosuid", "noexec", "gid=5", "ptmxmode=666"]);
    has("/dev/shm", &["rw", "nosuid", "nodev", "noexec", "size=65536k"]);
    has("/dev/mqueue", &["rw", "nosuid", "nodev", "noexec"]);
    for name in ["bus", "fs", "irq", "sys", "sysrq-trigger"] {
        if Path::new("/proc").join(name).exists() {
            has(&format!("/proc/{name}"), &["ro", "nosuid", "nodev", "noexec"]);
        }
    }
    assert!(!mounts.contains(" /run "), "nothing on /run");
    assert_eq!(image.sh("stat -c '%a' /dev/shm /dev /dev/pts/ptmx"), "1777\n755\n666\n");
}

#[test]
fn masked_and_read_only_paths() {
    let Some(image) = image() else { return };
    let names = "/proc/acpi /proc/asound /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/timer_stats \
                 /proc/sched_debug /proc/scsi /proc/interrupts /sys/firmware /sys/devices/virtual/powercap";
    let script = format!(
        "for p in {names}; do [ -e $p ] || continue; if [ -d $p ]; then [ -z \"$(ls -A $p)\" ] || echo BAD $p; else \
         [ \"$(head -c 1 $p | wc -c)\" = 0 ] || echo BAD $p; fi; done; \
         echo 0 > /proc/irq/default_smp_affinity; echo 1 > /proc/sys/vm/drop_caches; mkdir /sys/fs/cgroup/x; echo end"
    );
    let output = image.sh(&script);
    assert!(!output.contains("BAD"), "{output}");
    assert_eq!(output.matches("Read-only file system").count(), 3, "{output}");
}

#[test]
fn devices() {
    let Some(image) = image() else { return };
    let output = image.sh(
        "for d in null zero full random urandom tty; do stat -c '%n %F %a %t:%T' /dev/$d; done; ls /dev; \
         for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; head -c 3 /dev/zero | od -An -tx1; \
         echo lost > /dev/null; echo x > /dev/full; true",
    );
    for line in [
        "/dev/null character special file 666 1:3",
        "/dev/zero character special file 666 1:5",
        "/dev/full character special file 666 1:7",
        "/dev/random character special file 666 1:8",
        "/dev/urandom character special file 666 1:9",
        "/dev/tty character special file 666 5:0",
        " 00 00 00",
        "No space left on device",
    ] {
        assert!(output.contains(line), "{line} is missing in {output}");
    }
    let listed =
        "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n";
    assert!(output.contains(listed), "{output}");
    assert!(
        output.contains("/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n"),
        "{output}"
    );
}

#[test]
fn nodes_can_be_made_but_only_harmless_ones_opened() {
    let Some(image) = image() else { return };
    let output = image.sh(
        "mknod /n c 1 3 && echo y > /n && echo null works; mknod /m c 1 1 && echo made mem; head -c 1 /m; \
         mknod /dev/disk b 254 0 && head -c 1 /dev/disk; mknod /d b 254 0; head -c 1 /d; mknod /k c 1 11; head -c 1 /k; true",
    );
    assert!(output.contains("null works\nmade mem\n"), "{output}");
    assert_eq!(output.matches("Operation not permitted").count(), 4, "{output}");
}

#[test]
fn only_three_descriptors_and_an_exact_environment() {
    let Some(image) = image() else { return };
    // One more descriptor: ls's own.
    assert_eq!(image.sh("ls /proc/self/fd"), "0\n1\n2\n3\n");
    assert_eq!(image.sh("cat; readlink /proc/self/fd/0"), "/dev/null\n");
    let mut spec = SandboxSpec::new(image.mount(), ["/bin/env"]);
    spec.env = vec![("B".into(), "2=\n".into()), ("A".into(), "1".into()), ("B".into(), "3".into())];
    assert_eq!(image.sh_spec(spec), "B=2=\n\nA=1\nB=3\n");
}

#[test]
fn host_name_hosts_and_resolv_conf() {
    let Some(image) = image() else { return };
    let mut spec = image.step(
        "hostname; cat /etc/hosts /etc/resolv.conf; echo x >> /etc/hosts; rm -f /etc/resolv.conf; true",
    );
    spec.hosts = Some(hosts_file("builder", &[("10.0.0.1".into(), "db".into())]));
    spec.resolv_conf = Some(b"nameserver 10.0.0.2\n".to_vec());
    spec.hostname = "builder".into();
    let (exit, output) = image.run_spec(spec).unwrap();
    let expected = "builder\n127.0.0.1\tlocalhost builder\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.1\tdb\n\
                    nameserver 10.0.0.2\n";
    assert!(output.starts_with(expected), "{output}");
    assert!(
        output.contains("Read-only file system") && output.contains("Device or resource busy"),
        "{output}"
    );
    let stubs: Vec<_> = exit.stubs.iter().map(|s| (s.path.to_str().unwrap(), s.removed)).collect();
    assert_eq!(stubs, [("/etc/resolv.conf", true), ("/etc/hosts", true)]);
    assert_eq!(image.changes(), ["dev", "etc", "proc", "sys"]);
    let names = fs::read_dir(image.upper().join("etc")).unwrap().count();
    assert_eq!(names, 0, "no stub is left");
}

#[test]
fn stubs_leave_no_trace() {
    let Some(image) = image() else { return };
    let old = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    let times = fs::FileTimes::new().set_modified(old).set_accessed(old);
    for name in ["etc", "home"] {
        fs::File::open(image.lower().join(name)).unwrap().set_times(times).unwrap();
    }
    let tmpfs = || MountKind::Tmpfs { size: Some(1 << 20), mode: 0o1777, uid: 0, gid: 0 };
    let secret = || MountKind::File { content: b"s3cret".to_vec(), mode: 0o400, uid: 7, gid: 8 };
    let mut spec = image.step(
        "cat /run/secrets/deep/key; stat -c ' %a %u:%g' /run/secrets/deep/key; touch /a/b/inner/x /etc/m/y /home/made; \
         stat -c '%a %u:%g' /a/b/inner",
    );
    spec.mounts = vec![
        Mount::new("/a/b/inner", tmpfs()),
        Mount::new("/run/secrets/deep/key", secret()),
        Mount::new("/etc/m", tmpfs()),
        Mount::new("/home/m", tmpfs()),
    ];
    let (exit, output) = image.run_spec(spec).unwrap();
    assert_eq!(output, "s3cret 400 7:8\n1777 0:0\n");
    assert!(exit.stubs.iter().all(|stub| stub.removed), "{:?}", exit.stubs);
    let paths: Vec<_> = exit.stubs.iter().map(|s| s.path.to_str().unwrap()).collect();
    for path in [
        "/a",
        "/a/b",
        "/a/b/inner",
        "/run",
        "/run/secrets",
        "/run/secrets/deep",
        "/run/secrets/deep/key",
        "/etc/m",
    ] {
        assert!(paths.contains(&path), "{path} in {paths:?}");
    }
    assert_eq!(image.changes(), ["dev", "etc", "home", "home/made", "proc", "sys"]);
    assert_eq!(fs::metadata(image.upper().join("etc")).unwrap().modified().unwrap(), old, "restored");
    let home = fs::metadata(image.upper().join("home")).unwrap().modified().unwrap();
    assert!(home > old + Duration::from_secs(1000), "the step changed this one itself");
}

#[test]
fn a_stub_with_content_stays() {
    let Some(image) = image() else { return };
    // The file is below the stub's parent, not below the mount.
    let mut spec = image.step("echo kept > /new/kept");
    spec.mounts = vec![Mount::new("/new/m", MountKind::Tmpfs { size: None, mode: 0o755, uid: 0, gid: 0 })];
    let (exit, _) = image.run_spec(spec).unwrap();
    let stubs: Vec<_> = exit.stubs.iter().map(|s| (s.path.to_str().unwrap(), s.removed)).collect();
    assert_eq!(stubs, [("/new", false), ("/new/m", true)]);
    assert_eq!(image.changes(), ["dev", "new", "new/kept", "proc", "sys"]);
}

#[test]
fn mounts_nest_in_any_order() {
    let Some(image) = image() else { return };
    let host = image.dir.path().join("context");
    fs::create_dir_all(host.join("d/sub")).unwrap();
    fs::write(host.join("d/y"), "yy").unwrap();
    let open = |name: &str| BindSource::Host(fs::File::open(host.join(name)).unwrap().into());
    let mut spec = image.step("find /m | sort; cat /m/f; touch /m/z/in /m/w; echo $?");
    spec.mounts = vec![
        Mount::new("/m/z", MountKind::Tmpfs { size: None, mode: 0o1777, uid: 0, gid: 0 }),
        Mount::new("/m/f", MountKind::Bind { source: open("d/y"), access: Access::ReadOnly }),
        Mount::new("/m", MountKind::Bind { source: open("d"), access: Access::ReadWrite }),
    ];
    assert_eq!(image.sh_spec(spec), "/m\n/m/f\n/m/sub\n/m/y\n/m/z\nyy0\n");
    assert!(host.join("d/w").exists());
}

#[test]
fn binds_of_overlays_and_parts_of_them() {
    let Some(image) = image() else { return };
    let (a, b) = (image.dir.path().join("a"), image.dir.path().join("b"));
    for dir in [&a, &b] {
        fs::create_dir_all(dir.join("sub")).unwrap();
    }
    fs::write(a.join("sub/one"), "1").unwrap();
    fs::write(b.join("sub/two"), "2").unwrap();
    std::os::unix::fs::symlink("/sub", a.join("link")).unwrap();
    std::os::unix::fs::symlink("../../../../etc/passwd", a.join("out")).unwrap();
    let tree = |subpath: &str| {
        let mount =
            Overlay::mount(&[Folder::Path(&a), Folder::Path(&b)], None, OverlayOptions::default()).unwrap();
        BindSource::Tree { mount, subpath: subpath.into() }
    };
    let bind =
        |target: &str, source| Mount::new(target, MountKind::Bind { source, access: Access::ReadOnly });
    let mut spec = image.step("ls /all /all/sub /part; cat /file; echo; touch /part/x");
    spec.mounts = vec![bind("/all", tree("")), bind("/part", tree("link")), bind("/file", tree("/sub/two"))];
    let (exit, output) = image.run_spec(spec).unwrap();
    assert_eq!(exit.status, Status::Code(1));
    assert!(
        output.starts_with("/all:\nlink\nout\nsub\n\n/all/sub:\none\ntwo\n\n/part:\none\ntwo\n2\n"),
        "{output}"
    );
    assert!(output.contains("Read-only file system"), "{output}");
    let mut spec = image.step("true");
    spec.mounts = vec![bind("/x", tree("out"))];
    let error = image.run_spec(spec).unwrap_err();
    assert!(explain(&error).contains("No such file"), "resolved inside: {}", explain(&error));
}

#[test]
fn read_only_root() {
    let Some(image) = image() else { return };
    let mut spec = image.step("touch /x; touch /m/x && touch /dev/shm/x && echo fine");
    spec.root_access = Access::ReadOnly;
    spec.mounts = vec![Mount::new("/m", MountKind::Tmpfs { size: None, mode: 0o755, uid: 0, gid: 0 })];
    let output = image.sh_spec(spec);
    assert!(output.contains("Read-only file system") && output.contains("fine"), "{output}");
    assert_eq!(image.changes(), ["dev", "proc", "sys"]);
}

#[test]
fn working_directory_is_made_and_stays() {
    let Some(image) = image() else { return };
    let mut spec = image.step("pwd; touch f");
    spec.cwd = "/srv/app".into();
    spec.identity = Identity { uid: 1000, gid: 1001, groups: vec![] };
    assert_eq!(image.sh_spec(spec), "/srv/app\n");
    let app = fs::metadata(image.upper().join("srv/app")).unwrap();
    assert_eq!((app.uid(), app.gid(), app.mode() & 0o777), (1000, 1001, 0o755));
    let mut spec = image.step("pwd; touch f");
    spec.cwd = "/cache/deep".into();
    spec.mounts = vec![Mount::new("/cache", MountKind::Tmpfs { size: None, mode: 0o755, uid: 0, gid: 0 })];
    assert_eq!(image.sh_spec(spec), "/cache/deep\n");
    let mut spec = image.step("true");
    spec.cwd = "/etc/passwd".into();
    let error = image.run_spec(spec).unwrap_err();
    assert!(matches!(error, Error::WorkingDir { .. }), "{error:?}");
}

#[test]
fn errors_of_exec_are_told_apart() {
    let Some(image) = image() else { return };
    fs::write(image.lower().join("bin/noexec"), "#!/bin/sh\n").unwrap();
    fs::write(image.lower().join("bin/badfmt"), "\0\0\0\0").unwrap();
    fs::write(image.lower().join("bin/badinterp"), "#!/no/such\n").unwrap();
    for name in ["badfmt", "badinterp"] {
        fs::set_permissions(image.lower().join("bin").join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let run = |program: &str| {
        let mut spec = SandboxSpec::new(image.mount(), [program]);
        spec.env = vec![("PATH".into(), "/nowhere:/bin".into())];
        explain(&image.run_spec(spec).unwrap_err())
    };
    assert_eq!(run("nosuch"), "exec: \"nosuch\": executable file not found in $PATH");
    assert_eq!(run("/bin/nosuch"), "exec: \"/bin/nosuch\": no such file or directory");
    assert_eq!(run("noexec"), "exec: \"/bin/noexec\": permission denied");
    assert_eq!(run("/etc"), "exec: \"/etc\": permission denied");
    assert_eq!(run("badfmt"), "exec: \"/bin/badfmt\": exec format error");
    assert_eq!(run("badinterp"), "exec: \"/bin/badinterp\": no such file or directory");
    let mut spec = SandboxSpec::new(image.mount(), ["true"]);
    spec.env = vec![];
    assert!(matches!(image.run_spec(spec).unwrap_err(), Error::NotInPath { .. }));
}

#[test]
fn status_of_the_program() {
    let Some(image) = image() else { return };
    let status = |script: &str| image.run_spec(image.step(script)).unwrap().0.status;
    assert_eq!(status("exit 42"), Status::Code(42));
    assert_eq!(status("(sh -c 'kill -9 $$; true'); exit $?"), Status::Code(137));
    // Pid 1 of a namespace can't be killed from inside; a signal reaches it from outside only.
    let mut spec = image.step("sleep 100");
    spec.limits.timeout = Some(Duration::from_millis(200));
    let (exit, _) = image.run_spec(spec).unwrap();
    assert_eq!(exit.status, Status::TimedOut);
    assert!(exit.usage.wall >= Duration::from_millis(200) && exit.usage.wall < Duration::from_secs(5));
}

#[test]
fn insecure_steps_have_everything() {
    let Some(image) = image() else { return };
    let mut spec = image.step("grep -E 'CapEff|Seccomp:' /proc/self/status; mount -t tmpfs none /tmp && echo mounted; [ -w /proc/sys/vm/swappiness ] && echo rw");
    spec.security = Security::Insecure;
    let output = image.sh_spec(spec);
    assert!(
        output.contains("Seccomp:\t0") && output.contains("mounted") && output.contains("rw"),
        "{output}"
    );
    let mut spec = image.step("id -u; grep CapEff /proc/self/status");
    spec.security = Security::Insecure;
    spec.identity.uid = 1000;
    let ordinary = image.sh_spec(spec);
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find(|l| l.starts_with("CapEff")).unwrap();
    assert!(output.contains(own), "{output} {own}");
    assert_eq!(ordinary, format!("1000\n{own}\n"), "capabilities are ambient, as in other builders");
}

#[test]
fn seccomp_refuses_what_it_must() {
    let Some(image) = image() else { return };
    let output = image
        .sh("mount -t tmpfs none /tmp; unshare -U true; unshare -m true; chroot / true && echo chroot works");
    assert_eq!(output.matches("Operation not permitted").count(), 2, "{output}");
    assert_eq!(output.matches("permission denied").count(), 1, "{output}");
    assert!(output.contains("chroot works"), "{output}");
}

/// By what the kernel answers, not by what the filter's text says.
#[test]
#[cfg(target_arch = "x86_64")]
fn calls_that_are_refused() {
    let Some(image) = image() else { return };
    // The call, 0 as third and fourth argument; exit with -result, or with 0.
    let code = |number: u32, first: u32, second: u32| -> Vec<u8> {
        let mut code = vec![0xb8];
        code.extend(number.to_le_bytes());
        code.push(0xbf);
        code.extend(first.to_le_bytes());
        code.push(0xbe);
        code.extend(second.to_le_bytes());
        code.extend([
            0x31, 0xd2, 0x4d, 0x31, 0xd2, 0x0f, 5, 0x85, 0xc0, 0x79, 4, 0xf7, 0xd8, 0xeb, 2, 0x31, 0xc0,
        ]);
        code.extend([0x89, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 5]);
        code
    };
    let (new_user, new_mounts) = (0x1000_0000, 0x2_0000);
    let cases = [
        ("getpid", 39, 0, 0, 0),
        ("socket of Unix", 41, 1, 1, 0),
        ("socket of AF_ALG", 41, 38, 5, libc::EPERM),
        ("socket of AF_VSOCK", 41, 40, 1, libc::EPERM),
        ("clone with a user namespace", 56, new_user | 17, 0, libc::EPERM),
        ("clone3", 435, 0, 0, libc::ENOSYS),
        ("unshare", 272, new_mounts, 0, libc::EPERM),
        ("setns", 308, u32::MAX, 0, libc::EPERM),
        ("mount", 165, 0, 0, libc::EPERM),
        ("bpf", 321, 0, 0, libc::EPERM),
        ("add_key", 248, 0, 0, libc::EPERM),
        ("keyctl", 250, 0, 0, libc::EPERM),
        ("io_uring_setup", 425, 1, 0, libc::EPERM),
        ("userfaultfd", 323, 0, 0, libc::EPERM),
        ("kexec_load", 246, 0, 0, libc::EPERM),
    ];
    let mut script = String::new();
    for (n, (_, number, first, second, _)) in cases.iter().enumerate() {
        let path = image.lower().join(format!("call{n}"));
        common::write_elf(&path, common::Class::Bits64, &code(*number, *first, *second), 0o755);
        script.push_str(&format!("/call{n}; echo $?; "));
    }
    let said = image.sh(&script);
    let found: Vec<i32> = said.lines().map(|l| l.parse().unwrap()).collect();
    for ((name, .., expected), found) in cases.iter().zip(&found) {
        assert_eq!(found, expected, "{name}");
    }
    assert_eq!(found.len(), cases.len());
}

#[test]
fn resource_limits_are_inherited() {
    let Some(image) = image() else { return };
    assert_eq!(image.sh("cat /proc/self/limits"), fs::read_to_string("/proc/self/limits").unwrap());
}

#[test]
fn what_is_left_in_run_stays() {
    let Some(image) = image() else { return };
    image.sh("mkdir -p /run/lock; echo x > /run/lock/f");
    assert_eq!(fs::read_to_string(image.upper().join("run/lock/f")).unwrap(), "x\n");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn programs_of_32_bits_are_filtered_by_their_own_numbers() {
    let Some(image) = image() else { return };
    // socket(family, SOCK_SEQPACKET, 0) by int 0x80; exit with -result, or 0
    let code = |family: u8| {
        vec![
            0xbb, family, 0, 0, 0, 0xb9, 5, 0, 0, 0, 0xba, 0, 0, 0, 0, 0xb8, 0x67, 1, 0, 0, 0xcd, 0x80, 0x31,
            0xdb, 0x85, 0xc0, 0x79, 4, 0x89, 0xc3, 0xf7, 0xdb, 0xb8, 1, 0, 0, 0, 0xcd, 0x80,
        ]
    };
    common::write_elf(&image.lower().join("unix"), common::Class::Bits32, &code(1), 0o755);
    common::write_elf(&image.lower().join("alg"), common::Class::Bits32, &code(38), 0o755);
    if std::process::Command::new(image.lower().join("unix")).status().is_err() {
        eprintln!("skipped: no i386 programs on this kernel");
        return;
    }
    assert_eq!(image.sh("/unix; echo $?; /alg; echo $?"), format!("0\n{}\n", libc::EPERM));
}

#[test]
fn ulimits_and_shm_size() {
    let Some(image) = image() else { return };
    let mut spec = image.step("ulimit -Sn; ulimit -Hn; df -k /dev/shm | tail -1 | awk '{print $2}'");
    spec.limits.ulimits = vec![Ulimit { name: "nofile".into(), soft: 123, hard: 456 }];
    spec.limits.shm_size = Some(1 << 20);
    assert_eq!(image.sh_spec(spec), "123\n456\n1024\n");
    let mut spec = image.step("true");
    spec.limits.ulimits = vec![Ulimit { name: "bogus".into(), soft: 1, hard: 1 }];
    let error = image.run_spec(spec).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error:?}");
}

#[test]
fn wrong_specifications_are_refused() {
    let Some(image) = image() else { return };
    let wrong = |change: &dyn Fn(&mut SandboxSpec)| {
        let mut spec = image.step("true");
        change(&mut spec);
        let error = image.run_spec(spec).unwrap_err();
        assert!(matches!(error, Error::Spec(_)), "{error:?}");
    };
    wrong(&|s| s.args.clear());
    wrong(&|s| s.hostname = "a\nb".into());
    wrong(&|s| s.hostname = String::new());
    wrong(&|s| s.env.push(("A=B".into(), "".into())));
    wrong(&|s| s.env.push(("A".into(), "x\0y".into())));
    wrong(&|s| s.cwd = "relative".into());
    wrong(&|s| s.identity.uid = u32::MAX);
    wrong(&|s| s.mounts.push(Mount::new("/a/..", MountKind::Tmpfs { size: None, mode: 0, uid: 0, gid: 0 })));
    wrong(&|s| s.devices.push("/etc/passwd".into()));
}

#[test]
fn a_hundred_at_once_from_many_threads() {
    let Some(image) = image() else { return };
    let lower = image.lower();
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..100)
            .map(|n| {
                let (image, lower) = (&image, &lower);
                scope.spawn(move || {
                    let dirs = tempfile::tempdir().unwrap();
                    let (upper, work) = (dirs.path().join("u"), dirs.path().join("w"));
                    fs::create_dir(&upper).unwrap();
                    fs::create_dir(&work).unwrap();
                    let parts = Upper { upper: Folder::Path(&upper), work: Folder::Path(&work) };
                    let mount =
                        Overlay::mount(&[Folder::Path(lower)], Some(parts), OverlayOptions::default())
                            .unwrap();
                    let mut spec =
                        SandboxSpec::new(mount, ["/bin/sh", "-c", &format!("echo {n} > /out; echo $$")]);
                    spec.env = vec![("PATH".into(), "/bin".into())];
                    let (exit, output) = image.run_spec(spec).unwrap();
                    assert_eq!((exit.status, output.as_str()), (Status::Code(0), "1\n"));
                    assert_eq!(fs::read_to_string(upper.join("out")).unwrap(), format!("{n}\n"));
                })
            })
            .collect();
        for handle in handles {
            handle.join().unwrap();
        }
    });
}
