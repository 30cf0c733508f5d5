//! The second half: from verified archives to a configured root.
//!
//! The minimal set is unpacked here, in parallel, and entered into dpkg's database as "unpacked"; then dpkg
//! itself, inside the new root, configures it. Included packages beyond that are unpacked and configured by
//! dpkg in order of their pre-dependencies.

use crate::archive::Deb;
use crate::bootstrap::{Event, Fetchable, Fetched, Variant};
use crate::database::{self, Entry};
use crate::error::{Error, Result};
use crate::finish;
use crate::resolve::Reason;
use crate::root::Root;
use crate::runner::{ChrootCommand, ChrootRunner, Exit};
use crate::unpack::{Meta, Owed, Unpacked, settle_folders, unpack};
use digest::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A package of the finished image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstalledPackage {
    pub name: String,
    pub version: String,
    pub architecture: String,
}

/// How long the parts took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    pub fetch: Duration,
    pub unpack: Duration,
    pub configure: Duration,
    pub finish: Duration,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// `debian`.
    pub name: String,
    /// From `/etc/debian_version`, such as `12.15`; suites in development: the code name.
    pub version: String,
    /// As asked for.
    pub suite: String,
    pub codename: String,
    /// Debian's name.
    pub architecture: String,
    /// sha256 of the main suite's `InRelease`.
    pub release_digest: Digest,
    /// Of everything that decides the result, see [`Fetched::identity`].
    pub identity: Digest,
    /// The release's date, seconds since 1970; no file is newer.
    pub epoch: u64,
    /// By name.
    pub packages: Vec<InstalledPackage>,
    /// Bytes of all regular files.
    pub size: u64,
    pub timing: Timing,
}

pub(crate) struct Steps<'a> {
    pub root: &'a Root,
    runner: &'a dyn ChrootRunner,
    progress: &'a (dyn Fn(Event) + Sync),
    env: BTreeMap<String, String>,
}

impl Steps<'_> {
    /// Runs a program inside the root; anything but exit code 0 is an error.
    pub fn run(&self, what: &str, argv: &[&str], stdin: &[u8]) -> Result<()> {
        (self.progress)(Event::Step { what: what.into() });
        let argv: Vec<String> = argv.iter().map(|a| a.to_string()).collect();
        let command = ChrootCommand { root: self.root.path(), argv: &argv, env: &self.env, stdin };
        let output =
            self.runner.run(&command).map_err(|source| Error::Runner { step: what.into(), source })?;
        let log = String::from_utf8_lossy(&output.log).into_owned();
        if !log.is_empty() {
            (self.progress)(Event::Log { text: log.clone() });
        }
        match output.exit {
            Exit::Code(0) => Ok(()),
            exit => Err(Error::Step { step: what.into(), exit: exit.to_string(), log }),
        }
    }
}

/// Sets owners from inside the root that could not be set from outside, then modes, which that clears.
pub(crate) fn settle_owed(steps: &Steps<'_>, owed: &[Owed]) -> Result<()> {
    let mut by_owner: BTreeMap<(u32, u32), Vec<u8>> = BTreeMap::new();
    let mut by_mode: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut by_time: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for o in owed {
        // Whatever could not be set but is root's already needs nothing.
        let mut path = b"/".to_vec();
        path.extend_from_slice(&o.path);
        path.push(0);
        if (o.meta.uid, o.meta.gid) != (0, 0) {
            by_owner.entry((o.meta.uid, o.meta.gid)).or_default().extend_from_slice(&path);
            if !o.is_link {
                by_mode.entry(o.meta.mode).or_default().extend_from_slice(&path);
            }
            by_time.entry(o.meta.mtime).or_default().extend_from_slice(&path);
        }
    }
    for ((uid, gid), paths) in by_owner {
        let owner = format!("{uid}:{gid}");
        steps.run("set owners", &["/usr/bin/xargs", "-0", "/bin/chown", "-h", &owner, "--"], &paths)?;
    }
    for (mode, paths) in by_mode {
        let mode = format!("{mode:04o}");
        steps.run("set modes", &["/usr/bin/xargs", "-0", "/bin/chmod", &mode, "--"], &paths)?;
    }
    for (time, paths) in by_time {
        let time = format!("@{time}");
        steps.run(
            "set times",
            &["/usr/bin/xargs", "-0", "/usr/bin/touch", "-h", "-d", &time, "--"],
            &paths,
        )?;
    }
    Ok(())
}

