//! Debian packages that tests use. Tests of what is missing skip and say so.

use crate::machine::{command, has, is_root, run};
use anyhow::Result;

/// Program and package.
const TESTS: &[(&str, &str)] = &[
    ("bsdtar", "libarchive-tools"),
    ("busybox", "busybox-static"),
    ("docker-registry", "docker-registry"),
    ("git", "git"),
    ("gpgv", "gpgv"),
    ("ip", "iproute2"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkntfs", "ntfs-3g"),
    ("newuidmap", "uidmap"),
    ("nvim", "neovim"),
    ("openssl", "openssl"),
    ("passt", "passt"),
    ("python3", "python3"),
    ("qemu-aarch64-static", "qemu-user-static"),
    ("shellcheck", "shellcheck"),
    ("skopeo", "skopeo"),
    ("slirp4netns", "slirp4netns"),
    ("strace", "strace"),
    ("umoci", "umoci"),
    ("wimlib-imagex", "wimtools"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
];

/// What `bench` needs besides.
const BENCH: &[(&str, &str)] = &[("buildah", "buildah"), ("runc", "runc")];

/// What `bench store` needs besides.
const BENCH_STORE: &[(&str, &str)] = &[
    ("buildah", "buildah"),
    ("docker-registry", "docker-registry"),
    ("openssl", "openssl"),
    ("pigz", "pigz"),
    ("zstd", "zstd"),
];

/// What `torture kernel` needs.
const KERNEL: &[(&str, &str)] = &[
    ("busybox", "busybox-static"),
    ("mkfs.ext4", "e2fsprogs"),
    ("newuidmap", "uidmap"),
    ("qemu-system-x86_64", "qemu-system-x86"),
];

/// Which are missing is said; root on Debian gets them installed.
pub fn for_tests() -> Result<()> {
    install(TESTS)
}

pub fn for_bench() -> Result<()> {
    install(TESTS)?;
    install(BENCH)
}

pub fn for_bench_store() -> Result<()> {
    install(BENCH_STORE)
}

pub fn for_kernel() -> Result<()> {
    install(KERNEL)
}

fn missing(wanted: &[(&str, &'static str)]) -> Vec<&'static str> {
    wanted.iter().filter(|(program, _)| !has(program)).map(|(_, package)| *package).collect()
}

fn install(wanted: &[(&str, &'static str)]) -> Result<()> {
    let packages = missing(wanted);
    if packages.is_empty() {
        return Ok(());
    }
    if is_root() && has("apt-get") {
        println!("installing {}", packages.join(" "));
        let apt = |args: &[&str]| {
            let mut apt = command(&["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120"]);
            run(apt.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdout(std::process::Stdio::null()))
        };
        if apt(&["update"])? {
            let mut args = vec!["install", "--no-install-recommends"];
            args.extend(&packages);
            if !apt(&args)? {
                // One that this release does not have must not cost all others.
                for package in &packages {
                    apt(&["install", "--no-install-recommends", package])?;
                }
            }
        }
    }
    let still = missing(wanted);
    if !still.is_empty() {
        println!("warning: not installed: {}; tests that need them will skip", still.join(" "));
    }
    Ok(())
}
