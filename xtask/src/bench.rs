//! `cargo xtask bench`: what is promised of speed and memory, with Debian's buildah as peer in the same run.
//!
//! Figures of one machine say little: each is printed with its ratio to the peer's.

use crate::machine::{Scratch, command, has, is_root, output};
use crate::{dist, packages};
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Steps of the chain; the peer gets fewer, it takes half a second for each.
const STEPS: u32 = 60;
const PEER_STEPS: u32 = 10;
/// Size of the big layers, in MiB.
const BIG: u64 = 500;

/// Promises: milliseconds a step of a chain, milliseconds from a step's start to its end and how much less that is
/// than the peer's, milliseconds of a cached build, the same with a large context, MiB of memory.
const STEP_MS: f64 = 25.0;
const TRUE_MS: f64 = 15.0;
const TRUE_TIMES: f64 = 4.0;
const CACHED_MS: f64 = 20.0;
const CONTEXT_MS: f64 = 250.0;
const MEMORY_MIB: f64 = 64.0;

struct Bench {
    ctrbuild: PathBuf,
    dir: Scratch,
    peer: bool,
}

/// `what` are some of `steps`, `cached`, `context`, `memory`; all, if it is empty. The variable CTRBUILD names another
/// program to measure than the one that `dist` builds. Whether all promises were kept.
pub fn run(what: &[&str]) -> Result<bool> {
    if !is_root() {
        bail!("bench needs root: it compares with programs that do");
    }
    if let Some(other) = what.iter().find(|w| !["steps", "cached", "context", "memory"].contains(w)) {
        bail!("bench knows steps, cached, context and memory, not {other}");
    }
    packages::for_bench()?;
    let ctrbuild = match std::env::var_os("CTRBUILD") {
        Some(program) => PathBuf::from(program),
        None => dist::build()?,
    };
    let bench = Bench { ctrbuild, dir: Scratch::new("bench")?, peer: has("buildah") };
    bench.make_base()?;
    let wanted = |name: &str| what.is_empty() || what.contains(&name);
    let mut kept = true;
    if wanted("steps") {
        kept &= bench.steps()?;
    }
    if wanted("cached") {
        kept &= bench.cached()?;
    }
    if wanted("context") {
        kept &= bench.context()?;
    }
    if wanted("memory") {
        kept &= bench.memory()?;
    }
    Ok(kept)
}

fn verdict(name: &str, found: f64, promised: f64, unit: &str, peer: Option<f64>) -> bool {
    let kept = found < promised;
    print!(
        "{name:<28} {found:8.1} {unit}   promised < {promised} {unit}: {}",
        if kept { "kept" } else { "NOT KEPT" }
    );
    match peer {
        Some(peer) => println!("   buildah {peer:8.1} {unit}, {:.1} times as much", peer / found),
        None => println!(),
    }
    kept
}

