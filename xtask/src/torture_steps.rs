//! `cargo xtask torture kills` and `torture kernel`: steps that are ended at any moment, and steps on another kernel.
//!
//! Both take long and are no part of `test`, which has short forms of them.

use crate::machine::{Scratch, command, has, is_root, output, run, target};
use crate::{dist, packages};
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// 200 builders that are killed and 300 that are asked to end, as root and as an ordinary user, and a hundred steps
/// at once. The tests hold the promises; this only makes them long.
pub fn kills() -> Result<bool> {
    let mut test = command(&["cargo", "test", "--package", "ctrbuild-cli", "--test", "isolation"]);
    test.args(["--", "--nocapture", "--test-threads=1", "signals::"]);
    run(test.env("CTRBUILD_TEST_SIGNALS", "300").env("CTRBUILD_TEST_KILLS", "200"))
}

/// Layouts of cgroups that a machine may have, and what makes the kernel have them. Where nothing is mounted the
/// builder finds v2 all the same, so that a controller must be missing for a limit to be impossible.
const LAYOUTS: [(&str, &str); 4] = [
    ("v2", "cgroup_no_v1=all"),
    ("v1", ""),
    ("hybrid", ""),
    ("none", "cgroup_no_v1=all cgroup_disable=memory"),
];

/// What the virtual machine's kernel is made of: enough for a disk and for overlays.
const MODULES: [&str; 7] = [
    "virtio.ko",
    "virtio_ring.ko",
    "virtio_pci_legacy_dev.ko",
    "virtio_pci_modern_dev.ko",
    "virtio_pci.ko",
    "virtio_blk.ko",
    "overlay.ko",
];

/// First process of the initial RAM disk: the real root is a disk, since no root can be pivoted from this one.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for n in 1 2 3; do for m in /modules/*; do /bin/busybox insmod $m 2>/dev/null; done; done
/bin/busybox mount -t ext4 /dev/vda /disk && exec /bin/busybox switch_root /disk /init
/bin/busybox poweroff -f
";

/// What runs in the machine.
const GUEST: &str = include_str!("kernel/guest.sh");

/// Builds with limits in a virtual machine with Debian's kernel, once for each of the layouts (or those named).
pub fn kernel(wanted: &[&str]) -> Result<bool> {
    if let Some(other) = wanted.iter().find(|w| !LAYOUTS.iter().any(|(name, _)| name == *w)) {
        bail!("torture kernel knows v2, v1, hybrid and none, not {other}");
    }
    if !is_root() {
        bail!("torture kernel needs root: the disk has files of others");
    }
    packages::for_kernel()?;
    for program in ["qemu-system-x86_64", "mkfs.ext4", "busybox", "dpkg-deb"] {
        if !has(program) {
            bail!("{program} is not installed");
        }
    }
    let ctrbuild = match std::env::var_os("CTRBUILD") {
        Some(program) => PathBuf::from(program),
        None => dist::build()?,
    };
    let scratch = Scratch::new("kernel")?;
    let (image, modules) = fetch(scratch.path())?;
    let initrd = scratch.path().join("initrd");
    initial_disk(&scratch.path().join("initial"), &modules, &initrd)?;
    let root = scratch.path().join("root");
    furnish(&root, &ctrbuild)?;
    let mut all = true;
    for (layout, arguments) in LAYOUTS.iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(name)) {
        let disk = scratch.path().join("disk");
        let _ = fs::remove_file(&disk);
        output(command(&["mkfs.ext4", "-q", "-d"]).arg(&root).arg(&disk).arg("1G"))?;
        println!("== {layout}");
        all &= boot(&image, &initrd, &disk, &format!("layout={layout} {arguments}"))?;
    }
    Ok(all)
}

/// Debian's kernel, unpacked: its image, and the folder with its modules.
fn fetch(into: &Path) -> Result<(PathBuf, PathBuf)> {
    let depends = output(&mut command(&["apt-cache", "depends", "linux-image-cloud-amd64"]))?;
    let package = depends.lines().find_map(|l| l.trim().strip_prefix("Depends: linux-image-"));
    let package = format!("linux-image-{}", package.context("apt knows no kernel for clouds")?);
    let kept = target().join("kernel");
    fs::create_dir_all(&kept)?;
    let find = || -> Result<Option<PathBuf>> {
        let mut names = fs::read_dir(&kept)?.flatten().map(|e| e.path());
        let matches = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&package));
        Ok(names.find(|p| matches(p) && p.extension().is_some_and(|e| e == "deb")))
    };
    if find()?.is_none() {
        output(command(&["apt-get", "-q", "download", &package]).current_dir(&kept))?;
    }
    let package = find()?.context("apt-get download brought nothing")?;
    let folder = into.join("package");
    output(command(&["dpkg-deb", "-x"]).arg(&package).arg(&folder))?;
    let boot = fs::read_dir(folder.join("boot"))?.flatten().map(|e| e.path());
    let image = boot.into_iter().find(|p| p.to_string_lossy().contains("/vmlinuz-"));
    Ok((image.context("the package has no kernel")?, folder.join("lib/modules")))
}

