//! A cgroup for each step: limits, device rules, accounting; removed afterwards, and by the next builder if this
//! one was killed. Works with cgroup v2, v1, both (hybrid) and neither.
//!
//! The step's cgroup is made below the builder's own, so that it stays within the builder's limits; where the
//! controllers that a limit needs can't be enabled there (a v2 cgroup that has processes can't delegate), below the
//! next one up. A v2 cgroup is always made if possible, even if nothing is mounted: it carries the device rules.
//! v1 cgroups are made only for limits that v2 can't take, since moving a process there is slow.
//!
//! Names are `ctrbuild-<pid namespace>-<pid>-<start time>-<count>`, all of the builder: what no live process owns
//! can be removed. A parent of the user's choice that isn't there is made, marked as ours by an attribute, and
//! removed by the last step that leaves it.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::bpf::{self, DeviceRules};
use crate::error::Error;
use crate::spec::Limits;
use crate::sys;

/// Names of limits in errors.
pub const LIMIT_NAMES: [&str; 7] =
    [crate::error::MEMORY, "memory swap", "cpu", "cpuset", "pids", "ulimit", PARENT];

/// A cgroup that steps are to be in, as a limit.
const PARENT: &str = "cgroup parent";
/// Says that the builder made a cgroup for the sake of its steps, and so may remove it.
const MADE: &str = "ctrbuild.made";
/// Controllers of v1 by which a parent can limit and count what is in it.
const PARENT_CONTROLLERS: [&str; 5] = ["memory", "pids", "cpu", "cpuset", "blkio"];

const PREFIX: &str = "ctrbuild-";

/// The cgroup file systems of this mount namespace and the own place in them.
pub struct Hierarchies {
    /// Root folder of v2 and the own path in it.
    v2: Option<(OwnedFd, PathBuf)>,
    /// Controllers, folder of the mount, own path in it.
    v1: Vec<(Vec<String>, PathBuf, PathBuf)>,
}

impl Hierarchies {
    /// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`. What can't be read isn't there.
    pub fn find() -> Hierarchies {
        let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        let own = std::fs::read("/proc/self/cgroup").unwrap_or_default();
        let (mounts, own) = (String::from_utf8_lossy(&mounts), String::from_utf8_lossy(&own));
        let mut found = Hierarchies::parse(&mounts, &own);
        if found.v2.is_none() {
            // Not mounted, but perhaps there: a detached mount is enough. Its root is that of the cgroup namespace.
            if let Ok(fd) = crate::overlay::new_filesystem("cgroup2", &[], MountAttrFlags::empty())
                && let Ok(fd) = open_dir(&fd, Path::new("."))
            {
                found.v2 = Some((fd, place(&own_paths(&own), "", "/")));
            }
        }
        found
    }

    /// The hierarchies of these two texts.
    fn parse(mounts: &str, own: &str) -> Hierarchies {
        let own = own_paths(own);
        let place = |controller: &str, root: &str| place(&own, controller, root);
        let mut found = Hierarchies { v2: None, v1: Vec::new() };
        for line in mounts.lines() {
            // 34 25 0:29 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let (left, right): (Vec<_>, Vec<_>) = (left.split(' ').collect(), right.split(' ').collect());
            let (Some(root), Some(mount), Some(kind)) = (left.get(3), left.get(4), right.first()) else {
                continue;
            };
            let mount = PathBuf::from(mount.replace("\\040", " "));
            if *kind == "cgroup2" && found.v2.is_none() {
                if let Ok(fd) = open_dir(CWD, &mount) {
                    found.v2 = Some((fd, place("", root)));
                }
            } else if *kind == "cgroup" {
                let controllers: Vec<String> =
                    right.get(2).unwrap_or(&"").split(',').map(str::to_owned).collect();
                let own =
                    controllers.iter().find(|c| own.iter().any(|(names, _)| names.contains(&c.as_str())));
                let own = own.map_or(PathBuf::new(), |c| place(c, root));
                if !found.v1.iter().any(|(known, _, _)| *known == controllers) {
                    found.v1.push((controllers, mount, own));
                }
            }
        }
        found
    }

