//! Base images: found, carried to a machine without a network, listed and removed.

use crate::examples::has_mirror;
use crate::place::{Place, registry as start, run};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::process::Stdio;
use testkit::Access;

/// `name` as a base image of the store; it comes from a registry, as most do.
fn base(place: &Place, registry: &testkit::RegistryProcess, name: &str) -> String {
    let name = registry.name(name);
    place.run(["push", "-q", "base", &name]).ok();
    let installed = place.run(["os-image", "install", &name]);
    let last = installed.stderr.lines().last().unwrap_or_default().to_string();
    assert!(last.starts_with("installed in 0h 0m ") && last.ends_with('s'), "{}", installed.stderr);
    assert!(installed.ok().starts_with("sha256:"));
    let again = place.run(["os-image", "install", &name]);
    assert!(again.stderr.contains("already installed (use --force)"), "{}", again.stderr);
    again.ok();
    name
}

#[test]
fn a_base_image_goes_to_a_machine_without_a_network() {
    let Some(place) = Place::with_base() else { return };
    let Some(registry) = start(&place, Access::Open) else { return };
    let name = base(&place, &registry, "os/mini:1");
    let listed = place.run(["os-image", "ls", "-q"]).ok();
    assert_eq!(listed, name);
    place.run(["os-image", "save", &name, "-o", "one.tar"]).ok();
    place.run(["os-image", "save", &name, "-o", "two.tar"]).ok();
    assert!(
        fs::read(place.path("one.tar")).unwrap() == fs::read(place.path("two.tar")).unwrap(),
        "equal bytes"
    );
    place.run(["os-image", "save", &name, "-o", "layout/"]).ok();
    assert!(place.path("layout/oci-layout").exists());
    place.run(["save", "--format", "docker", "-o", "docker.tar", &name]).ok();
    for (n, file) in ["one.tar", "layout", "docker.tar"].iter().enumerate() {
        let other = place.path(&format!("other{n}"));
        let on = |args: &[&str]| run(&mut place.command_on(&other, args));
        let first = on(&["os-image", "import", file]);
        assert!(first.stderr.contains("installed in 0h 0m "), "{}", first.stderr);
        first.ok();
        let again = on(&["os-image", "import", file]);
        assert!(
            again.stderr.contains(&format!("{name} is already installed (use --force)")),
            "{}",
            again.stderr
        );
        assert_eq!(again.ok(), "");
        on(&["os-image", "import", "--force", file]).ok();
        let all = on(&["images", "--format", "json"]).ok();
        let image: Value = serde_json::from_str(&all).unwrap();
        assert_eq!((&image["isOSImage"], &image["kind"]), (&true.into(), &"base".into()));
        // Another image of that name is in the way.
        let tar = place.busybox_tar();
        on(&["import", "--message", "another", tar.to_str().unwrap(), "plain"]).ok();
        on(&["tag", "plain", "debian:x"]).ok();
        let said = on(&["os-image", "import", "--name", "debian:x", file]).err();
        assert!(said.contains("debian:x is already installed (use --force)"), "{said}");
        let said = on(&["os-image", "rm", "plain"]).err();
        assert!(said.contains("no base image") && said.contains("ctrbuild rmi"), "{said}");
        let said = on(&["os-image", "save", "plain", "-o", "x.tar"]).err();
        assert!(said.contains("no base image"), "{said}");
        // Names by a pipe.
        let mut remove = place.command_on(&other, ["os-image", "rm"]);
        let mut child = remove.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{name}\n\n").as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success() && out.stdout.starts_with(b"Untagged: "), "{out:?}");
        assert_eq!(on(&["os-image", "ls", "-q"]).ok(), "");
        on(&["store", "verify"]).ok();
    }
    fs::write(place.path("windows.wim"), b"MSWIM\0\0\0rest").unwrap();
    fs::write(place.path("odd"), b"nothing").unwrap();
    for (file, word) in [("windows.wim", "the rest of its header"), ("odd", "odd"), ("absent", "absent")] {
        let said = place.run(["os-image", "import", file]).err();
        assert!(said.contains(word) && said.starts_with("error: "), "{said}");
    }
    place.verify();
}

#[test]
fn tags_of_a_repository_are_base_images() {
    let Some(place) = Place::with_base() else { return };
    let Some(registry) = start(&place, Access::Open) else { return };
    for tag in ["1", "2", "2-slim"] {
        place.run(["push", "-q", "base", &registry.name(&format!("os/mini:{tag}"))]).ok();
    }
    let source = registry.name("os/mini");
    let find = |args: &[&str]| {
        let mut command = place.command(["os-image", "find"]);
        run(command.args(args).env("CTRBUILD_OS_SOURCES", &source))
    };
    let found = find(&[]).ok();
    let heading: Vec<&str> = found.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(heading, ["NAME", "VERSION", "PLATFORM", "SOURCE", "SUMMARY"]);
    assert_eq!(found.lines().count(), 4, "{found}");
    assert!(found.contains("linux/amd64") || found.contains("linux/arm64"), "{found}");
    let versions = find(&["--format", "json", "mini:2"]).ok();
    let versions: Vec<Value> = versions.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let versions: Vec<&str> = versions.iter().map(|v| v["version"].as_str().unwrap()).collect();
    assert_eq!(versions, ["2-slim", "2"]);
    let said = find(&["--limit", "1", "mini"]).ok();
    assert!(said.contains("2 more tags"), "{said}");
    let said = find(&["nothing"]).err();
    assert!(said.contains("no source has base images called nothing"), "{said}");
    // A source that is not there is named; what others offer is shown.
    let gone = format!("{},{source}", registry.name("os/gone"));
    let both = find(&["--source", &gone]);
    assert!(both.stderr.contains("os/gone can't be asked"), "{}", both.stderr);
    assert_eq!(both.ok().lines().count(), 4);
    let only = find(&["--source", &registry.name("os/gone")]);
    assert_eq!(only.code, Some(1));
}

#[test]
fn suites_of_a_mirror_are_base_images() {
    if !has_mirror() {
        return;
    }
    let place = Place::bare();
    let find = |args: &[&str]| {
        let mut command = place.command(["os-image", "find"]);
        for name in ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        run(command.args(args))
    };
    let found = find(&["debian:bookworm"]);
    if found.stderr.contains("keyring") {
        println!("skipped: no keyring of Debian's archive");
        return;
    }
    let found = found.ok();
    let row = found.lines().nth(1).unwrap_or_default();
    assert!(row.starts_with("debian   bookworm   linux/amd64,"), "{found}");
    assert!(row.contains("Debian 12"), "{found}");
}
