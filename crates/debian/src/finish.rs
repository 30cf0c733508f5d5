//! Settings that base images have, and the last cleaning.

use crate::bootstrap::{Fetched, Variant};
use crate::error::{Error, Result};
use crate::fetch::without_credentials;
use crate::install::Steps;
use crate::root::times;
use rustix::fs::{self, AtFlags, FileType};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// The environment of every program run inside the new root.
pub(crate) fn environment(epoch: u64) -> BTreeMap<String, String> {
    [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_string()),
        ("HOME", "/root".into()),
        ("LC_ALL", "C.UTF-8".into()),
        ("TZ", "UTC".into()),
        ("TERM", "dumb".into()),
        ("DEBIAN_FRONTEND", "noninteractive".into()),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true".into()),
        ("DEBCONF_NOWARNINGS", "yes".into()),
        ("SOURCE_DATE_EPOCH", epoch.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_string(), value))
    .collect()
}

/// Left out of slim images, except for what [`SLIM_KEPT`] says. Whole folders.
const SLIM_LEFT_OUT: &[&str] = &[
    "usr/share/doc",
    "usr/share/groff",
    "usr/share/info",
    "usr/share/linda",
    "usr/share/lintian/overrides",
    "usr/share/locale",
    "usr/share/man",
];

/// Whether slim images have this path. Folders themselves stay, so that packages find them; licences stay.
pub(crate) fn is_kept_in_slim(path: &[u8]) -> bool {
    let inside = SLIM_LEFT_OUT.iter().find_map(|folder| {
        path.strip_prefix(folder.as_bytes())?.strip_prefix(b"/").map(|rest| (*folder, rest))
    });
    match inside {
        None => true,
        Some(("usr/share/doc", rest)) => !rest.contains(&b'/') || rest.ends_with(b"/copyright"),
        Some(("usr/share/locale", rest)) => rest == b"locale.alias",
        Some(_) => false,
    }
}

/// Writes one file of the root: path, content, mode.
pub(crate) type Put<'a> = dyn Fn(&str, &[u8], u32) -> Result<()> + 'a;

/// Files that make apt and dpkg behave in a container, in the places where recipes expect them.
pub(crate) fn write_settings(put: &Put<'_>, fetched: &Fetched) -> Result<()> {
    put("usr/sbin/policy-rc.d", b"#!/bin/sh\n# Nothing is started inside an image.\nexit 101\n", 0o755)?;
    let remove = "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true";
    let clean = format!(
        "// A layer is no place for a cache: remove this file where a cache mount keeps the packages.\n\
         DPkg::Post-Invoke {{ \"{remove}\"; }};\nAPT::Update::Post-Invoke {{ \"{remove}\"; }};\n\
         Dir::Cache::pkgcache \"\";\nDir::Cache::srcpkgcache \"\";\n"
    );
    put("etc/apt/apt.conf.d/docker-clean", clean.as_bytes(), 0o644)?;
    put(
        "etc/apt/apt.conf.d/docker-no-languages",
        b"// Descriptions in one language are enough.\nAcquire::Languages \"none\";\n",
        0o644,
    )?;
    put(
        "etc/apt/apt.conf.d/docker-gzip-indexes",
        b"// Indices stay packed on disk.\nAcquire::GzipIndexes \"true\";\n",
        0o644,
    )?;
    put(
        "etc/apt/apt.conf.d/docker-autoremove-suggests",
        b"// What is only suggested does not keep a package from being removed.\n\
          Apt::AutoRemove::SuggestsImportant \"false\";\n",
        0o644,
    )?;
    put(
        "etc/dpkg/dpkg.cfg.d/docker-apt-speedup",
        b"# The build commits the whole layer: dpkg need not sync every file.\nforce-unsafe-io\n",
        0o644,
    )?;
    if fetched.bootstrap.variant == Variant::Slim {
        let mut text =
            String::from("# Slim image: no manuals, documentation or translations; licences stay.\n");
        for folder in SLIM_LEFT_OUT {
            text += &format!("path-exclude /{folder}/*\n");
        }
        text += "path-include /usr/share/doc/*/copyright\npath-include /usr/share/locale/locale.alias\n";
        put("etc/dpkg/dpkg.cfg.d/docker", text.as_bytes(), 0o644)?;
    }
    write_sources(put, fetched)
}

