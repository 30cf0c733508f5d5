//! Caches shared between machines: each store here is a machine of its own.

use crate::place::{Outcome, Place, registry as start, run};
use std::fs;
use std::path::PathBuf;
use testkit::{Access, RegistryProcess};

fn recipe(base: &str) -> String {
    format!(
        "FROM {base} AS tools
RUN echo tools > /tools
FROM {base} AS build
COPY src /src
RUN wc -c < /src > /out
FROM {base}
COPY --from=tools /tools /tools
COPY --from=build /out /out
RUN echo last > /last
"
    )
}

struct Machines {
    place: Place,
    registry: RegistryProcess,
    context: String,
}

impl Machines {
    fn new() -> Option<Machines> {
        let place = Place::with_base()?;
        let registry = start(&place, Access::Open)?;
        let base = registry.name("base:1");
        place.run(["push", "base", &base]).ok();
        let context = place.context(&[("Dockerfile", &recipe(&base)), ("src", "one\n")]);
        Some(Machines { place, registry, context })
    }

    fn set_source(&self, text: &str) {
        fs::write(self.place.path(&self.context).join("src"), text).unwrap();
    }

    fn build(&self, machine: &str, args: &[&str]) -> Outcome {
        let store = self.place.path(machine);
        let mut command = self.place.command_on(&store, ["build", "--progress=plain"]);
        run(command.args(args).arg("--iidfile").arg(self.id_file(machine)).arg(&self.context))
    }

    fn id_file(&self, machine: &str) -> PathBuf {
        self.place.path(&format!("{machine}.id"))
    }

    /// The id of the image that was built last: equal for layers that are packed in another way.
    fn id(&self, machine: &str) -> String {
        fs::read_to_string(self.id_file(machine)).unwrap()
    }
}

/// The steps that were executed, in no order.
fn executed(outcome: &Outcome) -> Vec<String> {
    let name = |number: &str| {
        let start = format!("{number} [");
        outcome.stderr.lines().find(|l| l.starts_with(&start)).unwrap_or_default().to_string()
    };
    let done = outcome.stderr.lines().filter_map(|l| l.split_once(" DONE ").map(|(n, _)| name(n)));
    // The base image is fetched where a step needs it.
    let steps = done.filter(|n| n.contains("RUN ") || n.contains("COPY "));
    steps.map(|n| n.split_once("] ").map_or(n.clone(), |(_, step)| step.to_string())).collect()
}

#[test]
fn another_machine_executes_nothing() {
    let Some(machines) = Machines::new() else { return };
    let cache = format!("type=registry,ref={},mode=max", machines.registry.name("cache:main"));
    let first = machines.build("one", &["--cache-to", &cache]);
    assert_eq!(executed(&first).len(), 6, "{}", first.stderr);
    first.ok();
    let from = machines.registry.name("cache:main");
    let second = machines.build("two", &["--cache-from", &from]);
    assert_eq!(executed(&second), [""; 0], "{}", second.stderr);
    second.ok();
    assert_eq!(machines.id("two"), machines.id("one"), "times of layers travel with them");

    // Trusted only where it is asked for.
    let without = machines.build("two", &[]);
    assert_eq!(executed(&without).len(), 6, "{}", without.stderr);
}

#[test]
fn only_what_changed_is_executed() {
    let Some(machines) = Machines::new() else { return };
    let folder = machines.place.path("cache");
    let to = format!("type=local,dest={},mode=max", folder.display());
    let from = format!("type=local,src={}", folder.display());
    machines.build("one", &["--cache-to", &to]).ok();

    // Another source that gives the same result: what follows is found by content.
    machines.set_source("two\n");
    let same = machines.build("two", &["--cache-from", &from]);
    assert_eq!(executed(&same), ["COPY src /src", "RUN wc -c < /src > /out"], "{}", same.stderr);
    same.ok();

    machines.set_source("three\n");
    let other = machines.build("three", &["--cache-from", &from, "--cache-to", &to]);
    let steps = executed(&other);
    assert!(!steps.iter().any(|s| s.contains("tools")), "{steps:?}");
    assert!(steps.iter().any(|s| s.contains("last")), "{steps:?}");
    other.ok();

    // What the third machine had from the cache is in the cache that it wrote, beside its own steps.
    let again = machines.build("four", &["--cache-from", &from]);
    assert_eq!(executed(&again), [""; 0], "{}", again.stderr);
    again.ok();
    assert_eq!(machines.id("four"), machines.id("three"));
    let listed =
        machines.place.command_on(&machines.place.path("four"), ["store", "verify"]).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
}

