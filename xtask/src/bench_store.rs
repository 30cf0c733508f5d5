//! `cargo xtask bench store`: what is promised of layers and of large stores, with Debian's GNU tar, gzip, pigz, zstd
//! and openssl as peers in the same run.
//!
//! The layer is a piece of this machine's `/usr` of the size of a Debian base image. What is timed is what the
//! builder tells of its steps, since peers have neither recipes nor caches; exports and commands are whole processes.
//! Every run has a store of its own: on some file systems removing and remaking trees is what would be measured.

use crate::bench::{Registry, median, noise, peak};
use crate::bench_scale;
use crate::dist;
use crate::machine::{Scratch, command, has, is_root, output};
use crate::packages;
use anyhow::{Context, Result, bail};
use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The layer: what a Debian base image has.
const LAYER_FILES: usize = 8_700;
const LAYER_BYTES: u64 = 170 << 20;
const LAYERS: usize = 5;
const STEP_FILES: u32 = 30_000;
/// The large layer: bytes that do not compress, and a hole after them.
const NOISE_MIB: u64 = 1024;
const HOLE_BYTES: u64 = 3 << 30;
/// Runs of which the median counts.
const RUNS: usize = 3;

/// Promises: times as fast as the peer, share of the sum of layers, milliseconds, MiB.
const UNPACK_TIMES: f64 = 1.0;
const TOGETHER_SHARE: f64 = 0.6;
const COMMIT_MS: f64 = 1200.0;
const PACK_TIMES: f64 = 0.6;
const GZIP_TIMES: f64 = 2.5;
const ZSTD_TIMES: f64 = 1.0;
const MEMORY_MIB: f64 = 128.0;
/// Share of what buildah takes for a pull.
const FETCH_SHARE: f64 = 0.5;

pub(crate) struct Bench {
    ctrbuild: PathBuf,
    dir: Scratch,
    stores: Cell<u32>,
}

/// `what` are some of `unpack`, `fetch`, `commit`, `export`, `scale`, `memory`; all, if it is empty. The variable CTRBUILD
/// names another program to measure than the one that `dist` builds. Whether all promises were kept.
pub fn run(what: &[&str]) -> Result<bool> {
    const ALL: [&str; 6] = ["unpack", "fetch", "commit", "export", "scale", "memory"];
    if !is_root() {
        bail!("bench needs root: it compares with programs that do");
    }
    if let Some(other) = what.iter().find(|w| !ALL.contains(w)) {
        bail!("bench store knows unpack, fetch, commit, export, scale and memory, not {other}");
    }
    packages::for_bench_store()?;
    let ctrbuild = match std::env::var_os("CTRBUILD") {
        Some(program) => PathBuf::from(program),
        None => dist::build()?,
    };
    let bench = Bench { ctrbuild, dir: Scratch::new("bench-store")?, stores: Cell::new(0) };
    let wanted = |name: &str| what.is_empty() || what.contains(&name);
    let mut kept = true;
    if ["unpack", "fetch", "commit", "export"].into_iter().any(wanted) {
        bench.make_tree()?;
    }
    if wanted("unpack") {
        kept &= bench.unpack()?;
    }
    if wanted("fetch") {
        kept &= bench.fetch()?;
    }
    if wanted("commit") {
        kept &= bench.commit()?;
    }
    if wanted("export") {
        kept &= bench.export()?;
    }
    if wanted("scale") {
        kept &= bench_scale::run(&bench)?;
    }
    if wanted("memory") {
        kept &= bench.memory()?;
    }
    Ok(kept)
}

/// What a figure must be.
#[derive(Clone, Copy)]
pub(crate) enum Promise {
    AtMost(f64),
    AtLeast(f64),
}

