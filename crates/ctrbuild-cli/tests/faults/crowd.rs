//! Many processes on one store: the same plan at once, and everything at once.

use crate::lab::{Lab, Random, is_long, long_time};
use crate::place::run;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Sixteen builds of one plan: one runs the step, and all have the same image.
#[test]
fn of_sixteen_one_runs_the_step() {
    let Some(lab) = Lab::new() else { return };
    let store = lab.fresh();
    let rounds = if is_long() { 100 } else { 2 };
    let mut executions = 0;
    for round in 0..rounds {
        // The cache folder outlives the steps and counts them.
        let recipe = format!(
            "FROM base\nRUN --mount=type=cache,target=/c echo {round} >> /c/log && wc -l < /c/log > /count\n"
        );
        let context = lab.place.context_in("same", &[("Dockerfile", &recipe)]);
        let children: Vec<_> = (0..16)
            .map(|_| {
                let mut build = lab.command(&store, ["build", "-q", "-t", "same:1", &context]);
                build.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let mut digests = BTreeSet::new();
        for child in children {
            let out = child.wait_with_output().unwrap();
            assert!(out.status.success(), "round {round}: {}", String::from_utf8_lossy(&out.stderr));
            digests.insert(String::from_utf8_lossy(&out.stdout).trim().to_string());
        }
        assert_eq!(digests.len(), 1, "round {round}: {digests:?}");
        let count = executed(&lab, &store);
        assert_eq!(count, executions + 1, "round {round}: {} executions", count - executions);
        executions = count;
    }
    lab.is_sound(&store, "afterwards");
    lab.is_tidy(&store, "afterwards");
    println!("{rounds} rounds of 16 builds, {executions} executions");
}

/// What the last step counted.
fn executed(lab: &Lab, store: &Path) -> usize {
    let folder = lab.place.path("count");
    let output = format!("type=local,dest={}", folder.display());
    let _ = std::fs::remove_dir_all(&folder);
    run(&mut lab.command(store, ["build", "-q", "-o", &output, "same"])).ok();
    std::fs::read_to_string(folder.join("count")).unwrap().trim().parse().unwrap()
}

/// One of those who do everything at once. Only it changes names that begin with its own.
struct Worker<'l> {
    lab: &'l Lab,
    store: &'l Path,
    n: usize,
    random: Random,
    /// What it was told that the store has, by name: the image's id.
    names: BTreeMap<String, String>,
    done: BTreeMap<&'static str, usize>,
}

impl Worker<'_> {
    #[track_caller]
    fn ok(&self, what: &str, command: &mut Command) -> String {
        let ended = run(command);
        assert_eq!(ended.code, Some(0), "worker {}, {what}: {}", self.n, ended.stderr);
        ended.stdout.trim().to_string()
    }

    fn command(&self, args: &[&str]) -> Command {
        self.lab.command(self.store, args)
    }

    fn some_name(&mut self) -> Option<String> {
        let n = self.random.below(self.names.len());
        self.names.keys().nth(n).cloned()
    }

    fn id(&self, name: &str) -> String {
        let told = self.ok("inspect", &mut self.command(&["inspect", name]));
        let value: serde_json::Value = serde_json::from_str(&told).unwrap();
        let id = value["Id"].as_str().or(value[0]["Id"].as_str()).unwrap_or_default();
        assert!(id.starts_with("sha256:"), "{told}");
        id.to_string()
    }

    fn step(&mut self) {
        let name = format!("w{}:{}", self.n, self.random.below(6));
        let (what, made) = match self.random.below(20) {
            0..=5 => {
                // Half of the plans are everybody's.
                let plan = self.random.below(12);
                let own = if plan < 6 { String::new() } else { format!("RUN echo {} > /own\n", self.n) };
                let recipe = format!("FROM base\nRUN echo {plan} > /plan\n{own}COPY Dockerfile /\n");
                let folder = format!("work{}", self.n);
                self.lab.place.context_in(&folder, &[("Dockerfile", &recipe)]);
                self.ok("build", &mut self.command(&["build", "-q", "-t", &name, &folder]));
                ("build", Some(name))
            }
            6..=8 => {
                let policy: &[&str] =
                    if self.random.below(2) == 0 { &["prune", "-f"] } else { &["prune", "-a", "-f"] };
                self.ok("prune", &mut self.command(policy));
                ("prune", None)
            }
            9 | 10 => {
                let Some(from) = self.some_name() else { return };
                self.ok("tag", &mut self.command(&["tag", &from, &name]));
                ("tag", Some(name))
            }
            11 | 12 => {
                let Some(gone) = self.some_name() else { return };
                self.ok("rmi", &mut self.command(&["rmi", &gone]));
                self.names.remove(&gone);
                ("rmi", None)
            }
            13 => {
                let Some(registry) = &self.lab.registry else { return };
                let remote = registry.name("seed/app:1");
                self.ok("pull", &mut self.command(&["pull", "-q", &remote]));
                // Anybody may remove that name, so it is kept under one of ours; it may be gone already.
                let tagged = run(&mut self.command(&["tag", &remote, &name]));
                ("pull", (tagged.code == Some(0)).then_some(name))
            }
            14 => {
                let Some(registry) = &self.lab.registry else { return };
                let remote = registry.name("seed/app:1");
                let removed = run(&mut self.command(&["rmi", &remote]));
                assert!(removed.code == Some(0) || removed.stderr.contains("seed/app"), "{}", removed.stderr);
                ("rmi of all", None)
            }
            15 | 16 => {
                let Some(from) = self.some_name() else { return };
                let Some(registry) = &self.lab.registry else { return };
                let to = registry.name(&format!("crowd/w{}:1", self.n));
                self.ok("push", &mut self.command(&["push", "-q", &from, &to]));
                ("push", None)
            }
            17 => {
                self.ok("load", &mut self.command(&["load", "-q", "--force", "-i", "loaded.tar"]));
                ("load", None)
            }
            _ => {
                let Some(name) = self.some_name() else { return };
                self.lab.is_readable(self.store, &name, &format!("worker {}", self.n));
                assert_eq!(self.id(&name), self.names[&name], "worker {}: {name} is another image", self.n);
                ("save", None)
            }
        };
        if let Some(name) = made {
            let id = self.id(&name);
            self.names.insert(name, id);
        }
        *self.done.entry(what).or_insert(0) += 1;
    }
}