fn write_sources(put: &Put<'_>, fetched: &Fetched) -> Result<()> {
    let components = fetched.bootstrap.components.join(" ");
    // A folder of this machine means nothing inside an image.
    let public = |mirror: &str| match mirror.starts_with("file:") {
        true => crate::bootstrap::DEFAULT_MIRROR.to_string(),
        false => without_credentials(mirror),
    };
    let mut grouped: Vec<(String, Vec<&str>)> = Vec::new();
    for source in &fetched.sources {
        let mirror = public(&source.mirror);
        match grouped.iter_mut().find(|(known, _)| *known == mirror) {
            Some((_, suites)) => suites.push(&source.suite),
            None => grouped.push((mirror, vec![&source.suite])),
        }
    }
    // apt reads the newer form since Debian 8, but people edit what they know: new from bookworm on.
    let old = ["wheezy", "jessie", "stretch", "buster", "bullseye"];
    if old.contains(&&*fetched.release().codename) {
        let mut text = String::new();
        for (mirror, suites) in grouped {
            for suite in suites {
                text += &format!("deb {mirror} {suite} {components}\n");
            }
        }
        return put("etc/apt/sources.list", text.as_bytes(), 0o644);
    }
    let mut parts = Vec::new();
    for (mirror, suites) in grouped {
        parts.push(format!(
            "Types: deb\nURIs: {mirror}\nSuites: {}\nComponents: {components}\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
            suites.join(" ")
        ));
    }
    put("etc/apt/sources.list.d/debian.sources", parts.join("\n").as_bytes(), 0o644)
}

/// Takes away what the making left behind, and caps every time at `epoch`. `packaged` are the paths that
/// packages hold. Gives the bytes of all regular files.
pub(crate) fn clean(steps: &Steps<'_>, packaged: &BTreeSet<Vec<u8>>, epoch: u64) -> Result<u64> {
    let root = steps.root;
    // A folder of base-files that no package lists.
    let kept_path = |path: &[u8]| packaged.contains(path) || path == b"run/lock";
    let mut closed = Vec::new();
    let mut tried = |path: &'static str, result: io::Result<()>| match result {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            closed.push(path);
            Ok(())
        }
        other => other.map_err(Error::io("clean", root.show(path.as_bytes()))),
    };
    for folder in ["dev", "run", "tmp", "var/tmp", "proc", "sys", "var/lib/apt/lists"] {
        tried(folder, root.empty(folder.as_bytes(), &kept_path))?;
    }
    let not_a_deb = |path: &[u8]| !path.ends_with(b".deb") && !path.ends_with(b"/lock");
    tried("var/cache/apt/archives", root.empty(b"var/cache/apt/archives", &not_a_deb))?;
    for file in [
        "etc/resolv.conf",
        "etc/hostname",
        "etc/.pwd.lock",
        "var/cache/apt/pkgcache.bin",
        "var/cache/apt/srcpkgcache.bin",
        "var/cache/ldconfig/aux-cache",
        "var/cache/debconf/config.dat-old",
        "var/cache/debconf/passwords.dat-old",
        "var/cache/debconf/templates.dat-old",
        "var/lib/dpkg/available-old",
        "var/lib/dpkg/diversions-old",
        "var/lib/dpkg/lock",
        "var/lib/dpkg/lock-frontend",
        "var/lib/dpkg/triggers/Lock",
        "var/lib/dpkg/status-old",
        "var/lib/dpkg/statoverride-old",
        "var/lib/systemd/random-seed",
        "root/.bash_history",
    ] {
        if !packaged.contains(file.as_bytes()) {
            tried(file, root.remove(file.as_bytes()))?;
        }
    }
    for file in ["etc/hosts", "etc/machine-id"] {
        let content = root.read(file.as_bytes()).ok().flatten();
        match (file, content) {
            // A mount point that a sandbox made.
            ("etc/hosts", Some(data)) if data.is_empty() => tried(file, root.remove(file.as_bytes()))?,
            // Every container gets its own.
            ("etc/machine-id", Some(_)) => tried(file, root.write(file.as_bytes(), b"", 0o444))?,
            _ => {}
        }
    }
    // Logs: the files go, the folders of packages stay. login and the like want theirs to be there, empty.
    tried(
        "var/log",
        root.empty(b"var/log", &|path| {
            packaged.contains(path)
                || matches!(path, b"var/log/btmp" | b"var/log/lastlog" | b"var/log/wtmp" | b"var/log/faillog")
        }),
    )?;
    if !closed.is_empty() {
        let mut stdin = Vec::new();
        for path in closed {
            stdin.extend_from_slice(format!("/{path}").as_bytes());
            stdin.push(0);
        }
        let script = "for p; do if [ -d \"$p\" ]; then find \"$p\" -mindepth 1 -type f -delete; else rm -f \"$p\"; fi; done";
        steps.run("clean", &["/usr/bin/xargs", "-0", "/bin/sh", "-c", script, "sh"], &stdin)?;
    }
    cap_times(steps, epoch)
}