/// Print a figure beside what was promised, with what it was made from; whether the promise was kept.
pub(crate) fn verdict(name: &str, found: f64, promise: Promise, unit: &str, from: &str) -> bool {
    let (kept, sign, limit) = match promise {
        Promise::AtMost(limit) => (found <= limit, "<=", limit),
        Promise::AtLeast(limit) => (found >= limit, ">=", limit),
    };
    let word = if kept { "kept" } else { "NOT KEPT" };
    println!("{name:<34} {found:9.2} {unit:<5} promised {sign} {limit}: {word}   {from}");
    kept
}

/// Milliseconds of a whole process.
pub(crate) fn timed(command: &mut Command) -> Result<f64> {
    let started = Instant::now();
    output(command)?;
    Ok(started.elapsed().as_secs_f64() * 1000.0)
}

fn several(mut one: impl FnMut(usize) -> Result<f64>) -> Result<f64> {
    Ok(median((0..RUNS).map(&mut one).collect::<Result<Vec<_>>>()?))
}

/// What a build told of its steps.
struct Told {
    /// Names of finished steps and the seconds that they took.
    steps: Vec<(String, f64)>,
    /// Milliseconds from the end of the last step to that of the process.
    after_last: f64,
    /// Processors that the process kept busy, on average.
    busy: f64,
}

impl Told {
    /// Milliseconds of all steps whose name contains a word.
    fn step(&self, word: &str) -> Result<f64> {
        let found: Vec<f64> = self.steps.iter().filter(|s| s.0.contains(word)).map(|s| s.1).collect();
        match found.is_empty() {
            true => bail!("no step {word:?} among {:?}", self.steps),
            false => Ok(found.iter().sum::<f64>() * 1000.0),
        }
    }
}

impl Bench {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn ctrbuild(&self, store: &str) -> Command {
        let mut command = command(&[&self.ctrbuild.to_string_lossy()]);
        command.env("CTRBUILD_ROOT", self.path(store));
        command
    }

    fn fresh(&self) -> String {
        self.stores.set(self.stores.get() + 1);
        format!("store-{}", self.stores.get())
    }

    pub(crate) fn context(&self, name: &str, recipe: &str) -> Result<PathBuf> {
        let context = self.path(name);
        fs::create_dir_all(&context)?;
        fs::write(context.join("Dockerfile"), recipe)?;
        Ok(context)
    }

    fn build(&self, store: &str, context: &Path) -> Result<Told> {
        let mut build = self.ctrbuild(store);
        let build = build.args(["build", "--progress=json"]).arg(context);
        let started = Instant::now();
        let mut child = build.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let (mut steps, mut last, mut text) = (Vec::new(), Instant::now(), String::new());
        for line in BufReader::new(child.stderr.take().context("a pipe")?).lines() {
            let line = line?;
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if event["event"] == "finished" {
                last = Instant::now();
                let name = event["name"].as_str().unwrap_or_default().to_string();
                steps.push((name, event["seconds"].as_f64().unwrap_or_default()));
            }
            text.push_str(&line);
            text.push('\n');
        }
        let busy = cpu_seconds(child.id()) / started.elapsed().as_secs_f64();
        let ended = child.wait()?;
        let after_last = last.elapsed().as_secs_f64() * 1000.0;
        match ended.success() {
            true => Ok(Told { steps, after_last, busy }),
            false => bail!("ctrbuild build {}: {ended}\n{text}", context.display()),
        }
    }

    /// `tree` with the files, `layer.tar` of all, `tree-N` and `layer-N.tar` of parts.
    fn make_tree(&self) -> Result<()> {
        let files = sample(Path::new("/usr"))?;
        for (i, file) in files.iter().enumerate() {
            let name = file.strip_prefix("/")?;
            let whole = self.path("tree").join(name);
            let part = self.path(&format!("tree-{}", i % LAYERS)).join(name);
            for to in [&whole, &part] {
                fs::create_dir_all(to.parent().context("a folder")?)?;
            }
            fs::copy(file, &whole)?;
            fs::hard_link(&whole, &part)?;
        }
        let tar = |folder: &str, name: &str| {
            let (folder, tar) = (self.path(folder), self.path(name));
            output(command(&["tar", "--sort=name", "-C"]).arg(&folder).arg("-cf").arg(&tar).arg("."))
        };
        tar("tree", "layer.tar")?;
        for i in 0..LAYERS {
            tar(&format!("tree-{i}"), &format!("layer-{i}.tar"))?;
        }
        let size = fs::metadata(self.path("layer.tar"))?.len();
        println!("the layer: {} files, {} MB of tar", files.len(), size / 1_000_000);
        Ok(())
    }

