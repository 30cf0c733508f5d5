//! The part of `cargo xtask bench store` about a store with 100,000 blobs and 10,000 images.
//!
//! The store's files are written here as docs/store-layout.md has them, since making ten thousand images by commands
//! would take all day. Records have no sum and the batch `synced`, which that page allows.

use crate::bench::median;
use crate::bench_store::{Bench, Promise, timed, verdict};
use crate::machine::{command, output};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const IMAGES: usize = 10_000;
/// With configuration and manifest that makes ten blobs an image.
const LAYERS: usize = 8;
const COMMAND_MS: f64 = 100.0;
const GC_MS: f64 = 10_000.0;
const RUNS: usize = 5;

pub(crate) fn run(bench: &Bench) -> Result<bool> {
    let hello = bench.context("scale", "FROM scratch\nCOPY Dockerfile /\n")?;
    // Made by the program, so that the folders are there.
    output(bench.ctrbuild("scale-store").args(["build", "-q", "-t", "hello:1"]).arg(&hello))?;
    let store = bench.path("scale-store");
    fill(&store)?;
    let registry = crate::bench::Registry::start(&bench.path("scale-registry"))?;
    let remote = format!("{}/hello:1", registry.domain);
    output(bench.ctrbuild("scale-store").args(["tag", "hello:1", &remote]))?;
    output(bench.ctrbuild("scale-store").args(["push", "-q", &remote]))?;
    output(bench.ctrbuild("scale-store").args(["build", "-q"]).arg(&hello))?;

    let mut kept = true;
    let hello = hello.display().to_string();
    let commands: [(&str, Vec<&str>); 11] = [
        ("build, cached", vec!["build", "-q", "-t", "hello:1", &hello]),
        ("build, cached, no name", vec!["build", "-q", &hello]),
        ("images NAME", vec!["images", "hello:1"]),
        ("inspect", vec!["inspect", "hello:1"]),
        ("history", vec!["history", "hello:1"]),
        ("tag", vec!["tag", "hello:1", "other:1"]),
        ("a name that is not there", vec!["inspect", "nothing:1"]),
        ("pull, up to date", vec!["pull", "-q", &remote]),
        ("push, up to date", vec!["push", "-q", &remote]),
        ("save", vec!["save", "-o", "/dev/null", "hello:1"]),
        // The last one: what it starts in the background is waited for.
        ("rmi of one of two names", vec!["rmi", "other:1"]),
    ];
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); commands.len()];
    // In turns, so that `tag` has something to do each time.
    for _ in 0..RUNS {
        for ((_, args), times) in commands.iter().zip(&mut times) {
            let mut command = bench.ctrbuild("scale-store");
            command.args(args);
            times.push(match args.last() {
                Some(&"nothing:1") => refused(&mut command)?,
                _ => timed(&mut command)?,
            });
        }
        while fs::read_dir(store.join("leases"))?.next().is_some() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    for ((name, _), times) in commands.iter().zip(times) {
        let first = times.first().copied().unwrap_or_default();
        let from = format!("the first one {first:.0} ms");
        kept &= verdict(&format!("scale, {name}"), median(times), Promise::AtMost(COMMAND_MS), "ms", &from);
    }
    for (name, args) in [("images", vec!["images"]), ("df", vec!["df"])] {
        let ms = timed(bench.ctrbuild("scale-store").args(args))?;
        println!("{:<34} {ms:9.2} ms    reads them all", format!("scale, {name}"));
    }
    let gc = timed(bench.ctrbuild("scale-store").arg("prune"))?;
    kept &= verdict("scale, gc", gc, Promise::AtMost(GC_MS), "ms", "nothing to remove");
    forget_tenth(&store, 0)?;
    let gc = timed(bench.ctrbuild("scale-store").arg("prune"))?;
    kept &= verdict("scale, gc", gc, Promise::AtMost(GC_MS), "ms", "a tenth of the images goes");
    forget_tenth(&store, 1)?;
    let mut gc = bench.ctrbuild("scale-store").arg("prune").stdout(Stdio::null()).spawn()?;
    let mut times = Vec::new();
    while gc.try_wait()?.is_none() {
        for args in
            [vec!["inspect", "hello:1"], vec!["tag", "hello:1", "other:1"], vec!["pull", "-q", &remote]]
        {
            times.push(timed(bench.ctrbuild("scale-store").args(args))?);
        }
    }
    if !gc.wait()?.success() {
        bail!("the collection failed");
    }
    let worst = |which: usize| times.iter().skip(which).step_by(3).copied().fold(0.0, f64::max);
    let from = format!(
        "{} of them, the worst inspect {:.0}, tag {:.0}, pull {:.0} ms",
        times.len(),
        worst(0),
        worst(1),
        worst(2)
    );
    kept &= verdict("scale, a command beside gc", median(times), Promise::AtMost(COMMAND_MS), "ms", &from);
    Ok(kept)
}

