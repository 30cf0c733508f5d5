//! Against a real registry (Debian's docker-registry), with skopeo and umoci as judges.

use crate::place::{Place, has, listing, login, registry as start, run};
use std::fs;
use std::process::Command;
use std::time::Duration;
use testkit::{Access, Auth, RegistryProcess, TestRegistry};

const RECIPE: &str = r#"FROM base
RUN mkdir -p /srv/deep && echo one > /srv/deep/one && ln /srv/deep/one /srv/deep/same && ln -s one /srv/deep/link
RUN chown -R 1000:1001 /srv/deep && chmod 4755 /srv/deep/one && rm /etc/passwd && rm -r /home
COPY --chown=7:8 --chmod=640 hello /srv/hello
RUN rm -r /srv/deep && mkdir /srv/deep && echo two > /srv/deep/two
ENV MADE=yes
CMD ["cat", "/srv/hello"]
"#;

#[test]
fn what_is_pushed_unpacks_to_what_was_built() {
    let Some(place) = Place::with_base() else { return };
    let Some(registry) = start(&place, Access::Open) else { return };
    if !has(&["skopeo", "umoci"]) {
        return;
    }
    let context = place.context(&[("Dockerfile", RECIPE), ("hello", "hello\n")]);
    let name = registry.name("app:1");
    let digest = place.run(["build", "-t", &name, "--push", "-o", "type=tar,dest=out.tar", &context]).ok();
    let layout = place.path("layout");
    let copy = format!("docker://{name}");
    let to = format!("oci:{}:app", layout.display());
    run(Command::new("skopeo").args(["copy", "--src-tls-verify=false", &copy, &to])).ok();
    let inspect = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &copy];
    assert_eq!(run(Command::new("skopeo").args(inspect)).ok(), digest);
    let bundle = place.path("bundle");
    let image = format!("{}:app", layout.display());
    run(Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle)).ok();
    let unpacked = listing(&bundle.join("rootfs"));
    let built = place.path("built");
    fs::create_dir(&built).unwrap();
    run(Command::new("tar")
        .args(["-xpf", "out.tar", "-C", "built", "--same-owner"])
        .current_dir(place.dir.path()))
    .ok();
    let built = listing(&built);
    assert!(unpacked == built, "unpacked:\n{unpacked}\nbuilt:\n{built}");
    for line in ["0640 7:8 6 srv/hello", "0644 0:0 4 srv/deep/two"] {
        assert!(unpacked.contains(line), "no {line:?} in\n{unpacked}");
    }
    for gone in ["etc/passwd", "home", "srv/deep/one", "srv/deep/link"] {
        assert!(!unpacked.lines().any(|l| l.ends_with(&format!(" {gone}"))), "{gone} came back");
    }
    let config = fs::read_to_string(bundle.join("config.json")).unwrap();
    assert!(config.contains("MADE=yes"));
}

#[test]
fn a_cached_build_needs_no_registry() {
    let Some(place) = Place::with_base() else { return };
    let Some(registry) = start(&place, Access::Open) else { return };
    let remote = registry.name("base:1");
    place.run(["push", "base", &remote]).ok();
    let context = place.recipe(&format!("FROM {remote}\nRUN echo made > /made\n"));
    let other = place.path("other");
    let build =
        |args: &[&str]| run(place.command_on(&other, ["build", "--progress=plain"]).args(args).arg(&context));
    let first = build(&[]).ok();
    drop(registry);
    let second = build(&[]);
    assert!(!second.stderr.contains(" DONE "), "{}", second.stderr);
    assert_eq!(second.ok(), first);
    // Asked for news of the base, it must say that the registry is gone.
    let asked = build(&["--pull"]);
    assert_eq!(asked.code, Some(1), "{}", asked.stderr);
}

#[test]
fn only_missing_blobs_are_sent() {
    let Some(place) = Place::with_base() else { return };
    let Some(registry) = start(&place, Access::Open) else { return };
    let uploads = || {
        let blobs = place.path("registry/data/docker/registry/v2/blobs/sha256");
        listing(&blobs).lines().filter(|l| l.ends_with("/data")).count()
    };
    let context = place.recipe("FROM base\nRUN echo a > /a\n");
    place.run(["build", "--push", "-t", &registry.name("app:1"), &context]).ok();
    let before = uploads();
    let context = place.recipe("FROM base\nRUN echo a > /a\nRUN echo b > /b\n");
    place.run(["build", "--push", "-t", &registry.name("app:2"), &context]).ok();
    // One layer, one configuration, one manifest.
    assert_eq!(uploads() - before, 3);
}

