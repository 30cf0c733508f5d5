//! A real registry behind a network that fails by a script: what can be retried is, a tag is there whole or not at
//! all, and what failed works once the network does.
//!
//! Faults of the protocol itself are among the tests of crate registry, against a double.

use crate::lab::{Lab, Random, is_long};
use crate::place::run;
use crate::proxy::{Fault, Proxy, Rule};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use testkit::{Access, RegistryProcess};

fn rule(method: &'static str, target: &'static str, times: usize, fault: Fault) -> Rule {
    Rule { method, target, after: 0, times, fault }
}

struct Net {
    lab: Lab,
    proxy: Proxy,
    /// With layers that are not sent in one piece.
    n: usize,
}

impl Net {
    fn new() -> Option<Net> {
        let lab = Lab::with_layers_of(1 << 20)?;
        let proxy = Proxy::new(lab.registry.as_ref()?.domain());
        Some(Net { lab, proxy, n: 0 })
    }

    fn empty_store(&self) -> PathBuf {
        let store = self.lab.place.path("empty");
        let _ = std::fs::remove_dir_all(&store);
        store
    }

    /// Whether the pull went well. The image is there whole or not at all.
    fn pull(&mut self, context: &str) -> bool {
        let (store, name) = (self.empty_store(), self.proxy.name("seed/app:1"));
        let pulled = self.lab.run(&store, ["pull", "-q", &name]);
        self.failed_well(&pulled, context);
        let there = self.lab.run(&store, ["images", "-q"]).ok();
        assert_eq!(there.is_empty(), pulled.code != Some(0), "{context}: {}", pulled.stderr);
        self.lab.run(&store, ["store", "verify"]).ok();
        if pulled.code == Some(0) {
            self.lab.is_readable(&store, &name, context);
        }
        pulled.code == Some(0)
    }

    /// Whether the push went well. The tag is there whole or not at all.
    fn push(&mut self, context: &str) -> bool {
        self.n += 1;
        let path = format!("net/n{}:1", self.n);
        let store = self.lab.fresh();
        let pushed = self.lab.run(&store, ["push", "-q", "app:1", &self.proxy.name(&path)]);
        self.failed_well(&pushed, context);
        let direct = self.lab.registry.as_ref().unwrap().name(&path);
        let other = self.empty_store();
        let pulled = self.lab.run(&other, ["pull", "-q", &direct]);
        let absent = pulled.code == Some(1) && pulled.stderr.contains("not found");
        assert!(pulled.code == Some(0) || absent, "{context}: {}", pulled.stderr);
        assert!(pulled.code == Some(0) || pushed.code != Some(0), "{context}: the tag is not there");
        self.lab.is_sound(&store, context);
        self.lab.is_tidy(&store, context);
        pushed.code == Some(0)
    }

    /// A build in an empty store that needs every file of a base behind the network.
    fn build(&self, store: &Path) -> Command {
        let recipe = format!(
            "FROM {}\nRUN test -s /loaded/file && echo done > /done\n",
            self.proxy.name("seed/app:1")
        );
        self.lab.place.context_in("streamed", &[("Dockerfile", &recipe)]);
        self.lab.command(store, ["build", "-q", "-t", "streamed:1", "streamed"])
    }

    /// The build goes well, and all that it left is sound.
    #[track_caller]
    fn builds(&self, store: &Path, context: &str) {
        let built = run(&mut self.build(store));
        assert_eq!(built.code, Some(0), "{context}: {}", built.stderr);
        self.lab.is_readable(store, "streamed:1", context);
        self.lab.run(store, ["store", "verify"]).ok();
        self.lab.is_tidy(store, context);
    }

