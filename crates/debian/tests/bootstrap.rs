//! A whole bootstrap from a real mirror: needs root and a mirror, and says so when it has none.
//!
//! `CTRBUILD_TEST_MIRROR` names the mirror, `off` turns the test off; `CTRBUILD_TEST_SUITE` names another suite
//! than bookworm; `CTRBUILD_TEST_KEEP` names a folder to make the root in and keep.

mod common;

use common::{PlainRunner, can_bootstrap, is_root, tree_text};
use debian::{Architecture, Bootstrap, Event, Expiry, Report, Variant};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

/// The mirror, if the root can be looked at from outside.
fn as_root() -> Option<String> {
    if !is_root() {
        println!("skipped: needs root");
        return None;
    }
    can_bootstrap()
}

fn host_arch() -> Architecture {
    let oci = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Architecture::from_oci(oci, None).unwrap()
}

fn make(bootstrap: &Bootstrap, dest: &Path) -> Report {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let progress = |event: Event| match event {
        Event::Downloading { .. } | Event::Unpacked { .. } => {}
        Event::Log { text } if std::env::var_os("CTRBUILD_TEST_VERBOSE").is_none() => {
            for line in text.lines().filter(|l| l.contains("warning") || l.contains("error")) {
                println!("  {line}");
            }
        }
        other => println!("{other:?}"),
    };
    match runtime.block_on(bootstrap.run(dest, Arc::new(PlainRunner), Arc::new(progress))) {
        Ok(report) => report,
        Err(e) => {
            let mut text = e.to_string();
            let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&e);
            while let Some(c) = cause {
                text += &format!(": {c}");
                cause = c.source();
            }
            panic!("{text}\nhint: {:?}", e.hint());
        }
    }
}