    /// An archive `NAME.tar` with an image of that name, a layer for each of `tars`.
    fn image(&self, name: &str, tars: &[String], compression: &str) -> Result<PathBuf> {
        let mut recipe = "FROM scratch\n".to_string();
        let context = self.context(name, "")?;
        for tar in tars {
            fs::hard_link(self.path(tar), context.join(tar))?;
            recipe.push_str(&format!("ADD {tar} /\n"));
        }
        fs::write(context.join("Dockerfile"), recipe)?;
        let archive = self.path(&format!("{name}.image"));
        let to = format!("type=oci,dest={},compression={compression}", archive.display());
        output(
            self.ctrbuild(&self.fresh()).args(["build", "-q", "-t", name, "--output", &to]).arg(&context),
        )?;
        Ok(archive)
    }

    /// Milliseconds to unpack an image that a new store has as blobs only.
    fn unpacked(&self, name: &str, archive: &Path) -> Result<f64> {
        self.unpacking(name, archive)?.step(name)
    }

    fn unpacking(&self, name: &str, archive: &Path) -> Result<Told> {
        let store = self.fresh();
        output(self.ctrbuild(&store).arg("load").arg("--input").arg(archive))?;
        let context = self.context(&format!("from-{name}"), &format!("FROM {name}\nCOPY Dockerfile /\n"))?;
        self.build(&store, &context)
    }

    fn unpack(&self) -> Result<bool> {
        let tar = self.path("layer.tar");
        let peer = |packed: &Path, how: &str| {
            several(|_| {
                let to = self.path(&self.fresh());
                fs::create_dir(&to)?;
                timed(command(&["tar", how]).arg(packed).arg("-C").arg(&to))
            })
        };
        let one = ["layer.tar".to_string()];
        let plain = self.image("plain", &one, "uncompressed")?;
        let ours = several(|_| self.unpacked("plain", &plain))?;
        let theirs = peer(&tar, "-xpf")?;
        let from = format!("{ours:.0} ms, tar -xpf {theirs:.0} ms");
        let mut kept =
            verdict("unpack, plain", theirs / ours, Promise::AtLeast(UNPACK_TIMES), "times", &from);

        let gzip = self.image("gzip", &one, "gzip")?;
        let packed = self.path("layer.tar.gz");
        pipe(command(&["gzip", "-6", "-c"]).arg(&tar), &packed)?;
        let ours = several(|_| self.unpacked("gzip", &gzip))?;
        let theirs = peer(&packed, "-xzpf")?;
        let from = format!("{ours:.0} ms, tar -xzpf {theirs:.0} ms");
        kept &= verdict("unpack, gzip", theirs / ours, Promise::AtLeast(UNPACK_TIMES), "times", &from);

        let tars: Vec<String> = (0..LAYERS).map(|i| format!("layer-{i}.tar")).collect();
        let five = self.image("five", &tars, "gzip")?;
        let singles = tars
            .iter()
            .enumerate()
            .map(|(i, tar)| self.image(&format!("single-{i}"), std::slice::from_ref(tar), "gzip"))
            .collect::<Result<Vec<_>>>()?;
        let busy = Cell::new(0.0);
        let together = several(|_| {
            let told = self.unpacking("five", &five)?;
            busy.set(told.busy);
            told.step("five")
        })?;
        let (mut sum, mut theirs) = (0.0, 0.0);
        for (i, (archive, tar)) in singles.iter().zip(&tars).enumerate() {
            sum += several(|_| self.unpacked(&format!("single-{i}"), archive))?;
            let packed = self.path(&format!("{tar}.gz"));
            pipe(command(&["gzip", "-6", "-c"]).arg(self.path(tar)), &packed)?;
            theirs += peer(&packed, "-xzpf")?;
        }
        // One layer by itself already uses more than one processor. How many the five keep busy tells what more of
        // them at the same time could still gain.
        let from = format!(
            "{together:.0} ms, one after the other {sum:.0} ms; {:.1} processors busy in the last run",
            busy.get()
        );
        kept &=
            verdict("unpack, five layers", together / sum, Promise::AtMost(TOGETHER_SHARE), "of it", &from);
        let from = format!("{together:.0} ms, tar -xzpf one after the other {theirs:.0} ms");
        kept &= verdict(
            "unpack, five layers, to tar",
            together / theirs,
            Promise::AtMost(TOGETHER_SHARE),
            "of it",
            &from,
        );
        Ok(kept)
    }