    #[track_caller]
    fn failed_well(&self, ended: &crate::place::Outcome, context: &str) {
        assert!(matches!(ended.code, Some(0 | 1)), "{context}: {:?} {}", ended.code, ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{context}: {}", ended.stderr);
        assert!(ended.code == Some(0) || ended.stderr.contains("error: "), "{context}: {}", ended.stderr);
    }
}

#[test]
fn passing_faults_are_not_seen() {
    let Some(mut net) = Net::new() else { return };
    let later = "retry-after: 1\r\n";
    let status = |status| Fault::Answer { status, headers: "" };
    let mut pulls = vec![
        ("5xx", rule("GET", "/blobs/", 2, status(503))),
        ("5xx for the manifest", rule("GET", "/manifests/", 1, status(500))),
        ("429", rule("GET", "/blobs/", 1, Fault::Answer { status: 429, headers: later })),
        ("cut in a blob", rule("GET", "/blobs/", 3, Fault::CutAnswer(300_000))),
        ("cut in the headers", rule("GET", "/blobs/", 1, Fault::CutAnswer(40))),
        ("cut in the manifest", rule("GET", "/manifests/", 1, Fault::CutAnswer(500))),
        ("closed", rule("GET", "/", 2, Fault::Closed)),
    ];
    let mut pushes = vec![
        ("5xx at the start", rule("POST", "/uploads/", 1, status(500))),
        ("5xx at the end", rule("PUT", "/uploads/", 1, status(502))),
        ("429 in an upload", rule("PUT", "/uploads/", 1, Fault::Answer { status: 429, headers: later })),
        ("cut in a blob", rule("PUT", "/uploads/", 2, Fault::CutRequest(300_000))),
        ("done but not told", rule("PUT", "/uploads/", 1, Fault::Unheard)),
        ("tagged but not told", rule("PUT", "/manifests/", 1, Fault::Unheard)),
        ("no word about a blob", rule("HEAD", "/blobs/", 2, Fault::Closed)),
        ("manifest", rule("PUT", "/manifests/", 1, status(503))),
    ];
    if is_long() {
        let silent = || Fault::Silent(Duration::from_secs(90));
        pulls.push(("silent", rule("GET", "/blobs/", 1, silent())));
        pushes.push(("silent", rule("PUT", "/uploads/", 1, silent())));
    }
    let count = pulls.len() + pushes.len();
    for (what, rule) in pulls {
        net.proxy.script(vec![rule]);
        assert!(net.pull(what), "pull: {what}");
        assert!(net.proxy.hits() > 0, "pull: {what} did not happen");
    }
    for (what, rule) in pushes {
        net.proxy.script(vec![rule]);
        assert!(net.push(what), "push: {what}");
        assert!(net.proxy.hits() > 0, "push: {what} did not happen");
    }
    println!("{count} faults of the network were not seen");
}

#[test]
fn lasting_faults_leave_nothing_half_done() {
    let Some(mut net) = Net::new() else { return };
    let status = |status| Fault::Answer { status, headers: "" };
    let wait = Fault::Answer { status: 429, headers: "retry-after: 3600\r\n" };
    for (what, rule) in [
        ("a long wait", rule("GET", "/blobs/", 1000, wait.clone())),
        ("refused", rule("GET", "/blobs/", 1000, status(403))),
    ] {
        net.proxy.script(vec![rule]);
        assert!(!net.pull(what), "pull: {what}");
        net.proxy.script(Vec::new());
        assert!(net.pull(what), "pull after: {what}");
    }
    for (what, rule) in [
        ("a long wait", rule("PUT", "/uploads/", 1000, wait)),
        ("refused", rule("PUT", "/manifests/", 1000, status(403))),
    ] {
        net.proxy.script(vec![rule]);
        assert!(!net.push(what), "push: {what}");
        net.proxy.script(Vec::new());
        assert!(net.push(what), "push after: {what}");
    }
}

/// Names in folders that are not finished.
fn unfinished(store: &Path) -> usize {
    let Ok(folders) = std::fs::read_dir(store.join("active")) else { return 0 };
    let layers = folders.flatten().map(|f| f.path().join("fs"));
    layers.filter_map(|layer| std::fs::read_dir(layer).ok()).map(Iterator::count).sum()
}

#[test]
fn layers_are_unpacked_while_they_come_in() {
    let Some(net) = Net::new() else { return };
    let blobs = |times, fault| vec![rule("GET", "/blobs/", times, fault)];
    let store = net.empty_store();
    net.proxy.script(blobs(1000, Fault::Halt(600_000)));
    let mut building = net.build(&store).spawn().unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while unfinished(&store) == 0 {
        assert!(std::time::Instant::now() < end, "no file of a layer that has come in half");
        assert_eq!(building.try_wait().unwrap(), None);
        std::thread::sleep(Duration::from_millis(5));
    }
    net.proxy.script(Vec::new());
    assert!(building.wait().unwrap().success());
    net.builds(&store, "halted");

    // Connections that break.
    let store = net.empty_store();
    net.proxy.script(blobs(4, Fault::CutAnswer(300_000)));
    net.builds(&store, "cut");
    assert!(net.proxy.hits() > 0);

    // Bytes that an earlier attempt left, and that are wrong: layers begin with them and have to begin again.
    let store = net.empty_store();
    net.proxy.script(blobs(1000, Fault::Answer { status: 403, headers: "" }));
    net.failed_well(&run(&mut net.build(&store)), "refused");
    net.proxy.script(Vec::new());
    let mut begun = 0;
    let shards = std::fs::read_dir(net.lab.place.path("other/blobs/sha256")).unwrap().flatten();
    for blob in shards.flat_map(|shard| std::fs::read_dir(shard.path()).unwrap().flatten()) {
        let mut bytes = std::fs::read(blob.path()).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            // Readable as far as it goes, but for one byte.
            bytes.truncate(bytes.len() / 2);
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(store.join("partial").join(blob.file_name()), bytes).unwrap();
            begun += 1;
        }
    }
    assert!(begun > 1, "{begun} layers");
    net.builds(&store, "damaged beginnings");