fn chroot(root: &Path, script: &str) -> String {
    let out = Command::new("chroot")
        .arg(root)
        .args(["/bin/sh", "-ec", script])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn a_real_suite_becomes_a_working_root() {
    let Some(mirror) = as_root() else { return };
    let suite = std::env::var("CTRBUILD_TEST_SUITE").unwrap_or_else(|_| "bookworm".into());
    let cache = std::env::temp_dir().join("ctrbuild-test-debian-cache");
    let mut bootstrap = Bootstrap::new(&*suite, host_arch(), &cache, SystemTime::now());
    bootstrap.mirror = mirror.clone();
    bootstrap.expiry = Expiry::Ignore;
    let temp = tempfile::tempdir().unwrap();
    let base = std::env::var_os("CTRBUILD_TEST_KEEP").map_or(temp.path().to_path_buf(), Into::into);
    std::fs::create_dir_all(&base).unwrap();
    let root = base.join("one");
    let report = make(&bootstrap, &root);
    println!(
        "{:?} {} packages {} bytes, version {}",
        report.timing,
        report.packages.len(),
        report.size,
        report.version
    );

    // Before any program of the root runs without a sandbox, since those write to /dev/null.
    let a = tree_text(&root);
    // Twice the same.
    let second = base.join("two");
    let again = make(&bootstrap, &second);
    println!("{:?}", again.timing);
    assert_eq!(again.identity, report.identity);
    let b = tree_text(&second);
    let lines = |t: &str| t.lines().map(str::to_string).collect::<BTreeSet<_>>();
    let differ: Vec<_> = lines(&a).symmetric_difference(&lines(&b)).take(10).cloned().collect();
    assert!(differ.is_empty() && a == b, "{differ:#?}");
    let newest = report.epoch;
    assert!(a.lines().all(|l| l.split(' ').nth(3).unwrap().parse::<u64>().unwrap() <= newest));

    // dpkg agrees with what was written into its database.
    assert_eq!(chroot(&root, "dpkg --audit"), "");
    assert_eq!(chroot(&root, "dpkg --verify"), "");
    let states = chroot(&root, "dpkg-query -W -f '${db:Status-Abbrev}\\n' | sort -u");
    assert_eq!(states.trim(), "ii");
    let installed = chroot(&root, "dpkg-query -W -f '${Package} ${Version} ${Architecture}\\n' | sort");
    let reported: BTreeSet<String> =
        report.packages.iter().map(|p| format!("{} {} {}", p.name, p.version, p.architecture)).collect();
    assert_eq!(installed.lines().map(str::to_string).collect::<BTreeSet<_>>(), reported);

    // Every file that dpkg lists is there.
    chroot(
        &root,
        "cat /var/lib/dpkg/info/*.list | while read -r f; do [ -e \"$f\" ] || [ -L \"$f\" ] || { echo \"$f\" >&2; exit 1; }; done",
    );
    // The machine that made it left no mark.
    for gone in ["etc/hostname", "etc/resolv.conf", "var/log/dpkg.log", "var/lib/apt/lists/lock"] {
        assert!(!root.join(gone).exists(), "{gone}");
    }
    assert_eq!(std::fs::read_dir(root.join("dev")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    assert!(chroot(&root, "cat /etc/passwd").contains("_apt:"));
    assert_eq!(
        chroot(&root, "stat -c '%a %U %G' /etc/shadow /usr/bin/passwd /tmp /root"),
        "640 root shadow\n4755 root root\n1777 root root\n700 root root\n"
    );
    assert_eq!(chroot(&root, "apt-mark showmanual | grep -x apt"), "apt\n");

    compare_with_mmdebstrap(&suite, &mirror, &base, &report);
}

fn compare_with_mmdebstrap(suite: &str, mirror: &str, base: &Path, report: &Report) {
    if Command::new("mmdebstrap").arg("--version").output().is_err() {
        println!("skipped: no mmdebstrap to compare with");
        return;
    }
    let other = base.join("mmdebstrap");
    let sources = format!(
        "deb {mirror} {suite} main\ndeb {mirror} {suite}-updates main\n\
         deb {} {suite}-security main\n",
        debian::DEFAULT_SECURITY_MIRROR
    );
    let sources = if suite == "sid" { format!("deb {mirror} sid main\n") } else { sources };
    let mut command = Command::new("mmdebstrap");
    command.args([
        "--variant=minbase",
        "--format=directory",
        "--aptopt=Acquire::Check-Valid-Until \"false\"",
    ]);
    if suite != "bullseye" {
        command.arg("--include=usr-is-merged");
    }
    let out =
        command.arg(suite).arg(&other).arg("-").stdin(common::stdin_of(sources.as_bytes())).output().unwrap();
    if !out.status.success() {
        println!("skipped: mmdebstrap failed: {}", String::from_utf8_lossy(&out.stderr));
        return;
    }
    let theirs: BTreeSet<String> =
        chroot(&other, "dpkg-query -W -f '${Package} ${Version}\\n'").lines().map(str::to_string).collect();
    let ours: BTreeSet<String> =
        report.packages.iter().map(|p| format!("{} {}", p.name, p.version)).collect();
    // What it takes for essential before it knows that /usr is merged: usrmerge, and all of perl for it.
    let merging = [
        "usrmerge ",
        "perl ",
        "perl-modules-",
        "libperl5",
        "libgdbm",
        "libfile-find-rule-perl ",
        "libnumber-compare-perl ",
        "libtext-glob-perl ",
    ];
    let theirs: BTreeSet<String> =
        theirs.into_iter().filter(|p| !merging.iter().any(|m| p.starts_with(m))).collect();
    let differ: Vec<_> = ours.symmetric_difference(&theirs).collect();
    assert!(differ.is_empty(), "another set of packages than mmdebstrap's: {differ:?}");
}

#[test]
fn a_slim_root_with_more_packages() {
    let Some(mirror) = as_root() else { return };
    let cache = std::env::temp_dir().join("ctrbuild-test-debian-cache");
    let mut bootstrap = Bootstrap::new("bookworm", host_arch(), &cache, SystemTime::now());
    bootstrap.mirror = mirror;
    bootstrap.expiry = Expiry::Ignore;
    bootstrap.variant = Variant::Slim;
    bootstrap.include = vec!["ca-certificates".into(), "python3-minimal".into()];
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("root");
    let report = make(&bootstrap, &root);
    println!("{:?} {} packages {} bytes", report.timing, report.packages.len(), report.size);
    assert_eq!(chroot(&root, "dpkg --audit"), "");
    assert_eq!(chroot(&root, "python3 -c 'print(6*7)'"), "42\n");
    assert!(root.join("etc/ssl/certs/ca-certificates.crt").exists());
    assert!(!root.join("usr/share/man/man1/ls.1.gz").exists());
    assert!(!root.join("usr/share/doc/openssl/changelog.gz").exists());
    assert!(root.join("usr/share/doc/openssl/copyright").exists());
    assert_eq!(
        std::fs::read_dir(root.join("var/cache/apt/archives"))
            .unwrap()
            .filter(|e| { e.as_ref().unwrap().file_name().to_string_lossy().ends_with(".deb") })
            .count(),
        0
    );
    let states = chroot(&root, "dpkg-query -W -f '${db:Status-Abbrev}\\n' | sort -u");
    assert_eq!(states.trim(), "ii");
}

/// Without privileges the root belongs to subordinate ids: it is looked at from inside their namespace.
#[test]
fn a_user_without_privileges_gets_the_same_owners() {
    if is_root() {
        println!("skipped: needs a user with subordinate ids");
        return;
    }
    let Some(mirror) = can_bootstrap() else { return };
    let temp = tempfile::tempdir().unwrap();
    let mut bootstrap = Bootstrap::new("bookworm", host_arch(), temp.path().join("cache"), SystemTime::now());
    bootstrap.mirror = mirror;
    bootstrap.expiry = Expiry::Ignore;
    let root = temp.path().join("root");
    let report = make(&bootstrap, &root);
    println!("{:?}", report.timing);
    let inside = |script: &str| {
        let out = Command::new("unshare")
            .args(common::ROOTLESS)
            .args(["chroot"])
            .arg(&root)
            .args(["/bin/sh", "-ec", script])
            .output()
            .unwrap();
        assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let script = "cd /; stat -c '%a %U %G %Y %n' etc/shadow usr/bin/passwd usr/bin/chage var/mail var/local tmp root etc";
    let epoch = report.epoch;
    let got = inside(script);
    for want in [
        "640 root shadow",
        "4755 root root",
        "2755 root shadow",
        "2775 root mail",
        "2775 root staff",
        "1777 root root",
    ] {
        assert!(got.contains(want), "{want} is not in\n{got}");
    }
    assert_eq!(inside("dpkg --audit"), "");
    assert_eq!(inside("dpkg --verify"), "");
    let newer = inside(&format!("find / -xdev -newermt @{epoch} ! -path '/dev*'"));
    assert_eq!(newer, "");
    inside("rm -rf --one-file-system /usr /etc /var /root || true");
}

#[test]
fn a_real_mirror_tells_its_suites() {
    let Some(mirror) = can_bootstrap() else { return };
    let cache = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let found = runtime
        .block_on(debian::find_suites(
            &mirror,
            debian::KNOWN_SUITES,
            &[],
            cache.path(),
            &debian::Proxies::default(),
            SystemTime::now(),
        ))
        .unwrap();
    for s in &found {
        println!("{} {} {:?} {:?} expired: {}", s.suite, s.codename, s.version, s.description, s.expired);
    }
    assert!(found.iter().any(|s| s.suite == "stable" && s.architectures.iter().any(|a| a == "amd64")));
    assert!(found.iter().any(|s| s.codename == "sid"));
}
