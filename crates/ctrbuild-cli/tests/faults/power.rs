//! Power loss: ext4 with a journal on a loop device, shut down by the file system's own ioctl in the middle of
//! commands, mounted again under another boot id. What a command reported as done is readable.
//!
//! The control is the same with a kernel that says that it has synced and does not: it must lose something.

use crate::disk::{in_own_mounts, mount};
use crate::lab::{Lab, Op, PATIENCE, Random, injected, is_long, long_time, real};
use crate::place::{has, run};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// EXT4_IOC_SHUTDOWN (fs/ext4/ext4.h) with EXT4_GOING_FLAGS_LOGFLUSH (1) or NOLOGFLUSH (2).
const SWITCH: &str = "
import fcntl, os, struct, sys
for line in sys.stdin:
    flags, path = line.split()
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.ioctl(folder, 0x8004587D, struct.pack('I', int(flags)))
    os.close(folder)
    print('off', flush=True)
";

/// What a kernel without a disk behind it would do.
const NO_SYNC: &str = "fsync,fdatasync,syncfs,sync_file_range:retval=0";

struct Switch {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Switch {
    fn new() -> Switch {
        let mut child = Command::new("python3")
            .args(["-c", SWITCH])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Switch { child, input, output: BufReader::new(output) }
    }