#[test]
fn everything_at_once() {
    let Some(lab) = Lab::new() else { return };
    let store = lab.fresh();
    let time = if is_long() { long_time() } else { Duration::from_secs(5) };
    let end = Instant::now() + time;
    let workers: Vec<Worker> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..8)
            .map(|n| {
                let random = Random::new(200 + n as u64);
                let (names, done) = (BTreeMap::new(), BTreeMap::new());
                let mut worker = Worker { lab: &lab, store: &store, n, random, names, done };
                scope.spawn(move || {
                    while Instant::now() < end {
                        worker.step();
                    }
                    worker
                })
            })
            .collect();
        handles.into_iter().map(|h| h.join().unwrap()).collect()
    });
    let mut done = BTreeMap::new();
    let mut names = 0;
    for worker in &workers {
        for (name, id) in &worker.names {
            lab.is_readable(&store, name, "afterwards");
            assert_eq!(worker.id(name), *id, "{name} is another image");
            names += 1;
        }
        for (what, count) in &worker.done {
            *done.entry(*what).or_insert(0) += count;
        }
    }
    lab.is_sound(&store, "afterwards");
    lab.run(&store, ["prune", "-a", "-f"]).ok();
    lab.is_sound(&store, "after a collection");
    lab.is_tidy(&store, "afterwards");
    println!("{} commands of 8 workers, {names} names: {done:?}", done.values().sum::<usize>());
}