    /// Names under which v1 hierarchies and v2 (`None`) should appear in a step, as the host mounts them.
    pub fn v1_mounts(&self) -> impl Iterator<Item = (&[String], &Path)> {
        self.v1.iter().map(|(controllers, mount, _)| (controllers.as_slice(), mount.as_path()))
    }
}

/// Our own cgroups, by their controllers.
fn own_paths(text: &str) -> Vec<(Vec<&str>, &str)> {
    let parse = |line| {
        let mut parts = str::splitn(line, 3, ':').skip(1);
        Some((parts.next()?.split(',').collect(), parts.next()?))
    };
    text.lines().filter_map(parse).collect()
}

/// Where our own cgroup is below a mount that shows the hierarchy from `root` on.
fn place(own: &[(Vec<&str>, &str)], controller: &str, root: &str) -> PathBuf {
    let path = own.iter().find(|(names, _)| names.contains(&controller)).map_or("/", |(_, path)| path);
    // A path outside of the mount's root (`/..`, or another branch) can't be reached: take the root.
    let path = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
    path.components().filter(|c| matches!(c, std::path::Component::Normal(_))).collect()
}

/// For fuzzing: how many hierarchies these texts of `/proc/self/mountinfo` and `/proc/self/cgroup` show.
#[doc(hidden)]
pub fn count_hierarchies(mounts: &str, own: &str) -> usize {
    let found = Hierarchies::parse(mounts, own);
    found.v1.len() + usize::from(found.v2.is_some())
}

fn open_dir(at: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    Ok(rustix::fs::openat(at, path, flags, Mode::empty())?)
}

fn write_file(dir: impl AsFd, name: &str, text: &str) -> io::Result<()> {
    let fd = rustix::fs::openat(dir, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    std::fs::File::from(fd).write_all(text.as_bytes())
}

fn read_file(dir: impl AsFd, name: &str) -> io::Result<String> {
    let fd = rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = String::new();
    std::fs::File::from(fd).read_to_string(&mut text)?;
    Ok(text)
}

/// The value after `key` in lines of `key value`.
fn field(text: &str, key: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    value.and_then(|v| v.trim().parse().ok()).unwrap_or(0)
}

/// The sum of one count over all devices, as in `8:0 rbytes=1 wbytes=2 …`.
fn io_sum(text: &str, key: &str) -> u64 {
    text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok()).sum()
}

/// One folder of one hierarchy.
struct Group {
    parent: OwnedFd,
    dir: OwnedFd,
    /// v1 controllers; empty for v2.
    controllers: Vec<String>,
    /// Folder and name of each part of a parent of the user's choice, outermost first.
    above: Vec<(OwnedFd, OsString)>,
}

/// A step's cgroups.
pub struct Cgroup {
    name: String,
    groups: Vec<Group>,
    /// True if device rules are in force.
    pub devices_confined: bool,
}