/// Unpacks `packages` on several threads, largest first.
fn unpack_all(
    root: &Root,
    packages: &[&Fetchable],
    threads: usize,
    keep: &crate::unpack::Filter,
    progress: &(dyn Fn(Event) + Sync),
) -> Result<Vec<(Entry, Unpacked)>> {
    let mut queue: Vec<usize> = (0..packages.len()).collect();
    queue.sort_by_key(|n| std::cmp::Reverse(packages[*n].size));
    let next = AtomicUsize::new(0);
    let finished = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<(Entry, Unpacked)>>> =
        Mutex::new((0..packages.len()).map(|_| None).collect());
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let work = || {
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            let Some(number) = queue.get(turn).copied() else { return };
            let package = packages[number];
            match unpack_one(root, package, keep) {
                Ok(done) => {
                    if let Ok(mut all) = results.lock() {
                        all[number] = Some(done);
                    }
                    let done = finished.fetch_add(1, Ordering::Relaxed) + 1;
                    progress(Event::Unpacked { package: package.name.clone(), done, total: packages.len() });
                }
                Err(e) => {
                    if let Ok(mut failed) = failed.lock() {
                        failed.get_or_insert(e);
                    }
                    // The others stop at their next package.
                    next.store(queue.len(), Ordering::Relaxed);
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.clamp(1, 64) {
            scope.spawn(work);
        }
        work();
    });
    if let Some(e) = failed.into_inner().unwrap_or_default() {
        return Err(e);
    }
    let all = results.into_inner().unwrap_or_default();
    all.into_iter().map(|r| r.ok_or_else(|| Error::Internal("a package was left out".into()))).collect()
}

fn unpack_one(root: &Root, package: &Fetchable, keep: &crate::unpack::Filter) -> Result<(Entry, Unpacked)> {
    let what = format!("{}_{}_{}.deb", package.name, package.version, package.architecture);
    let deb = Deb::open(&package.path, &what)?;
    let entry = Entry::new(deb.control()?, &what)?;
    if entry.name != package.name
        || entry.version != package.version
        || entry.architecture != package.architecture
    {
        return Err(deb.damaged(format!("it says it is {} {}", entry.name, entry.version)));
    }
    let unpacked = unpack(root, &deb, &entry.conffiles(), keep)?;
    Ok((entry, unpacked))
}

/// Decides who owns files that several packages hold: a package that replaces the other one. Its files are
/// written again, since the order of unpacking was arbitrary.
fn settle_clashes(
    root: &Root,
    packages: &[&Fetchable],
    done: &mut [(Entry, Unpacked)],
    keep: &crate::unpack::Filter,
) -> Result<()> {
    let mut owners: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    let mut again = BTreeSet::new();
    let mut lost: Vec<(usize, Vec<u8>)> = Vec::new();
    for (number, (entry, unpacked)) in done.iter().enumerate() {
        for path in &unpacked.files {
            let Some(other) = owners.insert(path.clone(), number) else { continue };
            let (first, second) = (&done[other].0, entry);
            if second.has_replaces(&first.name) {
                again.insert(number);
                lost.push((other, path.clone()));
            } else if first.has_replaces(&second.name) {
                owners.insert(path.clone(), other);
                again.insert(other);
                lost.push((number, path.clone()));
            } else {
                return Err(Error::FileClash {
                    path: format!("/{}", String::from_utf8_lossy(path)),
                    first: first.name.clone(),
                    second: second.name.clone(),
                });
            }
        }
    }
    for number in again {
        unpack_one(root, packages[number], keep)?;
    }
    for (number, path) in lost {
        let unpacked = &mut done[number].1;
        unpacked.files.remove(&path);
        unpacked.conffiles.remove(&path);
        unpacked.paths.retain(|p| *p != path);
    }
    Ok(())
}

/// A shell script that runs every `preinst`, which dpkg would have run before unpacking.
fn preinst_script(entries: &[(Entry, Unpacked)]) -> String {
    let mut script =
        String::from("set -e\nexport DPKG_ADMINDIR=/var/lib/dpkg DPKG_ROOT= DPKG_FORCE=unsafe-io\n");
    script += "export DPKG_MAINTSCRIPT_NAME=preinst DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 PERL_DL_NONLAZY=1\n";
    // Users first: the scripts of others may name them.
    let first = |e: &Entry| u8::from(e.name != "base-passwd");
    let mut with: Vec<&Entry> =
        entries.iter().map(|(e, _)| e).filter(|e| e.control.contains_key("preinst")).collect();
    with.sort_by_key(|e| first(e));
    for entry in with {
        // Names are plain: nothing in them means anything to a shell.
        script += &format!(
            "DEBCONF_PACKAGE={} DPKG_MAINTSCRIPT_PACKAGE={} DPKG_MAINTSCRIPT_ARCH={} /var/lib/dpkg/info/{}.preinst install </dev/null || \
             {{ echo 'preinst of {} failed' >&2; exit 1; }}\n",
            entry.name, entry.name, entry.architecture, entry.stem, entry.name
        );
    }
    script
}

impl Fetched {
    /// Makes the root in `dest`, an empty folder or one that does not exist yet. After an error `dest` holds a
    /// part of it.
    pub fn install(
        &self,
        dest: &Path,
        runner: &dyn ChrootRunner,
        progress: &(dyn Fn(Event) + Sync),
    ) -> Result<Report> {
        let start = Instant::now();
        match std::fs::create_dir(dest) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                let mut entries = std::fs::read_dir(dest).map_err(Error::io("read", dest))?;
                if entries.next().is_some() {
                    return Err(Error::NotEmpty(dest.to_path_buf()));
                }
            }
            other => other.map_err(Error::io("create", dest))?,
        }
        let root = Root::open(dest).map_err(Error::io("open", dest))?;
        let arch = &self.bootstrap.arch;
        let epoch = self.release().date;
        let slim = self.bootstrap.variant == Variant::Slim;
        let keep = move |path: &[u8]| !slim || finish::is_kept_in_slim(path);
        let put = |path: &str, data: &[u8], mode: u32| {
            root.write(path.as_bytes(), data, mode).map_err(Error::io("write", root.show(path.as_bytes())))
        };

        for folder in arch.merged_folders() {
            let inside = format!("usr/{folder}");
            root.make_folder(inside.as_bytes())
                .and_then(|_| root.link(folder.as_bytes(), inside.as_bytes()))
                .map_err(Error::io("create", root.show(folder.as_bytes())))?;
        }
        let base: Vec<&Fetchable> = self.packages.iter().filter(|p| p.base).collect();
        let mut done = unpack_all(&root, &base, self.bootstrap.threads, &keep, progress)?;
        settle_clashes(&root, &base, &mut done, &keep)?;
        let mut folders: BTreeMap<Vec<u8>, Meta> = BTreeMap::new();
        // base-files says what the common folders are like, then the others by name.
        let mut by_name: Vec<&(Entry, Unpacked)> = done.iter().collect();
        by_name.sort_by_key(|(e, _)| (e.name != "base-files", e.name.clone()));
        for (_, unpacked) in by_name {
            for (path, meta) in &unpacked.folders {
                folders.entry(path.clone()).or_insert(*meta);
            }
        }
        if !root.exists(b"bin/sh") {
            root.link(b"bin/sh", b"dash").map_err(Error::io("create", root.show(b"bin/sh")))?;
        }
        database::write(&root, arch.as_str(), &done)?;
        finish::write_settings(&put, self)?;
        let mut owed = settle_folders(&root, &folders)?;
        owed.extend(done.iter().flat_map(|(_, u)| u.owed.iter().cloned()));
        let unpacked_at = Instant::now();

        let steps = Steps { root: &root, runner, progress, env: finish::environment(epoch) };
        settle_owed(&steps, &owed)?;
        steps.run("prepare packages", &["/bin/sh"], preinst_script(&done).as_bytes())?;
        // Files of packages may belong to users that base-passwd makes, and base-files sets up /root and /var.
        steps.run(
            "configure users",
            &[
                "/usr/bin/dpkg",
                "--force-depends,unsafe-io,confdef",
                "--configure",
                "base-passwd",
                "base-files",
            ],
            b"",
        )?;
        let configure = |what: &str| {
            steps.run(what, &["/usr/bin/dpkg", "--force-unsafe-io,confdef", "--configure", "-a"], b"")
        };
        configure("configure packages")?;
        let added = self.install_more(&root, &steps, &configure)?;
        let automatic: Vec<(String, String)> = self
            .packages
            .iter()
            .filter(|p| p.reason == Reason::Dependency && !p.protected)
            .map(|p| {
                let architecture =
                    if p.architecture == "all" { arch.to_string() } else { p.architecture.clone() };
                (p.name.clone(), architecture)
            })
            .collect();
        database::write_extended_states(&root, &automatic)
            .map_err(Error::io("write", root.show(b"var/lib/apt/extended_states")))?;
        let configured_at = Instant::now();

        let mut packaged: BTreeSet<Vec<u8>> = done.into_iter().flat_map(|(_, u)| u.paths).collect();
        packaged.extend(added);
        let size = finish::clean(&steps, &packaged, epoch)?;
        let version = match root.read(b"etc/debian_version") {
            Ok(Some(text)) => String::from_utf8_lossy(&text).trim().to_string(),
            _ => String::new(),
        };
        let release = self.release();
        let version =
            if version.is_empty() || version.contains('/') { release.codename.clone() } else { version };
        let mut packages: Vec<InstalledPackage> = self
            .packages
            .iter()
            .map(|p| InstalledPackage {
                name: p.name.clone(),
                version: p.version.clone(),
                architecture: p.architecture.clone(),
            })
            .collect();
        packages.sort();
        Ok(Report {
            name: "debian".into(),
            version,
            suite: self.bootstrap.suite.clone(),
            codename: release.codename.clone(),
            architecture: arch.to_string(),
            release_digest: self.release_digest(),
            identity: self.identity(),
            epoch,
            packages,
            size,
            timing: Timing {
                fetch: self.took,
                unpack: unpacked_at - start,
                configure: configured_at - unpacked_at,
                finish: configured_at.elapsed(),
            },
        })
    }

    /// Packages beyond the minimal set, by dpkg. Gives the paths that they hold.
    fn install_more(
        &self,
        root: &Root,
        steps: &Steps<'_>,
        configure: &dyn Fn(&str) -> Result<()>,
    ) -> Result<BTreeSet<Vec<u8>>> {
        let more: Vec<&Fetchable> = self.packages.iter().filter(|p| !p.base).collect();
        let mut batches: Vec<Vec<&Fetchable>> = Vec::new();
        let mut open: BTreeSet<&str> = BTreeSet::new();
        for package in more {
            if batches.is_empty() || package.pre_depends.iter().any(|p| open.contains(&**p)) {
                batches.push(Vec::new());
                open.clear();
            }
            open.insert(&package.name);
            if let Some(batch) = batches.last_mut() {
                batch.push(package);
            }
        }
        let mut packaged = BTreeSet::new();
        for batch in batches {
            let mut argv: Vec<String> =
                ["/usr/bin/dpkg", "--force-unsafe-io,confdef", "--unpack"].map(String::from).to_vec();
            for package in &batch {
                let path = format!("var/cache/apt/archives/{}_{}.deb", package.name, package.architecture);
                copy_in(root, package, &path)?;
                argv.push(format!("/{path}"));
            }
            let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
            steps.run("unpack more packages", &argv, b"")?;
            configure("configure more packages")?;
            for package in &batch {
                for stem in [package.name.clone(), format!("{}:{}", package.name, package.architecture)] {
                    let path = format!("var/lib/dpkg/info/{stem}.list");
                    let list =
                        root.read(path.as_bytes()).map_err(Error::io("read", root.show(path.as_bytes())))?;
                    let list = list.unwrap_or_default();
                    packaged.extend(list.split(|b| *b == b'\n').filter_map(crate::root::clean));
                }
            }
        }
        Ok(packaged)
    }
}

fn copy_in(root: &Root, package: &Fetchable, path: &str) -> Result<()> {
    let failed = |e: std::io::Error| Error::Io { action: "copy", path: package.path.clone(), source: e };
    let mut from = std::fs::File::open(&package.path).map_err(failed)?;
    let (folder, name) = root.parent(path.as_bytes()).map_err(failed)?;
    let mut to = crate::root::create(rustix::fd::AsFd::as_fd(&folder), name).map_err(failed)?;
    std::io::copy(&mut from, &mut to).map_err(failed)?;
    // apt's own user reads what dpkg is given.
    rustix::fs::fchmod(&to, rustix::fs::Mode::from_raw_mode(0o644)).map_err(|e| failed(e.into()))
}