    /// A build on a base of five layers that only a registry has, and the same in two commands; buildah's pull unpacks too.
    fn fetch(&self) -> Result<bool> {
        let registry = Registry::start(&self.path("fetch-registry"))?;
        let name = format!("{}/five:1", registry.domain);
        let tars: Vec<String> = (0..LAYERS).map(|i| format!("layer-{i}.tar")).collect();
        let archive = self.image("five-remote", &tars, "gzip")?;
        let first = self.fresh();
        output(self.ctrbuild(&first).arg("load").arg("--input").arg(&archive))?;
        output(self.ctrbuild(&first).args(["push", "-q", "five-remote", &name]))?;
        let context = self.context("on-five", &format!("FROM {name}\nCOPY Dockerfile /\n"))?;
        let build = |store: &str| timed(self.ctrbuild(store).args(["build", "-q"]).arg(&context));
        let ours = several(|_| build(&self.fresh()))?;
        let apart = several(|_| {
            let store = self.fresh();
            Ok(timed(self.ctrbuild(&store).args(["pull", "-q", &name]))? + build(&store)?)
        })?;
        let theirs = several(|_| {
            let (root, run) = (self.path(&self.fresh()), self.path("buildah-run"));
            let mut pull = command(&["buildah", "--storage-driver", "overlay", "--root"]);
            pull.arg(root).arg("--runroot").arg(run);
            timed(pull.args(["pull", "-q", "--tls-verify=false", &format!("docker://{name}")]))
        })?;
        let from =
            format!("{ours:.0} ms, first pulled and then built {apart:.0} ms, buildah pull {theirs:.0} ms");
        Ok(verdict("fetch, to buildah", ours / theirs, Promise::AtMost(FETCH_SHARE), "of it", &from))
    }