/// A controller and what the limits ask of it.
struct Wish {
    limit: &'static str,
    controller: &'static str,
    /// File and value, for v2 and v1. v1 needs `memory` before `memsw`.
    v2: Vec<(&'static str, String)>,
    v1: Vec<(&'static str, String)>,
}

const CPU_PERIOD: u64 = 100_000;

fn wishes(limits: &Limits) -> Vec<Wish> {
    let mut out = Vec::new();
    if limits.memory.is_some() || limits.memory_swap.is_some() {
        let mut wish = Wish { limit: "memory", controller: "memory", v2: vec![], v1: vec![] };
        if let Some(memory) = limits.memory {
            wish.v2.push(("memory.max", memory.to_string()));
            wish.v1.push(("memory.limit_in_bytes", memory.to_string()));
        }
        if let Some(swap) = limits.memory_swap {
            wish.v2.push(("memory.swap.max", swap.saturating_sub(limits.memory.unwrap_or(0)).to_string()));
            wish.v1.push(("memory.memsw.limit_in_bytes", swap.to_string()));
        }
        out.push(wish);
    }
    if let Some(pids) = limits.pids {
        let value = || vec![("pids.max", pids.to_string())];
        out.push(Wish { limit: "pids", controller: "pids", v2: value(), v1: value() });
    }
    if limits.cpus.is_some() || limits.cpu_shares.is_some() {
        let mut wish = Wish { limit: "cpu", controller: "cpu", v2: vec![], v1: vec![] };
        if let Some(cpus) = limits.cpus {
            // The kernel's minimum is a millisecond.
            let quota = ((cpus * CPU_PERIOD as f64) as u64).max(1000);
            wish.v2.push(("cpu.max", format!("{quota} {CPU_PERIOD}")));
            wish.v1.push(("cpu.cfs_period_us", CPU_PERIOD.to_string()));
            wish.v1.push(("cpu.cfs_quota_us", quota.to_string()));
        }
        if let Some(shares) = limits.cpu_shares {
            let shares = shares.clamp(2, 262_144);
            // The usual mapping of [2, 262144] to [1, 10000].
            wish.v2.push(("cpu.weight", (1 + ((shares - 2) * 9999) / 262_142).to_string()));
            wish.v1.push(("cpu.shares", shares.to_string()));
        }
        out.push(wish);
    }
    if limits.cpuset_cpus.is_some() || limits.cpuset_mems.is_some() {
        let mut values = vec![];
        values.extend(limits.cpuset_cpus.clone().map(|v| ("cpuset.cpus", v)));
        values.extend(limits.cpuset_mems.clone().map(|v| ("cpuset.mems", v)));
        out.push(Wish { limit: "cpuset", controller: "cpuset", v2: values.clone(), v1: values });
    }
    out
}

/// What a parent in v1 limits or counts, the step must be in, though nothing more is asked of the controller.
fn of_parent(parent: &Path, hierarchies: &Hierarchies, wishes: &[Wish]) -> Vec<Wish> {
    let place = place_of(parent);
    let asks = |controller: &str| wishes.iter().any(|w| w.controller == controller);
    let there = |controller: &str| {
        let mut of = hierarchies.v1.iter().filter(|(all, _, _)| all.iter().any(|c| c == controller));
        of.any(|(_, mount, _)| {
            let dir = mount.join(&place);
            // A cpuset without processors takes no process; nobody has ever used that one.
            let blank =
                || std::fs::read_to_string(dir.join("cpuset.cpus")).is_ok_and(|t| t.trim().is_empty());
            dir.is_dir() && !(controller == "cpuset" && blank())
        })
    };
    PARENT_CONTROLLERS
        .into_iter()
        .filter(|controller| !asks(controller) && there(controller))
        .map(|controller| Wish { limit: PARENT, controller, v2: vec![], v1: vec![] })
        .collect()
}

/// A parent as a path below the root of a hierarchy.
fn place_of(parent: &Path) -> PathBuf {
    let parent = crate::runtime::clean(parent);
    parent.strip_prefix("/").unwrap_or(&parent).to_owned()
}

impl Cgroup {
    /// Makes the cgroups of a step. Without limits nothing here is an error: there may be no cgroup at all.
    pub fn create(
        hierarchies: &Hierarchies,
        name: &str,
        limits: &Limits,
        devices: Option<&DeviceRules>,
    ) -> Result<Cgroup, Error> {
        let mut cgroup = Cgroup { name: name.to_owned(), groups: Vec::new(), devices_confined: false };
        let mut wishes = wishes(limits);
        let parent = limits.cgroup_parent.as_deref();
        let in_v1 = parent.map(|parent| of_parent(parent, hierarchies, &wishes)).unwrap_or_default();
        if let Some((root, own)) = &hierarchies.v2 {
            // The controllers that v2 has; the others may be bound to v1.
            let there = read_file(root, "cgroup.controllers").unwrap_or_default();
            let here: Vec<&'static str> = wishes
                .iter()
                .map(|w| w.controller)
                .filter(|c| there.split_whitespace().any(|t| t == *c))
                .collect();
            let missing = if parent.is_some() { Missing::Make } else { Missing::Fail };
            let made = candidates(parent, own)
                .into_iter()
                .find_map(|place| make_v2(root, &place, missing, name, &here).ok());
            if let Some((group, enabled)) = made {
                let result =
                    wishes.extract_if(.., |w| enabled && here.contains(&w.controller)).try_for_each(|w| {
                        w.v2.iter().try_for_each(|(file, value)| {
                            write_file(&group.dir, file, value).map_err(|e| refused(w.limit, file, value, &e))
                        })
                    });
                if let Some(rules) = devices {
                    let program = bpf::device_program(rules);
                    cgroup.devices_confined = sys::attach_device_program(&group.dir, &program).is_ok();
                }
                cgroup.groups.push(group);
                if let Err(e) = result {
                    cgroup.remove();
                    return Err(e);
                }
            }
        }
        wishes.extend(in_v1);
        for wish in wishes {
            let found = hierarchies.v1.iter().find(|(c, _, _)| c.iter().any(|c| c == wish.controller));
            let Some((controllers, mount, own)) = found else {
                cgroup.remove();
                let reason = format!("no cgroup with the {} controller can be made here", wish.controller);
                return Err(Error::Limit { limit: wish.limit, reason });
            };
            let made = cgroup.make_v1(controllers, mount, parent, own, &wish);
            if let Err(e) = made {
                cgroup.remove();
                return Err(e);
            }
        }
        match parent {
            Some(parent) if cgroup.groups.is_empty() => {
                let reason = format!("no cgroup can be made in {}", parent.display());
                Err(Error::Limit { limit: PARENT, reason })
            }
            _ => Ok(cgroup),
        }
    }

    fn make_v1(
        &mut self,
        controllers: &[String],
        mount: &Path,
        parent: Option<&Path>,
        own: &Path,
        wish: &Wish,
    ) -> Result<(), Error> {
        let made = || -> io::Result<Group> {
            // Two controllers in one hierarchy share one folder.
            let (root, place) = (open_dir(CWD, mount)?, candidates(parent, own).swap_remove(0));
            let missing = if parent.is_some() { Missing::Make } else { Missing::Fail };
            let (parent, above, dir) = make(&root, &place, missing, &self.name, &[])?;
            Ok(Group { parent, dir, controllers: controllers.to_vec(), above })
        };
        let group = made().map_err(|e| Error::Limit { limit: wish.limit, reason: e.to_string() })?;
        let mut result = Ok(());
        if wish.controller == "cpuset" {
            // A new v1 cpuset is empty and takes no process.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let inherited =
                    read_file(&group.parent, file).and_then(|v| write_file(&group.dir, file, v.trim()));
                result = result.and(inherited.map_err(|e| refused(wish.limit, file, "of the parent", &e)));
            }
        }
        for (file, value) in &wish.v1 {
            result = result.and_then(|()| {
                write_file(&group.dir, file, value).map_err(|e| refused(wish.limit, file, value, &e))
            });
        }
        self.groups.push(group);
        result
    }

    /// The v2 folder, into which the step's first process is born.
    pub fn v2_dir(&self) -> Option<&OwnedFd> {
        self.groups.iter().find(|g| g.controllers.is_empty()).map(|g| &g.dir)
    }

    /// Moves the calling process into all v1 cgroups, and into the v2 one if it wasn't born there.
    pub fn enter(&self, v2: BornInside) -> Result<(), Error> {
        for group in &self.groups {
            if v2 == BornInside::No || !group.controllers.is_empty() {
                write_file(&group.dir, "cgroup.procs", "0")
                    .map_err(|e| Error::io("can't move the step into its cgroup", e))?;
            }
        }
        Ok(())
    }

    /// Whether the kernel has killed a process of the step for want of memory.
    pub fn out_of_memory(&self) -> bool {
        self.groups.iter().any(|group| {
            let file = if group.controllers.is_empty() { "memory.events" } else { "memory.oom_control" };
            read_file(&group.dir, file).is_ok_and(|text| field(&text, "oom_kill") > 0)
        })
    }

    /// Peak memory in bytes, if a memory controller counts.
    pub fn peak_memory(&self) -> Option<u64> {
        self.groups.iter().find_map(|group| {
            let file = if group.controllers.is_empty() { "memory.peak" } else { "memory.max_usage_in_bytes" };
            read_file(&group.dir, file).ok()?.trim().parse().ok()
        })
    }

    /// Processor time of all that ever was in the step (user, kernel), also of what nobody waited for.
    pub fn cpu(&self) -> Option<(Duration, Duration)> {
        let text = read_file(self.v2_dir()?, "cpu.stat").ok()?;
        let time = |key| Duration::from_micros(field(&text, key));
        text.contains("user_usec").then(|| (time("user_usec"), time("system_usec")))
    }

    /// Bytes read from and written to devices, if an io controller counts.
    pub fn io(&self) -> Option<(u64, u64)> {
        let text = read_file(self.v2_dir()?, "io.stat").ok()?;
        Some((io_sum(&text, "rbytes="), io_sum(&text, "wbytes=")))
    }

    /// Kills what is left and removes the folders.
    pub fn remove(self) {
        for group in &self.groups {
            remove(group.parent.as_fd(), OsStr::new(&self.name));
            for (folder, name) in group.above.iter().rev() {
                // The last one that leaves takes it away; until then it is busy.
                if !is_ours(folder, name) || rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR).is_err() {
                    break;
                }
            }
        }
    }
}