    // A network that changes bytes: nothing of such a layer stays.
    let store = net.empty_store();
    net.proxy.script(blobs(1000, Fault::Flip(500_000)));
    let ended = run(&mut net.build(&store));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("sha256:") && ended.stderr.contains("Dockerfile:1"), "{}", ended.stderr);
    net.lab.run(&store, ["store", "verify"]).ok();
    net.proxy.script(Vec::new());
    net.builds(&store, "after changed bytes");
}

/// The registry goes away in the middle of a push and comes back elsewhere.
#[test]
fn a_restart_is_not_seen() {
    let Some(mut net) = Net::new() else { return };
    let rounds = if is_long() { 20 } else { 1 };
    let (mut random, mut halves) = (Random::new(500), 0);
    for round in 0..rounds {
        net.n += 1;
        let path = format!("restart/n{}:1", net.n);
        let store = net.lab.fresh();
        let command = net.lab.command(&store, ["push", "-q", "app:1", &net.proxy.name(&path)]);
        let pushing = std::thread::spawn(move || run(&mut { command }));
        std::thread::sleep(Duration::from_millis(random.below(250) as u64));
        drop(net.lab.registry.take());
        halves += remove_halves(&net.lab.place.path("registry/data"));
        let again = RegistryProcess::start(&net.lab.place.path("registry"), Access::Open).unwrap();
        net.proxy.set_upstream(again.domain());
        net.lab.registry = Some(again);
        pushing.join().unwrap().ok();
        let (other, direct) = (net.empty_store(), net.lab.registry.as_ref().unwrap().name(&path));
        net.lab.run(&other, ["pull", "-q", &direct]).ok();
        net.lab.is_readable(&other, &direct, &format!("round {round}"));
    }
    println!("{rounds} restarts of the registry in a push, {halves} files that it had written by half");
}

/// What a registry that was killed has of its links, empty ones among them, is made anew by a push.
#[test]
fn half_links_of_a_registry_are_mended() {
    let Some(net) = Net::new() else { return };
    let (store, direct) = (net.lab.fresh(), net.lab.registry.as_ref().unwrap().name("halves/app:1"));
    net.lab.run(&store, ["push", "-q", "app:1", &direct]).ok();
    let repository = net.lab.place.path("registry/data/docker/registry/v2/repositories/halves");
    let links = files_below(&repository);
    for (n, link) in links.iter().enumerate() {
        std::fs::File::options()
            .write(true)
            .open(link)
            .unwrap()
            .set_len(if n % 2 == 0 { 0 } else { 30 })
            .unwrap();
    }
    assert!(links.len() > 4, "{links:?}");
    net.lab.run(&store, ["push", "-q", "app:1", &direct]).ok();
    let other = net.empty_store();
    net.lab.run(&other, ["pull", "-q", &direct]).ok();
    net.lab.is_readable(&other, &direct, "half links");
}

/// docker-registry writes manifests in place, and takes the half that a kill leaves for the whole ever after:
/// no client can mend that. Half links stay, pushing again mends them. Gives the number of both.
fn remove_halves(data: &Path) -> usize {
    let blobs = data.join("docker/registry/v2/blobs/sha256");
    let mut halves = 0;
    for file in files_below(data) {
        let Ok(bytes) = std::fs::read(&file) else { continue };
        let folder = file.parent().unwrap();
        let wrong = match file.file_name().and_then(|n| n.to_str()) {
            Some("link") => bytes.len() != "sha256:".len() + 64,
            Some("data") if file.starts_with(&blobs) => {
                digest::Digest::of(&bytes).hex() != folder.file_name().unwrap().to_str().unwrap()
            }
            _ => false,
        };
        halves += usize::from(wrong);
        if wrong && file.starts_with(&blobs) {
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
    halves
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let is_folder = entry.file_type().unwrap().is_dir();
            if is_folder { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    files
}

/// Any request may meet any fault.
#[test]
fn random_faults() {
    let Some(mut net) = Net::new() else { return };
    let mut random = Random::new(501);
    let (rounds, mut well, mut hits) = (if is_long() { 100 } else { 4 }, 0, 0);
    for n in 0..rounds {
        let mut rules = Vec::new();
        for _ in 0..1 + random.below(4) {
            let fault = match random.below(6) {
                0 => Fault::Answer { status: [429, 500, 502, 503, 504][random.below(5)], headers: "" },
                1 => Fault::Closed,
                2 | 3 => Fault::CutAnswer(random.below(1 << 20)),
                4 => Fault::CutRequest(random.below(1 << 20)),
                _ => Fault::Unheard,
            };
            let method = ["GET", "HEAD", "POST", "PUT"][random.below(4)];
            rules.push(Rule {
                method,
                target: "/",
                after: random.below(5),
                times: 1 + random.below(3),
                fault,
            });
        }
        let context = format!("round {n}: {rules:?}");
        net.proxy.script(rules);
        well += usize::from(if n % 2 == 0 { net.pull(&context) } else { net.push(&context) });
        hits += net.proxy.hits();
    }
    println!("{rounds} pulls and pushes met {hits} faults; {well} went well");
}