fn busybox(root: &Path) -> Result<()> {
    fs::create_dir_all(root.join("bin"))?;
    let from = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
    let from = from.context("busybox-static is not installed")?;
    fs::copy(from, root.join("bin/busybox"))?;
    for applet in output(&mut command(&[from, "--list"]))?.lines().filter(|a| *a != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    Ok(())
}

fn script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

fn initial_disk(root: &Path, modules: &Path, to: &Path) -> Result<()> {
    for folder in ["dev", "disk", "modules"] {
        fs::create_dir_all(root.join(folder))?;
    }
    busybox(root)?;
    script(&root.join("init"), INIT)?;
    let all = output(command(&["find"]).arg(modules).args(["-name", "*.ko"]))?;
    for name in MODULES {
        let found = all.lines().find(|line| line.ends_with(&format!("/{name}")));
        // What is missing is a part of this kernel's image.
        if let Some(found) = found {
            fs::copy(found, root.join("modules").join(name))?;
        }
    }
    let names = output(command(&["find", "."]).current_dir(root))?;
    let list = root.with_extension("names");
    fs::write(&list, names)?;
    let mut pack = command(&["busybox", "cpio", "-o", "-H", "newc"]);
    let pack = pack.current_dir(root).stdin(fs::File::open(list)?).stdout(fs::File::create(to)?);
    if !pack.stderr(Stdio::null()).status()?.success() {
        bail!("can't pack the initial disk");
    }
    Ok(())
}

/// The root of the machine: busybox, the program, and what an ordinary user needs.
fn furnish(root: &Path, ctrbuild: &Path) -> Result<()> {
    for folder in ["proc", "sys", "dev", "tmp", "etc", "root", "home", "usr/bin", "var/lib"] {
        fs::create_dir_all(root.join(folder))?;
    }
    busybox(root)?;
    script(&root.join("init"), GUEST)?;
    program(root, ctrbuild, "bin/ctrbuild")?;
    let _smaller = command(&["strip"]).arg(root.join("bin/ctrbuild")).stderr(Stdio::null()).status();
    for helper in ["newuidmap", "newgidmap", "setpriv"] {
        program(root, &Path::new("/usr/bin").join(helper), &format!("usr/bin/{helper}"))?;
    }
    let etc = root.join("etc");
    fs::write(etc.join("passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")?;
    fs::write(etc.join("group"), "root:x:0:\nuser:x:1000:\n")?;
    for file in ["subuid", "subgid"] {
        fs::write(etc.join(file), "user:100000:65536\n")?;
    }
    let base = root.with_extension("base");
    busybox(&base)?;
    for (name, text) in [("gone", "g"), ("f", "f"), ("sub/x", "x"), ("passwd", "root:x:0:0::/root:/bin/sh\n")]
    {
        let path = base.join("etc").join(name);
        fs::create_dir_all(path.parent().unwrap_or(&base))?;
        fs::write(path, text)?;
    }
    output(
        command(&["tar", "--mtime=@1600000000", "-C"])
            .arg(&base)
            .arg("-cf")
            .arg(root.join("base.tar"))
            .arg("."),
    )?;
    Ok(())
}

/// A program with its libraries, if it has some, and its mode.
fn program(root: &Path, from: &Path, to: &str) -> Result<()> {
    let copy = |from: &Path, to: &Path| -> Result<()> {
        fs::create_dir_all(to.parent().unwrap_or(root))?;
        fs::copy(from, to).with_context(|| from.display().to_string())?;
        let mode = fs::metadata(from)?.permissions().mode();
        Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
    };
    copy(from, &root.join(to))?;
    let told = command(&["ldd"]).arg(from).output()?;
    for word in String::from_utf8_lossy(&told.stdout).split_whitespace().filter(|w| w.starts_with('/')) {
        copy(Path::new(word), &root.join(word.trim_start_matches('/')))?;
    }
    Ok(())
}

/// Runs the machine to its end; true if everything in it went well.
fn boot(kernel: &Path, initrd: &Path, disk: &Path, arguments: &str) -> Result<bool> {
    let mut qemu = Command::new("timeout");
    qemu.args(["900", "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "768", "-smp", "2"]);
    qemu.args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio", "-kernel"]);
    qemu.arg(kernel).arg("-initrd").arg(initrd).arg("-drive");
    qemu.arg(format!("file={},format=raw,if=virtio,cache=unsafe", disk.display()));
    // On a busy machine the emulated timer is late, at which the kernel would give up.
    qemu.args(["-append", &format!("console=ttyS0 quiet panic=-1 rdinit=/init no_timer_check {arguments}")]);
    let mut machine = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let (mut good, mut bad, mut ended) = (0, 0, false);
    if let Some(serial) = machine.stdout.take() {
        for line in BufReader::new(serial).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).trim_end().to_string();
            good += usize::from(line.starts_with("ok: "));
            bad += usize::from(line.contains("FAILED: "));
            ended |= line.starts_with("end of the guest");
            println!("   {line}");
        }
    }
    machine.wait()?;
    println!(
        "-- {good} ok, {bad} failed{}",
        if ended { "" } else { "; the machine did not come to its end" }
    );
    Ok(bad == 0 && ended && good > 0)
}