/// Remove the names of a tenth of the images.
fn forget_tenth(store: &Path, which: usize) -> Result<()> {
    for i in (which..IMAGES).step_by(10) {
        fs::remove_file(store.join("refs").join(reference(i).1))?;
    }
    Ok(())
}

/// Milliseconds of a process that must fail.
fn refused(command: &mut Command) -> Result<f64> {
    let started = std::time::Instant::now();
    let out = command.stdin(Stdio::null()).output()?;
    if out.status.success() {
        bail!("it did not fail");
    }
    Ok(started.elapsed().as_secs_f64() * 1000.0)
}

/// The name of an image and that of its file.
fn reference(i: usize) -> (String, String) {
    (format!("docker.io/library/many-{i}:latest"), format!("docker.io%2Flibrary%2Fmany-{i}%3Alatest"))
}

fn fill(store: &Path) -> Result<()> {
    let folder = store.join("tmp/filling");
    fs::create_dir(&folder)?;
    let layers = put(store, &folder, (0..IMAGES * LAYERS).map(|i| format!("layer {i}, which is no tar\n")))?;
    let configs = put(
        store,
        &folder,
        (0..IMAGES).map(|i| {
            let diff_ids: Vec<String> =
                layers[i * LAYERS..][..LAYERS].iter().map(|(d, _)| format!("sha256:{d}")).collect();
            json!({"architecture": "amd64", "os": "linux", "created": "2025-01-01T00:00:00Z",
                "config": {"Env": [format!("NUMBER={i}")]}, "rootfs": {"type": "layers", "diff_ids": diff_ids}})
            .to_string()
        }),
    )?;
    const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    let blob = |kind: &str, (digest, size): &(String, u64)| json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": size});
    let manifests = put(
        store,
        &folder,
        (0..IMAGES).map(|i| {
            let layers: Vec<_> = layers[i * LAYERS..][..LAYERS].iter().map(|l| blob(LAYER, l)).collect();
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": blob(CONFIG, &configs[i]), "layers": layers})
                .to_string()
        }),
    )?;
    fs::remove_dir(&folder)?;
    for (i, (digest, size)) in manifests.iter().enumerate() {
        let (name, file) = reference(i);
        let target = json!({"media_type": MANIFEST, "digest": format!("sha256:{digest}"), "size": size});
        // Member by member: a record without sum is known by how it begins.
        let text = format!(
            "{{\"version\":1,\"name\":{},\"target\":{target},\"kind\":\"image\",\"updated\":1735689600}}",
            json!(name)
        );
        fs::write(store.join("refs").join(file), text)?;
    }
    Ok(())
}

/// Write blobs and give them their names; digests in hexadecimal and sizes, in order.
fn put(store: &Path, folder: &Path, texts: impl Iterator<Item = String>) -> Result<Vec<(String, u64)>> {
    let mut sizes = Vec::new();
    for (i, text) in texts.enumerate() {
        fs::write(folder.join(format!("{i:06}")), &text)?;
        sizes.push(text.len() as u64);
    }
    let mut sums = command(&["xargs", "-0", "-n", "2000", "sha256sum"]);
    let mut sums = sums.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut names = sums.stdin.take().context("a pipe")?;
    let list: String = (0..sizes.len()).map(|i| format!("{i:06}\0")).collect();
    let writer = std::thread::spawn(move || names.write_all(list.as_bytes()));
    let out = sums.wait_with_output()?;
    writer.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    let text = String::from_utf8(out.stdout)?;
    let mut all = Vec::new();
    for (line, size) in text.lines().zip(&sizes) {
        let (digest, name) = line.split_once("  ").context("sha256sum")?;
        let shard: PathBuf = store.join("blobs/sha256").join(&digest[..2]);
        fs::create_dir_all(&shard)?;
        fs::rename(folder.join(name), shard.join(digest))?;
        all.push((digest.to_string(), *size));
    }
    match all.len() == sizes.len() {
        true => Ok(all),
        false => bail!("sha256sum told of {} of {} files", all.len(), sizes.len()),
    }
}
