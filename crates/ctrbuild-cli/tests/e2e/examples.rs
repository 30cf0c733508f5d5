//! The examples, on a base made from Debian's packages. Needs a mirror.

use crate::place::{Place, has, listing, registry, run};
use crate::rootless::Rootless;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use testkit::Access;

/// Whether Debian's mirror can be reached (or a proxy is set, which then has to).
pub fn has_mirror() -> bool {
    let proxy = ["http_proxy", "HTTP_PROXY"].iter().any(|v| std::env::var_os(v).is_some());
    let address = ("deb.debian.org", 80).to_socket_addrs().ok().and_then(|mut a| a.next());
    let reached = address.is_some_and(|a| TcpStream::connect_timeout(&a, Duration::from_secs(10)).is_ok());
    if !proxy && !reached {
        println!("skipped: no Debian mirror can be reached");
    }
    proxy || reached
}

/// An ordinary user's step installs a package that makes a user and a group of its own.
fn packages_install_without_root(place: &Place) {
    let Some(rootless) = Rootless::new(place) else { return };
    place.run(["save", "-o", "debian.tar", "debian:bookworm"]).ok();
    let command = |args: &[&str]| {
        let mut command = rootless.command(args);
        for name in ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    };
    run(&mut command(&["load", "-i", "debian.tar"])).ok();
    let recipe = "FROM debian:bookworm\nRUN apt-get update && apt-get install -y --no-install-recommends uuid-runtime\n\
                  RUN dpkg --verify uuid-runtime && getent passwd uuidd && su -s /bin/sh uuidd -c 'id -un' | sed 's/^/as /'\n";
    let context = place.context_in("packages", &[("Dockerfile", recipe)]);
    let built = run(&mut command(&["build", "--progress=plain", "--no-cache", &context]));
    assert!(built.stderr.contains(" as uuidd"), "{}", built.stderr);
    built.ok();
}

#[test]
fn examples_build_on_a_debian_base() {
    let Some(place) = Place::new() else { return };
    if !has_mirror() {
        return;
    }
    let command = |args: &[&str]| {
        let mut command = place.command(args);
        for name in ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    };
    let installed = run(&mut command(&["os-image", "install", "debian:bookworm"]));
    assert!(installed.stderr.contains("signature verified"), "{}", installed.stderr);
    let base = installed.ok();
    let again = run(&mut command(&["os-image", "install", "debian:bookworm"]));
    assert!(again.stderr.contains("already installed"), "{}", again.stderr);
    assert_eq!(place.inspect("debian:bookworm")["Digest"], base.as_str());

    packages_install_without_root(&place);
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for name in ["c-static", "web", "monorepo"] {
        let context = examples.join(name);
        let context = context.to_str().unwrap();
        let tag = format!("{name}:test");
        let first = run(&mut command(&["build", "-t", &tag, context])).ok();
        let second = run(&mut command(&["build", "-t", &tag, context]));
        assert!(!second.stderr.contains(" DONE "), "{name} is built again:\n{}", second.stderr);
        assert_eq!(second.ok(), first, "{name}");
    }
    // The program needs nothing of the image's: it was linked statically.
    let context = examples.join("c-static");
    run(&mut command(&["build", "-o", "out", context.to_str().unwrap()])).ok();
    assert_eq!(listing(&place.path("out")).lines().count(), 1);

    let Some(registry) = registry(&place, Access::Open) else { return };
    if has(&["skopeo", "umoci"]) {
        let name = registry.name("web:1");
        run(&mut command(&["push", "web:test", &name])).ok();
        let (layout, bundle) = (place.path("layout"), place.path("bundle"));
        let (from, to) = (format!("docker://{name}"), format!("oci:{}:web", layout.display()));
        run(Command::new("skopeo").args(["copy", "--src-tls-verify=false", &from, &to])).ok();
        let image = format!("{}:web", layout.display());
        run(Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle)).ok();
        let web = examples.join("web");
        run(&mut command(&["build", "-o", "type=tar,dest=web.tar", web.to_str().unwrap()])).ok();
        std::fs::create_dir(place.path("built")).unwrap();
        let mut tar = Command::new("tar");
        run(tar.args(["-xpf", "web.tar", "-C", "built", "--same-owner"]).current_dir(place.dir.path())).ok();
        let (unpacked, built) = (listing(&bundle.join("rootfs")), listing(&place.path("built")));
        let differs = unpacked.lines().zip(built.lines()).find(|(a, b)| a != b);
        assert!(unpacked == built, "the first line that differs: {differs:?}");
    }
}