fn cap_times(steps: &Steps<'_>, epoch: u64) -> Result<u64> {
    let epoch_seconds = i64::try_from(epoch).unwrap_or(i64::MAX);
    let stamp = times(epoch);
    let mut size = 0u64;
    let mut seen = BTreeSet::new();
    // Whatever this process may not change is changed from inside the root.
    let mut denied = Vec::new();
    let mut folders_denied = Vec::new();
    let deny = |path: &[u8], list: &mut Vec<u8>| {
        list.push(b'/');
        list.extend_from_slice(path);
        list.push(0);
    };
    steps
        .root
        .walk(
            &mut |folder, name, stat, path| {
                let kind = FileType::from_raw_mode(stat.st_mode);
                if kind == FileType::RegularFile && (stat.st_nlink == 1 || seen.insert(stat.st_ino)) {
                    size += u64::try_from(stat.st_size).unwrap_or(0);
                }
                if stat.st_mtime < epoch_seconds
                    || (stat.st_mtime == epoch_seconds && stat.st_mtime_nsec == 0)
                {
                    return Ok(());
                }
                match fs::utimensat(folder, name, &stamp, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(()) => Ok(()),
                    Err(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => {
                        deny(path, &mut denied);
                        Ok(())
                    }
                    Err(e) => Err(e.into()),
                }
            },
            &mut |path| deny(path, &mut folders_denied),
        )
        .map_err(Error::io("set the times in", steps.root.path()))?;
    if !folders_denied.is_empty() {
        let script = format!(
            "for p; do find \"$p\" -depth -newermt '@{epoch}' -exec touch -h -d '@{epoch}' -- {{}} +; done"
        );
        steps.run("set times", &["/usr/bin/xargs", "-0", "/bin/sh", "-c", &script, "sh"], &folders_denied)?;
    }
    if !denied.is_empty() {
        let time = format!("@{epoch}");
        steps.run(
            "set times",
            &["/usr/bin/xargs", "-0", "/usr/bin/touch", "-h", "-d", &time, "--"],
            &denied,
        )?;
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slim_images_keep_licences() {
        for (path, kept) in [
            ("usr/share/doc", true),
            ("usr/share/doc/apt", true),
            ("usr/share/doc/apt/copyright", true),
            ("usr/share/doc/apt/changelog.gz", false),
            ("usr/share/doc/apt/examples/copyright", true),
            ("usr/share/man", true),
            ("usr/share/man/man1/ls.1.gz", false),
            ("usr/share/locale/de/LC_MESSAGES/apt.mo", false),
            ("usr/share/locale/locale.alias", true),
            ("usr/share/manual", true),
            ("usr/bin/apt", true),
        ] {
            assert_eq!(is_kept_in_slim(path.as_bytes()), kept, "{path}");
        }
    }
}