    fn off(&mut self, flags: u32, at: &Path) {
        writeln!(self.input, "{flags} {}", at.display()).unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line, "off\n");
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A disk with the seed's store on it.
struct Disk<'l> {
    lab: &'l Lab,
    image: PathBuf,
    at: PathBuf,
    switch: Switch,
    boots: u32,
    boot_id: PathBuf,
}

impl Disk<'_> {
    /// `None` (with a word) where there can be none.
    fn new(lab: &Lab) -> Option<Disk<'_>> {
        if !has(&["mkfs.ext4", "python3", "strace"]) {
            return None;
        }
        let (image, at, boot_id) = (lab.place.path("image"), lab.place.path("disk"), lab.place.path("boot"));
        fs::create_dir(&at).unwrap();
        fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image)).ok();
        // The boot id is what tells records of before the power loss from others.
        fs::write(&boot_id, "boot-0\n").unwrap();
        mount(&["--bind", boot_id.to_str().unwrap()], Path::new("/proc/sys/kernel/random/boot_id"))
            .then_some(())?;
        let mut disk = Disk { lab, image, at, switch: Switch::new(), boots: 0, boot_id };
        disk.mount().then_some(())?;
        fs::create_dir(disk.store()).unwrap();
        lab.copy(&disk.store());
        // The copied records are of another boot; this makes them of this one, and durable.
        lab.run(&disk.store(), ["store", "verify"]);
        disk.unmount();
        disk.mount().then_some(disk)
    }

    fn store(&self) -> PathBuf {
        self.at.join("store")
    }

    fn mount(&mut self) -> bool {
        let options = ["-t", "ext4", "-o", "loop,commit=1", self.image.to_str().unwrap()];
        mount(&options, &self.at)
    }

    fn unmount(&self) {
        let started = Instant::now();
        loop {
            let unmounted = run(Command::new("umount").arg(&self.at));
            if unmounted.code == Some(0) {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{}", unmounted.stderr);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Off at this moment. What is not on the disk is gone once it is mounted again.
    fn off(&mut self, flags: u32) {
        let at = self.at.clone();
        self.switch.off(flags, &at);
    }

    fn on(&mut self) {
        self.unmount();
        self.boots += 1;
        fs::write(&self.boot_id, format!("boot-{}\n", self.boots)).unwrap();
        assert!(self.mount(), "the file system can't be mounted any more");
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).status();
        let _ = Command::new("umount").arg("/proc/sys/kernel/random/boot_id").status();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Sync {
    Real,
    Pretended,
}

/// Commands until the power is gone; the names that were reported, and the ids of their images.
fn work(
    lab: &Lab,
    store: &Path,
    seed: u64,
    sync: Sync,
    off: &AtomicBool,
    count: &AtomicUsize,
) -> BTreeMap<String, String> {
    let mut random = Random::new(seed);
    let mut reported = BTreeMap::new();
    while !off.load(Ordering::SeqCst) {
        let n = count.fetch_add(1, Ordering::SeqCst);
        let name = format!("power:{n}");
        let pull = lab.arguments(Op::Pull, 0);
        let args: Vec<String> = match random.below(12) {
            0..=3 => {
                let recipe =
                    format!("FROM base\nRUN echo {} > /n; mkdir /d\nCOPY file /d/\n", random.below(30));
                let folder = format!("power{seed}");
                lab.place.context_in(&folder, &[("Dockerfile", &recipe), ("file", &format!("{n}"))]);
                vec!["build".into(), "-q".into(), "-t".into(), name.clone(), folder]
            }
            4 => vec!["tag".into(), "app:1".into(), name.clone()],
            5 => vec!["import".into(), "base.tar".into(), name.clone()],
            6 => vec!["load".into(), "-q".into(), "-i".into(), "loaded.tar".into()],
            7 => vec!["store".into(), "dedup".into()],
            8 => vec!["prune".into(), "-a".into(), "-f".into()],
            9 | 10 if lab.registry.is_some() => {
                let base = lab.registry.as_ref().unwrap().name("seed/app:1");
                let recipe = format!("FROM {base}\nRUN echo {} > /n\n", random.below(30));
                let folder = format!("on{seed}");
                lab.place.context_in(&folder, &[("Dockerfile", &recipe)]);
                vec!["build".into(), "-q".into(), "-t".into(), name.clone(), folder]
            }
            _ => match pull {
                Some(words) => words,
                None => continue,
            },
        };
        let name = match args[0].as_str() {
            "load" => "loaded:1".into(),
            "pull" => args[2].clone(),
            _ => name,
        };
        let command = lab.command(store, &args);
        let ended = match sync {
            Sync::Real => run(&mut { command }),
            Sync::Pretended => run(&mut injected(&command, NO_SYNC)),
        };
        assert!(!ended.stderr.contains("panicked"), "{args:?}: {}", ended.stderr);
        if ended.code == Some(0) && !matches!(args[0].as_str(), "store" | "prune") {
            reported.insert(name, ended.stdout.trim().to_string());
        }
    }
    reported
}

/// One power loss. Names that were reported, and those of them that can't be read any more.
fn lose_power(disk: &mut Disk, random: &mut Random, sync: Sync) -> (usize, Vec<String>) {
    let (lab, store) = (disk.lab, disk.store());
    let (off, count) = (AtomicBool::new(false), AtomicUsize::new(disk.boots as usize * 10_000));
    let wait = Duration::from_millis(match sync {
        Sync::Real => 100 + random.below(if is_long() { 2500 } else { 900 }) as u64,
        Sync::Pretended => 800,
    });
    let flags = match sync {
        Sync::Real => 1 + random.below(2) as u32,
        Sync::Pretended => 2,
    };
    let seeds = [random.next(), random.next()];
    let reported: BTreeMap<String, String> = std::thread::scope(|scope| {
        let (off, count, store) = (&off, &count, &store);
        let workers = seeds.map(|seed| scope.spawn(move || work(lab, store, seed, sync, off, count)));
        std::thread::sleep(wait);
        disk.off(flags);
        off.store(true, Ordering::SeqCst);
        workers.into_iter().flat_map(|w| w.join().unwrap()).collect()
    });
    lab.wait_for_processes(&store, "without power");
    disk.on();
    let mut lost = Vec::new();
    for name in reported.keys() {
        let saved = run(&mut lab.command(&store, ["save", "-o", "/dev/null", name]));
        if saved.code != Some(0) {
            lost.push(format!("{name} after {wait:?}, flags {flags}: {}", saved.stderr));
        }
    }
    (reported.len(), lost)
}

#[test]
fn what_was_reported_outlives_power_loss() {
    if !in_own_mounts("power::what_was_reported_outlives_power_loss") {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let Some(mut disk) = Disk::new(&lab) else { return };
    let mut random = Random::new(400);
    let (started, mut rounds, mut names) = (Instant::now(), 0, 0);
    while if is_long() { started.elapsed() < long_time() } else { rounds < 4 } {
        let (reported, lost) = lose_power(&mut disk, &mut random, Sync::Real);
        assert!(lost.is_empty(), "{lost:#?}");
        rounds += 1;
        names += reported;
        let context = format!("after power loss {rounds}");
        lab.is_sound(&disk.store(), &context);
        let args = lab.arguments(Op::Build, 0).unwrap();
        run(&mut lab.command(&disk.store(), &args)).ok();
        lab.is_readable(&disk.store(), "new:1", &context);
        // What a collection had taken away and not deleted yet waits for the next one.
        if fs::read_dir(disk.store().join("trash")).unwrap().count() > 0 {
            lab.run(&disk.store(), ["prune", "-f"]).ok();
        }
        lab.is_tidy(&disk.store(), &context);
        if rounds % 8 == 0 {
            lab.run(&disk.store(), ["prune", "-a", "-f"]).ok();
            lab.is_sound(&disk.store(), &context);
        }
    }
    println!("{rounds} times without power: all of {names} reported names are readable");
    assert!(names > 0);
}

/// A move onto a disk that loses power in the middle of it, or right after it was reported: the store is whole, in
/// the old place or in the new one.
#[test]
fn a_moved_store_outlives_power_loss() {
    if !in_own_mounts("power::a_moved_store_outlives_power_loss") {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let Some(mut disk) = Disk::new(&lab) else { return };
    let mut random = Random::new(401);
    let (started, mut rounds, mut moved) = (Instant::now(), 0, 0);
    let mut usual = Duration::from_millis(300);
    while if is_long() { started.elapsed() < long_time() } else { rounds < 5 } {
        let store = lab.fresh();
        let to = disk.at.join(format!("moved-{rounds}"));
        let wait = match rounds {
            // Right after it.
            0 => PATIENCE,
            _ => usual.mul_f64(random.below(1100) as f64 / 1000.0),
        };
        let context = format!("power loss {rounds} after {wait:?}");
        let command = lab.command(&store, ["store", "move", to.to_str().unwrap()]);
        let off = AtomicBool::new(false);
        let ended = std::thread::scope(|scope| {
            let moving = scope.spawn(|| {
                let (begun, ended) = (Instant::now(), run(&mut { command }));
                if !off.load(Ordering::SeqCst) {
                    usual = begun.elapsed();
                }
                ended
            });
            let begun = Instant::now();
            while begun.elapsed() < wait && !moving.is_finished() {
                std::thread::sleep(Duration::from_millis(1));
            }
            disk.off(1 + random.below(2) as u32);
            off.store(true, Ordering::SeqCst);
            moving.join().unwrap()
        });
        lab.wait_for_processes(&store, &context);
        disk.on();
        assert!(!ended.stderr.contains("panicked"), "{context}: {}", ended.stderr);
        if ended.code == Some(0) {
            assert_eq!(real(&store), to, "{context}");
            moved += 1;
        }
        lab.is_sound(&store, &context);
        let again = lab.run(&store, ["store", "move", to.to_str().unwrap()]);
        assert!(again.code == Some(0) || again.stderr.contains("it is there"), "{context}: {}", again.stderr);
        lab.is_sound(&store, &context);
        lab.is_tidy(&store, &context);
        fs::remove_dir_all(real(&store)).unwrap();
        rounds += 1;
    }
    println!("{rounds} times without power in a move, {moved} had ended");
    assert!(moved > 0 && moved < rounds);
}

#[test]
fn a_store_that_does_not_sync_is_caught() {
    if !in_own_mounts("power::a_store_that_does_not_sync_is_caught") {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let Some(mut disk) = Disk::new(&lab) else { return };
    let mut random = Random::new(401);
    let (mut rounds, mut names) = (0, 0);
    loop {
        let (reported, lost) = lose_power(&mut disk, &mut random, Sync::Pretended);
        (rounds, names) = (rounds + 1, names + reported);
        if !lost.is_empty() {
            println!("caught in round {rounds}: {} of {names} reported names are lost", lost.len());
            return;
        }
        assert!(rounds < 10, "nothing of {names} was lost without syncing: this test shows nothing");
    }
}