#[test]
fn credentials_are_dockers() {
    let Some(place) = Place::with_base() else { return };
    let Some(registry) = start(&place, Access::Htpasswd) else { return };
    let name = registry.name("app:1");
    let context = place.recipe("FROM base\nRUN echo a > /a\n");
    let push = || place.run(["build", "--push", "-t", &name, &context]);
    let said = push().err();
    assert!(said.contains("hint:"), "{said}");
    login(&place, registry.domain(), "wrong");
    let said = push().err();
    assert!(said.contains("hint:") && !said.contains("wrong"), "{said}");
    login(&place, registry.domain(), RegistryProcess::PASSWORD);
    let digest = push().ok();
    let other = place.path("other");
    run(&mut place.command_on(&other, ["pull", &name])).ok();
    let from = place.recipe(&format!("FROM {name}\n"));
    let again = run(&mut place.command_on(&other, ["build", "-q", &from]));
    assert!(!again.ok().is_empty());
    let images = run(&mut place.command_on(&other, ["images", "--digests", "--no-trunc"])).ok();
    assert!(images.contains(&digest), "{images}");
}

#[test]
fn tokens_are_fetched_with_the_same_credentials() {
    let Some(place) = Place::with_base() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let registry = runtime.block_on(TestRegistry::start());
    let user = (RegistryProcess::USER.to_string(), RegistryProcess::PASSWORD.to_string());
    registry.set_auth(Auth::Bearer {
        realm: None,
        user: Some(user),
        refresh: None,
        life: Duration::from_secs(60),
    });
    let name = format!("{}/team/app:1", registry.domain());
    let context = place.recipe("FROM base\nRUN echo a > /a\n");
    let push = || place.run(["build", "--push", "-t", &name, &context]);
    let said = push().err();
    assert!(said.contains("hint:"), "{said}");
    login(&place, &registry.domain(), "wrong");
    let said = push().err();
    assert!(said.contains("hint:") && !said.contains("wrong"), "{said}");
    login(&place, &registry.domain(), RegistryProcess::PASSWORD);
    let digest = push().ok();
    let other = place.path("other");
    let from = place.recipe(&format!("FROM {name}\nCOPY --from={name} /a /b\n"));
    run(&mut place.command_on(&other, ["build", "-q", &from])).ok();
    run(&mut place.command_on(&other, ["pull", &name])).ok();
    let images = run(&mut place.command_on(&other, ["images", "--digests", "--no-trunc"])).ok();
    assert!(images.contains(&digest), "{images}");
}

#[test]
fn pull_then_push_keeps_every_byte() {
    let Some(place) = Place::with_base() else { return };
    let Some(registry) = start(&place, Access::Open) else { return };
    if !has(&["skopeo"]) {
        return;
    }
    let context = place.recipe("FROM base\nRUN echo a > /a\n");
    let first = registry.name("first:1");
    let digest = place.run(["build", "--push", "-t", &first, &context]).ok();
    let other = place.path("other");
    run(&mut place.command_on(&other, ["pull", &first])).ok();
    let second = registry.name("second:1");
    run(&mut place.command_on(&other, ["push", &first, &second])).ok();
    let inspect = |name: &str| {
        let name = format!("docker://{name}");
        let args = ["inspect", "--tls-verify=false", "--raw", &name];
        run(Command::new("skopeo").args(args)).ok()
    };
    assert_eq!(inspect(&first), inspect(&second));
    assert!(!digest.is_empty());
}

/// Layers without entries for their folders exist only completed by those below, and others are made on them.
#[test]
fn on_a_base_without_entries_for_folders() {
    let Some(place) = Place::new() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let registry = runtime.block_on(TestRegistry::start());
    let host = oci::Platform::new("linux", "amd64");
    registry.add("base", "1", &testkit::image(&host, &[&[("a/b", b"b")], &[("a/c/d", b"d")]]));
    let base = format!("{}/base:1", registry.domain());
    let context = place.recipe(&format!("FROM {base}\nCOPY Dockerfile /a/c/\n"));
    let app = format!("{}/app:1", registry.domain());
    place.run(["build", "--platform=linux/amd64", "-t", &app, "--push", &context]).ok();
    place.run(["save", "-o", "app.tar", &app]).ok();
    place.verify();
}