#[test]
fn a_small_cache_is_that_of_the_image() {
    let Some(machines) = Machines::new() else { return };
    let folder = machines.place.path("cache");
    let to = format!("type=local,dest={},compression=zstd", folder.display());
    let from = format!("type=local,src={}", folder.display());
    machines.build("one", &["--cache-to", &to]).ok();
    let hit = machines.build("two", &["--cache-from", &from]);
    assert_eq!(executed(&hit), [""; 0], "{}", hit.stderr);
    hit.ok();
    // Another copy needs the stage, whose layers are not in the image.
    let text = recipe(&machines.registry.name("base:1")).replace("/tools /tools", "/tools /other");
    machines.place.context(&[("Dockerfile", &text)]);
    let partly = machines.build("three", &["--cache-from", &from]);
    let steps = executed(&partly);
    assert!(steps.iter().any(|s| s.contains("echo tools")), "not in a cache of mode=min: {steps:?}");
    partly.ok();
}

#[test]
fn a_damaged_cache_costs_time_only() {
    let Some(machines) = Machines::new() else { return };
    let folder = machines.place.path("cache");
    let to = format!("type=local,dest={},mode=max", folder.display());
    let from = format!("type=local,src={}", folder.display());
    machines.build("one", &["--cache-to", &to]).ok();
    for entry in fs::read_dir(folder.join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    let built = machines.build("two", &["--cache-from", &from]);
    assert!(built.stderr.contains("imported cache can't be used"), "{}", built.stderr);
    assert_eq!(executed(&built).len(), 6, "{}", built.stderr);
    built.ok();

    fs::remove_dir_all(folder.join("blobs")).unwrap();
    let gone = machines.build("three", &["--cache-from", &from]);
    assert!(gone.stderr.contains("note: no cache from "), "{}", gone.stderr);
    gone.ok();
}

#[test]
fn a_cache_that_cannot_be_written_is_said() {
    let Some(machines) = Machines::new() else { return };
    let image = machines.registry.name("app:1");
    // An image is no cache, and a missing one no reason to stop.
    let missing = machines.registry.name("nothing:1");
    let base = machines.registry.name("base:1");
    let built = machines.build("one", &["--cache-from", &missing, "--cache-from", &base, "-t", &image]);
    let notes = built.stderr.lines().filter(|l| l.starts_with("note: no cache from ")).count();
    assert_eq!(notes, 2, "{}", built.stderr);
    built.ok();
    let occupied = machines.place.path(&machines.context);
    let to = format!("type=local,dest={}", occupied.display());
    let failed = machines.build("one", &["--cache-to", &to]).err();
    assert!(failed.contains("can't write the cache to"), "{failed}");
    let ignored = machines.build("one", &["--cache-to", &format!("{to},ignore-error=true")]);
    assert!(ignored.stderr.contains("note: the cache was not written"), "{}", ignored.stderr);
    ignored.ok();
    let wrong = machines.build("one", &["--cache-to", "type=gha"]).err();
    assert!(wrong.contains("gha") && wrong.contains("hint:"), "{wrong}");
}

#[test]
fn an_image_in_the_cache_is_sent_without_its_layers() {
    let Some(machines) = Machines::new() else { return };
    let cache = machines.registry.name("cache:main");
    let to = format!("type=registry,ref={cache}");
    let first = machines.registry.name("app:1");
    let digest = machines.build("one", &["--push", "-t", &first, "--cache-to", &to]).ok();
    let second = machines.registry.name("elsewhere:1");
    let built = machines.build("two", &["--push", "-t", &second, "--cache-from", &cache]);
    assert_eq!(executed(&built), [""; 0], "{}", built.stderr);
    assert_eq!(built.ok(), digest);
    let snapshots = machines.place.path("two/snapshots");
    let unpacked = fs::read_dir(snapshots).map_or(0, |entries| entries.count());
    assert_eq!(unpacked, 0, "no layer was needed");
    // It is there, whole, and can be used where it was not built.
    let from =
        machines.place.context_in("from", &[("Dockerfile", &format!("FROM {second}\nRUN cat /last\n"))]);
    let two = machines.place.path("two");
    let again = run(&mut machines.place.command_on(&two, ["build", "--progress=plain", &from]));
    assert!(again.stderr.contains(" last"), "{}", again.stderr);
    again.ok();
    // A blob that is gone makes the steps run.
    let data = machines.place.path("registry/data/docker/registry/v2/repositories/cache/_layers");
    if data.exists() {
        fs::remove_dir_all(data).unwrap();
        let third = machines.registry.name("third:1");
        machines.build("three", &["--push", "-t", &third, "--cache-from", &cache]).ok();
    }
}