/// Whether the first process was made inside of the v2 cgroup.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum BornInside {
    Yes,
    No,
}

fn refused(limit: &'static str, file: &str, value: &str, e: &io::Error) -> Error {
    Error::Limit { limit, reason: format!("{file} doesn't take {}: {e}", value.trim()) }
}

/// Places to try, relative to the hierarchy's root.
fn candidates(parent: Option<&Path>, own: &Path) -> Vec<PathBuf> {
    if let Some(parent) = parent {
        return vec![place_of(parent)];
    }
    let mut out = vec![own.to_owned()];
    out.extend(own.ancestors().skip(1).map(Path::to_owned));
    out
}

/// What becomes of folders that are not there yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Fail,
}

/// Makes the folder `name` below `place`: what it lies in, the parts of the way there that may be ours, itself.
#[expect(clippy::type_complexity, reason = "taken apart at once")]
fn make(
    root: &OwnedFd,
    place: &Path,
    missing: Missing,
    name: &str,
    controllers: &[&str],
) -> io::Result<(OwnedFd, Vec<(OwnedFd, OsString)>, OwnedFd)> {
    let attempt = || -> io::Result<_> {
        let (mut at, mut above) = (root.try_clone()?, Vec::new());
        for part in place {
            if missing == Missing::Make {
                match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
                    Ok(()) => mark(&at, part),
                    Err(Errno::EXIST | Errno::ACCESS | Errno::ROFS | Errno::PERM) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            enable(&at, controllers);
            let next = open_dir(&at, Path::new(part))?;
            let outer = std::mem::replace(&mut at, next);
            if missing == Missing::Make {
                above.push((outer, part.to_owned()));
            }
        }
        if missing == Missing::Make {
            sweep_folder(&at);
        }
        enable(&at, controllers);
        match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        let dir = open_dir(&at, Path::new(name))?;
        Ok((at, above, dir))
    };
    let mut last = attempt();
    for _ in 0..ATTEMPTS {
        match &last {
            // Another step was the last one in a parent, and has just taken it away.
            Err(e) if missing == Missing::Make && gone(e) => last = attempt(),
            _ => break,
        }
    }
    last
}

/// How often a parent may vanish while a step is on its way into it.
const ATTEMPTS: u32 = 100;

fn gone(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// Extended attributes that a cgroup can have: the first for root alone, the second in v2 alone.
fn marks() -> [String; 2] {
    ["trusted.", "user."].map(|space| format!("{space}{MADE}"))
}

/// Remember that a cgroup is ours. One that takes no mark stays.
fn mark(folder: &OwnedFd, name: &OsStr) {
    if let Ok(dir) = open_dir(folder, Path::new(name)) {
        let _marked = marks()
            .iter()
            .any(|mark| rustix::fs::fsetxattr(&dir, mark, b"", rustix::fs::XattrFlags::empty()).is_ok());
    }
}

fn is_ours(folder: &OwnedFd, name: &OsStr) -> bool {
    let Ok(dir) = open_dir(folder, Path::new(name)) else { return false };
    marks().iter().any(|mark| rustix::fs::fgetxattr(&dir, mark, &mut [0u8; 1][..]).is_ok())
}

/// Makes the folder below `place` if all of `controllers` can be had there. Without controllers any place will do.
fn make_v2(
    root: &OwnedFd,
    place: &Path,
    missing: Missing,
    name: &str,
    controllers: &[&str],
) -> io::Result<(Group, bool)> {
    let (at, above, dir) = make(root, place, missing, name, controllers)?;
    let there = read_file(&dir, "cgroup.controllers").unwrap_or_default();
    let all = controllers.iter().all(|c| there.split_whitespace().any(|t| t == *c));
    if !all {
        rustix::fs::unlinkat(&at, name, AtFlags::REMOVEDIR)?;
        return Err(Errno::NOENT.into());
    }
    Ok((Group { parent: at, dir, controllers: Vec::new(), above }, all))
}

fn enable(dir: &OwnedFd, controllers: &[&str]) {
    let missing = |c: &str| {
        !read_file(dir, "cgroup.subtree_control").unwrap_or_default().split_whitespace().any(|t| t == c)
    };
    for controller in controllers.iter().filter(|c| missing(c)) {
        // A refusal shows in the new folder's cgroup.controllers.
        let _refused = write_file(dir, "cgroup.subtree_control", &format!("+{controller}"));
    }
}

/// Kills all processes in the cgroup `name` below `parent` and removes it. Gives up after half a second.
fn remove(parent: BorrowedFd<'_>, name: &OsStr) {
    for attempt in 0..100 {
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::BUSY) => {}
            _ => return,
        }
        if attempt % 10 == 0
            && let Ok(dir) = open_dir(parent, Path::new(name))
            && write_file(&dir, "cgroup.kill", "1").is_err()
        {
            // v1, or v2 before Linux 5.14. The list may name a process that ends meanwhile, but none of ours is
            // reaped before this runs, and others aren't in the list.
            let pids = read_file(&dir, "cgroup.procs").unwrap_or_default();
            for pid in pids.lines().filter_map(|p| p.parse().ok()).filter_map(rustix::process::Pid::from_raw)
            {
                let _already_dead = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(if attempt < 20 { 1 } else { 6 }));
    }
}

/// First part of the names of this builder's cgroups.
pub fn owner_prefix() -> &'static str {
    static OWNER: OnceLock<String> = OnceLock::new();
    OWNER.get_or_init(|| {
        let pid = std::process::id();
        format!("{PREFIX}{}-{pid}-{}", pid_namespace(), start_time(pid).unwrap_or(0))
    })
}