pub(crate) fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ctrbuild(&self, store: &str) -> Command {
        let mut command = command(&[&self.ctrbuild.to_string_lossy()]);
        command.env("CTRBUILD_ROOT", self.path(store));
        command
    }

    fn buildah(&self) -> Command {
        let mut command = command(&["buildah", "--root"]);
        command.arg(self.path("peer/root")).arg("--runroot").arg(self.path("peer/run"));
        command.args(["--storage-driver", "overlay"]);
        command
    }

    /// A root file system of busybox, for both.
    fn make_base(&self) -> Result<()> {
        let root = self.path("base");
        for folder in ["bin", "tmp", "etc"] {
            fs::create_dir_all(root.join(folder))?;
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).context("busybox-static is not installed")?;
        for applet in ["sh", "true", "cat", "echo"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
        }
        let tar = self.path("base.tar");
        output(command(&["tar", "-C"]).arg(&root).arg("-cf").arg(&tar).arg("."))?;
        output(self.ctrbuild("store").arg("import").arg(&tar).arg("base"))?;
        if self.peer {
            let context = self.path("peer-base");
            fs::create_dir_all(&context)?;
            fs::copy(&tar, context.join("base.tar"))?;
            fs::write(context.join("Dockerfile"), "FROM scratch\nADD base.tar /\n")?;
            output(self.buildah().args(["bud", "-q", "-t", "localhost/base"]).arg(&context))?;
        }
        Ok(())
    }

    fn chain(&self, name: &str, from: &str, steps: u32) -> Result<PathBuf> {
        let context = self.path(name);
        fs::create_dir_all(&context)?;
        let mut recipe = format!("FROM {from}\nCOPY hello /hello\n");
        for n in 0..steps {
            recipe.push_str(&format!("RUN echo {n} > /step\n"));
        }
        fs::write(context.join("Dockerfile"), recipe)?;
        fs::write(context.join("hello"), "hello\n")?;
        Ok(context)
    }

    fn timed(&self, command: &mut Command) -> Result<f64> {
        let started = Instant::now();
        output(command.stderr(Stdio::piped()))?;
        Ok(started.elapsed().as_secs_f64() * 1000.0)
    }

    /// A chain of trivial RUN steps, nothing cached.
    fn steps(&self) -> Result<bool> {
        let context = self.chain("chain", "base", STEPS)?;
        let mut all = Vec::new();
        for _ in 0..3 {
            all.push(self.timed(self.ctrbuild("store").args(["build", "-q", "--no-cache"]).arg(&context))?);
        }
        let peer = match self.peer {
            false => None,
            true => {
                let context = self.chain("peer-chain", "localhost/base", PEER_STEPS)?;
                let mut bud = self.buildah();
                Some(self.timed(bud.args(["bud", "-q", "--layers"]).arg(&context))? / f64::from(PEER_STEPS))
            }
        };
        let chain = verdict("a step of a chain", median(all) / f64::from(STEPS), STEP_MS, "ms", peer);
        Ok(self.step_of_true()? && chain)
    }

    /// Steps of `/bin/true`, each from its start (the overlay included) to its end, by the builder's own record.
    fn step_of_true(&self) -> Result<bool> {
        let recipe = |name: &str, from: &str, steps: u32| -> Result<PathBuf> {
            let context = self.path(name);
            fs::create_dir_all(&context)?;
            // Each on the one before, so that none runs beside another.
            let steps = "RUN [\"/bin/true\"]\n".repeat(steps as usize);
            fs::write(context.join("Dockerfile"), format!("FROM {from}\nENV A=b\n{steps}"))?;
            Ok(context)
        };
        let context = recipe("true", "base", STEPS)?;
        let mut build = self.ctrbuild("store");
        let told = build.args(["build", "--no-cache", "--progress=json"]).arg(&context).output()?;
        if !told.status.success() {
            bail!("ctrbuild: {}", String::from_utf8_lossy(&told.stderr));
        }
        let took = |line: &str| -> Option<f64> {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            let is_step = event["event"] == "finished" && event["name"].as_str()?.contains("/bin/true");
            is_step.then(|| event["seconds"].as_f64().map(|s| s * 1000.0))?
        };
        let all: Vec<f64> = String::from_utf8_lossy(&told.stderr).lines().filter_map(took).collect();
        if all.len() != STEPS as usize {
            bail!("{} of {STEPS} steps were told of", all.len());
        }
        let peer = match self.peer && has("runc") {
            false => None,
            true => {
                // It keeps no record: what ten steps take more than none.
                let build = |steps: u32| -> Result<f64> {
                    let context = recipe(&format!("peer-true-{steps}"), "localhost/base", steps)?;
                    let mut bud = self.buildah();
                    bud.args([
                        "bud",
                        "-q",
                        "--layers",
                        "--no-cache",
                        "--isolation",
                        "oci",
                        "--runtime",
                        "runc",
                    ]);
                    self.timed(bud.arg(&context))
                };
                Some((build(PEER_STEPS)? - build(0)?) / f64::from(PEER_STEPS))
            }
        };
        let found = median(all);
        let times = peer.is_none_or(|peer| peer / found >= TRUE_TIMES);
        if !times {
            println!("NOT KEPT: at least {TRUE_TIMES} times as fast as buildah with runc");
        }
        Ok(verdict("a step of /bin/true, median", found, TRUE_MS, "ms", peer) && times)
    }

    /// The whole process, everything cached.
    fn cached(&self) -> Result<bool> {
        let context = self.chain("cached", "base", 5)?;
        let build = || self.timed(self.ctrbuild("store").args(["build", "-q"]).arg(&context));
        build()?;
        let all = (0..20).map(|_| build()).collect::<Result<Vec<_>>>()?;
        let peer = match self.peer {
            false => None,
            true => {
                let context = self.chain("peer-cached", "localhost/base", 5)?;
                let build = || self.timed(self.buildah().args(["bud", "-q", "--layers"]).arg(&context));
                build()?;
                Some(median((0..3).map(|_| build()).collect::<Result<Vec<_>>>()?))
            }
        };
        Ok(verdict("all cached, whole process", median(all), CACHED_MS, "ms", peer))
    }

    /// The whole process, everything cached, with a context of 20,000 files and one of 300 MiB that did not change.
    fn context(&self) -> Result<bool> {
        let make = |name: &str| -> Result<PathBuf> {
            let context = self.path(name);
            for folder in 0..200 {
                let folder = context.join(format!("d{folder}"));
                fs::create_dir_all(&folder)?;
                for file in 0..100 {
                    fs::write(folder.join(format!("f{file}")), format!("{file}\n").repeat(500))?;
                }
            }
            noise(&context.join("big"), 300)?;
            fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY . /\n")?;
            Ok(context)
        };
        let context = make("large")?;
        let build = || self.timed(self.ctrbuild("store").args(["build", "-q"]).arg(&context));
        build()?;
        // Files that were written a moment ago are not remembered.
        std::thread::sleep(Duration::from_millis(2500));
        build()?;
        let all = (0..10).map(|_| build()).collect::<Result<Vec<_>>>()?;
        let peer = match self.peer {
            false => None,
            true => {
                let build = || self.timed(self.buildah().args(["bud", "-q", "--layers"]).arg(&context));
                build()?;
                Some(median((0..3).map(|_| build()).collect::<Result<Vec<_>>>()?))
            }
        };
        Ok(verdict("all cached, large context", median(all), CONTEXT_MS, "ms", peer))
    }

    /// Pull, build and push of layers of 500 MB.
    fn memory(&self) -> Result<bool> {
        let registry = Registry::start(&self.path("registry"))?;
        let context = self.path("big");
        fs::create_dir_all(&context)?;
        noise(&context.join("big"), BIG)?;
        fs::write(context.join("Dockerfile"), "FROM base\nCOPY big /big\n")?;
        let name = format!("{}/big", registry.domain);
        let push = peak(self.ctrbuild("store").args(["build", "-q", "--push", "-t", &name]).arg(&context))?;
        let next = self.path("big-next");
        fs::create_dir_all(&next)?;
        fs::write(next.join("Dockerfile"), format!("FROM {name}\nRUN cat /big > /again\n"))?;
        let again = format!("{}/again", registry.domain);
        let pull = peak(self.ctrbuild("store-2").args(["build", "-q", "--push", "-t", &again]).arg(&next))?;
        let peer = match self.peer {
            false => None,
            true => {
                let mut bud = self.buildah();
                let bud = bud.args(["bud", "-q", "--layers", "--tls-verify=false", "-t", "localhost/again"]);
                Some(peak(bud.arg(&next))?)
            }
        };
        drop(registry);
        let first = verdict("memory: build, push 500 MB", push, MEMORY_MIB, "MiB", None);
        Ok(verdict("memory: pull, build, push", pull, MEMORY_MIB, "MiB", peer) && first)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if self.peer {
            // Its overlays stay mounted otherwise, and the folder could not be removed.
            let _ = self.buildah().args(["rm", "--all"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
            let overlay = self.path("peer/root/overlay");
            let mut umount = command(&["umount", "-q"]);
            let _ = umount.arg(overlay).stderr(Stdio::null()).status();
        }
    }
}

/// Bytes that do not compress, the same each time.
pub(crate) fn noise(path: &Path, mib: u64) -> Result<()> {
    let mut file = std::io::BufWriter::with_capacity(1 << 20, fs::File::create(path)?);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..(mib << 20) / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes())?;
    }
    Ok(file.flush()?)
}

/// Run to the end; the process's peak of resident memory in MiB, as the kernel counted it.
pub(crate) fn peak(command: &mut Command) -> Result<f64> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut high = 0u64;
    let ended = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kib = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
        high = high.max(kib.unwrap_or(0));
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if !ended.success() {
        bail!("{}: {ended}", command.get_program().to_string_lossy());
    }
    Ok(high as f64 / 1024.0)
}

/// Debian's docker-registry on a free port of loopback.
pub(crate) struct Registry {
    child: Child,
    pub domain: String,
}

impl Registry {
    pub fn start(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let domain = format!("127.0.0.1:{port}");
        let config = folder.join("config.yml");
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
                 storage: {{filesystem: {{rootdirectory: {}/data}}}}\nhttp: {{addr: \"{domain}\"}}\n",
                folder.display()
            ),
        )?;
        let mut serve = command(&["docker-registry", "serve"]);
        let serve = serve.arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Registry { child: serve.spawn().context("docker-registry is not installed")?, domain };
        let started = Instant::now();
        while TcpStream::connect(&registry.domain).is_err() {
            if started.elapsed() > Duration::from_secs(20) {
                bail!("docker-registry does not listen");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