    /// From the end of a step to that of the build: the layer is packed and hashed, all is synced and named.
    fn commit(&self) -> Result<bool> {
        let base = self.path("base");
        fs::create_dir_all(base.join("bin"))?;
        fs::copy("/bin/busybox", base.join("bin/busybox")).context("busybox-static is not installed")?;
        std::os::unix::fs::symlink("busybox", base.join("bin/sh"))?;
        output(command(&["tar", "-C"]).arg(&base).arg("-cf").arg(self.path("base.tar")).arg("."))?;
        let script = format!(
            "i=0; while [ $i -lt {STEP_FILES} ]; do d=/made/$((i % 300)); [ $i -lt 300 ] && /bin/busybox mkdir -p $d; \
             echo $i > $d/$i; i=$((i + 1)); done"
        );
        let context = self.context("step", &format!("FROM base\nRUN {script}\n"))?;
        let ours = several(|_| {
            let store = self.fresh();
            output(self.ctrbuild(&store).arg("import").arg(self.path("base.tar")).arg("base"))?;
            Ok(self.build(&store, &context)?.after_last)
        })?;
        let mut kept = verdict(
            "commit of 30,000 files",
            ours,
            Promise::AtMost(COMMIT_MS),
            "ms",
            "with a sync of the disk",
        );

        let tar = self.path("layer.tar");
        let bytes = fs::metadata(&tar)?.len() as f64 / 1e6;
        let context = self.context("copied", "FROM scratch\nCOPY tree /\n")?;
        if !context.join("tree").exists() {
            fs::rename(self.path("tree"), context.join("tree"))?;
        }
        let ours = several(|_| Ok(self.build(&self.fresh(), &context)?.after_last))?;
        let sha256 = several(|_| timed(command(&["openssl", "dgst", "-sha256"]).arg(&tar)))?;
        let disk = several(|i| {
            let to = format!("of={}", self.path(&format!("copy-{i}")).display());
            let from = format!("if={}", tar.display());
            timed(&mut command(&["dd", &from, &to, "bs=1M", "conv=fsync", "status=none"]))
        })?;
        let mbs = |ms: f64| bytes / ms * 1000.0;
        let from =
            format!("{:.0} MB/s, sha256 {:.0} MB/s, disk {:.0} MB/s", mbs(ours), mbs(sha256), mbs(disk));
        let share = mbs(ours) / mbs(sha256).min(mbs(disk));
        kept &= verdict("commit, tar and hashes", share, Promise::AtLeast(PACK_TIMES), "times", &from);
        fs::rename(context.join("tree"), self.path("tree"))?;
        Ok(kept)
    }

    fn export(&self) -> Result<bool> {
        let tar = self.path("layer.tar");
        let mut kept = true;
        // From the files to the packed file, which is synced, as the builder does it. The builder also hashes both, and
        // keeps what it made.
        let packed = |how: &str| {
            several(|_| {
                let (tree, to) = (self.path("tree"), self.path(&self.fresh()));
                timed(
                    command(&["sh", "-c", "tar -C \"$1\" -cf - . | $2 > \"$3\" && sync \"$3\"", "sh"])
                        .args([tree.as_os_str(), how.as_ref(), to.as_os_str()]),
                )
            })
        };
        let gzip = packed("gzip -6")?;
        let pigz = if has("pigz") { packed("pigz -6")? } else { f64::NAN };
        let zstd = packed("zstd -q -3 -T2")?;
        for (how, peer, promise) in [("gzip", gzip, GZIP_TIMES), ("zstd", zstd, ZSTD_TIMES)] {
            let ours = several(|_| {
                let store = self.fresh();
                output(self.ctrbuild(&store).arg("import").arg(&tar).arg("plain"))?;
                let context = self.context("plain-again", "FROM plain\n")?;
                let to = format!("type=oci,dest=/dev/null,compression={how}");
                timed(self.ctrbuild(&store).args(["build", "-q", "--output", &to]).arg(&context))
            })?;
            let mut from = format!("{ours:.0} ms, tar and {how} {peer:.0} ms");
            if how == "gzip" {
                from.push_str(&format!(" (pigz {pigz:.0} ms)"));
            }
            kept &=
                verdict(&format!("export, {how}"), peer / ours, Promise::AtLeast(promise), "times", &from);
        }
        Ok(kept)
    }