/// Inode of the pid namespace: a pid says nothing in another one.
fn pid_namespace() -> u64 {
    rustix::fs::stat("/proc/self/ns/pid").map_or(0, |stat| stat.st_ino)
}

/// When a process was started, in clock ticks after boot (`proc_pid_stat(5)`, field 22).
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, also parentheses and blanks.
    let (_, after) = stat.rsplit_once(") ")?;
    after.split(' ').nth(19)?.parse().ok()
}

/// True if the builder that made a cgroup of this name is known to be dead.
fn is_stale(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let parts: Vec<u64> = rest.split('-').filter_map(|p| p.parse().ok()).collect();
    let [namespace, pid, start, _count] = parts[..] else { return false };
    let Ok(pid) = u32::try_from(pid) else { return false };
    namespace == pid_namespace() && start_time(pid) != Some(start)
}

/// Removes cgroups of builders that were killed together with their runners.
pub fn sweep() {
    for_each_place(|dir| sweep_folder(&dir));
}

fn sweep_folder(dir: &OwnedFd) {
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(dir));
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_stale) {
            remove(dir.as_fd(), &entry.file_name());
        }
    }
}

/// Removes the cgroups of one step whose runner can't do it any more.
pub fn remove_named(name: &str) {
    for_each_place(|dir| remove(dir.as_fd(), OsStr::new(name)));
}

/// Calls `f` for each folder in which a step's cgroups may have been made (but for a parent of the user's choice).
fn for_each_place(f: impl Fn(OwnedFd)) {
    let hierarchies = Hierarchies::find();
    if let Some((root, own)) = &hierarchies.v2 {
        candidates(None, own).iter().filter_map(|place| open_dir(root, place).ok()).for_each(&f);
    }
    for (_, mount, own) in &hierarchies.v1 {
        if let Ok(dir) = open_dir(CWD, &mount.join(own)) {
            f(dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_files() {
        let limits = Limits {
            memory: Some(100),
            memory_swap: Some(150),
            cpus: Some(1.5),
            cpu_shares: Some(1024),
            pids: Some(7),
            cpuset_cpus: Some("0-1".into()),
            ..Limits::default()
        };
        let wishes = wishes(&limits);
        let files = |pick: fn(&Wish) -> &Vec<(&'static str, String)>| -> Vec<String> {
            wishes.iter().flat_map(pick).map(|(file, value)| format!("{file}={value}")).collect()
        };
        let v2 = [
            "memory.max=100",
            "memory.swap.max=50",
            "pids.max=7",
            "cpu.max=150000 100000",
            "cpu.weight=39",
            "cpuset.cpus=0-1",
        ];
        assert_eq!(files(|w| &w.v2), v2);
        let v1 = [
            "memory.limit_in_bytes=100",
            "memory.memsw.limit_in_bytes=150",
            "pids.max=7",
            "cpu.cfs_period_us=100000",
            "cpu.cfs_quota_us=150000",
            "cpu.shares=1024",
            "cpuset.cpus=0-1",
        ];
        assert_eq!(files(|w| &w.v1), v1);
        assert!(super::wishes(&Limits::default()).is_empty());
        assert!(wishes.iter().all(|w| LIMIT_NAMES.contains(&w.limit)));
    }

    #[test]
    fn places_go_up() {
        let places = |parent: Option<&str>, own: &str| -> Vec<PathBuf> {
            candidates(parent.map(Path::new), Path::new(own))
        };
        assert_eq!(places(None, "a/b"), ["a/b", "a", ""].map(PathBuf::from));
        assert_eq!(places(None, ""), [PathBuf::new()]);
        assert_eq!(places(Some("/x/../../y"), "a"), [PathBuf::from("y")], "never out of the hierarchy");
    }

    #[test]
    fn only_names_of_dead_owners_are_stale() {
        let own = format!("{}-3", owner_prefix());
        assert!(!is_stale(&own));
        let namespace = pid_namespace();
        assert!(is_stale(&format!("ctrbuild-{namespace}-{}-1-0", std::process::id())));
        for name in ["ctrbuild-1-2-3-4", "ctrbuild-", "ctrbuild-a-b-c-d", "docker", ""] {
            assert!(!is_stale(name), "{name}");
        }
    }

    #[test]
    fn fields_are_whole_words() {
        let text = "oom_kill_disable 5\nunder_oom 0\noom_kill 2\n";
        assert_eq!((field(text, "oom_kill"), field(text, "oom")), (2, 0));
        let io = "8:0 rbytes=10 wbytes=3 rios=1\n254:0 rbytes=5 dbytes=7\n";
        assert_eq!((io_sum(io, "rbytes="), io_sum(io, "wbytes=")), (15, 3));
    }
}