    /// The peak of each command on a layer of several GB, on many layers, and on folders with many entries.
    fn memory(&self) -> Result<bool> {
        let registry = Registry::start(&self.path("registry"))?;
        let context = self.context("big", "FROM scratch\nCOPY big /\n")?;
        fs::create_dir_all(context.join("big"))?;
        noise(&context.join("big/noise"), NOISE_MIB)?;
        fs::File::create(context.join("big/hole"))?.set_len(HOLE_BYTES)?;
        let (name, archive) = (format!("{}/big", registry.domain), self.path("big.image"));
        let mut kept = true;
        let mut one = |what: &str, command: &mut Command| -> Result<()> {
            let mib = peak(command).with_context(|| what.to_string())?;
            kept &= verdict(&format!("memory, {what}"), mib, Promise::AtMost(MEMORY_MIB), "MiB", "");
            Ok(())
        };
        one("build", self.ctrbuild("big-a").args(["build", "-q", "-t", &name]).arg(&context))?;
        one("push", self.ctrbuild("big-a").args(["push", "-q", &name]))?;
        one("save", self.ctrbuild("big-a").arg("save").arg("-o").arg(&archive).arg(&name))?;
        one("pull", self.ctrbuild("big-b").args(["pull", "-q", &name]))?;
        let next = self.context("next", &format!("FROM {name}\nCOPY Dockerfile /\n"))?;
        one("unpack", self.ctrbuild("big-b").args(["build", "-q"]).arg(&next))?;
        fs::remove_dir_all(self.path("big-a"))?;
        fs::remove_dir_all(self.path("big-b"))?;
        drop(registry);
        one("load", self.ctrbuild("big-c").arg("load").arg("--input").arg(&archive))?;
        fs::remove_dir_all(self.path("big-c"))?;

        let mut recipe = "FROM scratch\n".to_string();
        for i in 0..127 {
            recipe.push_str(&format!("COPY Dockerfile /layer-{i}\n"));
        }
        let many = self.context("many", &recipe)?;
        let image = self.path("many.image");
        let to = format!("type=oci,dest={}", image.display());
        one(
            "127 layers",
            self.ctrbuild("many-a").args(["build", "-q", "-t", "many", "--output", &to]).arg(&many),
        )?;
        output(self.ctrbuild("many-b").arg("load").arg("--input").arg(&image))?;
        let next = self.context("many-next", "FROM many\nCOPY Dockerfile /\n")?;
        one("127 layers, unpack", self.ctrbuild("many-b").args(["build", "-q"]).arg(&next))?;

        let wide = self.context("wide", "FROM scratch\nCOPY wide /wide\n")?;
        fs::create_dir_all(wide.join("wide"))?;
        for i in 0..50_000 {
            fs::write(wide.join(format!("wide/a-file-of-a-wide-folder-{i}")), b"x")?;
        }
        let image = self.path("wide.image");
        let to = format!("type=oci,dest={}", image.display());
        one(
            "50,000 entries",
            self.ctrbuild("wide-a").args(["build", "-q", "-t", "wide", "--output", &to]).arg(&wide),
        )?;
        output(self.ctrbuild("wide-b").arg("load").arg("--input").arg(&image))?;
        let next = self.context("wide-next", "FROM wide\nCOPY Dockerfile /\n")?;
        one("50,000 entries, unpack", self.ctrbuild("wide-b").args(["build", "-q"]).arg(&next))?;
        Ok(kept)
    }
}

/// Regular files below `root`, as many and as large as the layer wants, in a fixed order.
fn sample(root: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder)?.flatten() {
            let meta = entry.metadata()?;
            if meta.is_dir() {
                todo.push(entry.path());
            } else if meta.is_file() && meta.nlink() == 1 {
                all.push((entry.path(), meta.len()));
            }
        }
    }
    all.sort();
    let (mut files, mut bytes) = (Vec::new(), 0);
    for (path, len) in all {
        // As many bytes a file as wanted, so far: a large one has to wait until there are small ones enough.
        if files.len() < LAYER_FILES
            && bytes + len <= (files.len() as u64 + 400) * (LAYER_BYTES / LAYER_FILES as u64)
        {
            bytes += len;
            files.push(path);
        }
    }
    if files.len() < LAYER_FILES {
        println!("{} has {} files only", root.display(), files.len());
    }
    Ok(files)
}

/// Seconds of processors that a process used, whether it still runs or waits to be waited for (proc(5), fields 14 and 15
/// of `stat` in ticks of 10 ms).
fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Milliseconds of a process whose standard output goes to a file.
fn pipe(command: &mut Command, to: &Path) -> Result<f64> {
    let started = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(fs::File::create(to)?).status()?;
    if !status.success() {
        bail!("{}: {status}", command.get_program().to_string_lossy());
    }
    Ok(started.elapsed().as_secs_f64() * 1000.0)
}
