//! Every bad input has one clear message with location or cause, a hint, exit code 1, and leaves nothing
//! half-written. Texts are snapshots, with what differs from run to run redacted.

use crate::place::{Outcome, Place, has, login, registry as start, run};
use std::fs;
use testkit::{Access, RegistryProcess};

/// Check what was said, and that the store shows nothing of it.
#[track_caller]
fn check(place: &Place, name: &str, outcome: Outcome) {
    let said = place.redact(&outcome.err());
    insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, said);
    });
    assert_eq!(place.run(["images", "-q", "app"]).ok(), "");
    place.verify();
}

#[test]
fn missing_files() {
    let place = Place::bare();
    let empty = place.context_in("empty", &[]);
    check(&place, "no-recipe", place.run(["build", "-t", "app", &empty]));
    check(&place, "no-context", place.run(["build", "-t", "app", "nowhere"]));
    check(&place, "no-file", place.run(["build", "-t", "app", "-f", "nowhere/Dockerfile", &empty]));
    let context = place.recipe("FROM scratch\nCOPY absent.txt /\n");
    check(&place, "no-source", place.run(["build", "-t", "app", &context]));
}

#[test]
fn wrong_recipes() {
    let place = Place::bare();
    let cases = [
        ("syntax", "FROM scratch\nENV\n"),
        ("unknown-instruction", "FROM scratch\nCOPPY a b\n"),
        ("unknown-flag", "FROM scratch\nCOPY --form=x a b\n"),
        ("unknown-stage", "FROM scratch AS build\nFROM scratch\nCOPY --from=5 /a /b\n"),
        ("no-stage", "RUN true\n"),
        ("empty", ""),
        ("heredoc", "FROM scratch\nCOPY <<EOF /a\ntext\n"),
        ("variable", "FROM scratch\nENV A=\"${B:?is needed}\"\n"),
    ];
    for (name, text) in cases {
        let context = place.recipe(text);
        check(&place, name, place.run(["build", "-t", "app", &context]));
    }
    let context = place.recipe("FROM scratch AS build\nENV A=b\n");
    check(&place, "unknown-target", place.run(["build", "-t", "app", "--target", "biuld", &context]));
}

#[test]
fn wrong_usage() {
    let place = Place::bare();
    let context = place.recipe("FROM scratch\nENV A=b\n");
    let wrong = place.run(["build", "--targett", "x", &context]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.contains("'--target'"), "{}", wrong.stderr);
    check(&place, "bad-name", place.run(["build", "-t", "case/UPPER", &context]));
    check(&place, "bad-output", place.run(["build", "-o", "type=ocu,dest=x", &context]));
    check(&place, "bad-platform", place.run(["build", "--platform", "linux/", &context]));
    check(&place, "bad-secret", place.run(["build", "--secret", "id=a,src=absent", &context]));
    check(&place, "push-without-name", place.run(["build", "--push", &context]));
}

/// The shell's own completion finds commands and flags.
#[test]
fn shells_complete() {
    let place = Place::bare();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.run(["completion", shell]).ok();
        assert!(script.contains("annotation") && script.contains("os-image"), "{shell}");
        if shell == "bash" {
            let ask = "COMP_WORDS=(ctrbuild build --annot); COMP_CWORD=2; _ctrbuild ctrbuild --annot build; echo \"${COMPREPLY[@]}\"";
            fs::write(place.path("script"), format!("{script}\n{ask}")).unwrap();
            let found = run(std::process::Command::new("bash").arg(place.path("script"))).ok();
            assert_eq!(found.trim(), "--annotation");
        }
    }
    assert_eq!(place.run(["completion", "tcsh"]).code, Some(2));
    assert_eq!(place.run(["version"]).ok(), place.run(["--version"]).ok());
}

#[test]
fn unreachable_registry() {
    let place = Place::bare();
    // The discard port: nothing listens there.
    let context = place.recipe("FROM 127.0.0.1:9/base:1\n");
    check(&place, "unreachable-registry", place.run(["build", "-t", "app", &context]));
    check(&place, "unreachable-pull", place.run(["pull", "127.0.0.1:9/base:1"]));
}

#[test]
fn registry_refuses() {
    let Some(place) = Place::with_base() else { return };
    let Some(registry) = start(&place, Access::Htpasswd) else { return };
    let context = place.recipe(&format!("FROM {}\n", registry.name("base:1")));
    check(&place, "no-credentials", place.run(["build", "-t", "app", &context]));
    login(&place, registry.domain(), "wrong");
    check(&place, "wrong-credentials", place.run(["build", "-t", "app", &context]));
    login(&place, registry.domain(), RegistryProcess::PASSWORD);
    check(&place, "no-image", place.run(["build", "-t", "app", &context]));
    let pinned = format!("FROM {}@sha256:{}\n", registry.name("base"), "0".repeat(64));
    let context = place.recipe(&pinned);
    check(&place, "no-digest", place.run(["build", "-t", "app", &context]));
}

#[test]
fn digest_mismatch() {
    let Some(place) = Place::with_base() else { return };
    let Some(registry) = start(&place, Access::Open) else { return };
    let name = registry.name("base:1");
    place.run(["push", "base", &name]).ok();
    // One byte of every layer is changed behind the registry's back; sizes stay.
    let mut changed = 0;
    let blobs = place.path("registry/data/docker/registry/v2/blobs/sha256");
    for entry in fs::read_dir(&blobs).unwrap().flat_map(|d| fs::read_dir(d.unwrap().path()).unwrap()) {
        let data = entry.unwrap().path().join("data");
        let mut bytes = fs::read(&data).unwrap();
        if bytes.len() > 100_000 {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&data, bytes).unwrap();
            changed += 1;
        }
    }
    assert_eq!(changed, 1);
    let other = Place::bare();
    let context = other.recipe(&format!("FROM {name}\nCOPY Dockerfile /\n"));
    check(&other, "digest-mismatch", other.run(["build", "-t", "app", &context]));
}

#[test]
fn full_disk() {
    let Some(place) = Place::with_base() else { return };
    if !has(&["unshare", "mount"]) {
        return;
    }
    // The small disk is seen by this one command and is gone with it.
    let context = place.recipe("FROM base\nRUN dd if=/dev/zero of=/big bs=1M count=64\n");
    let tar = place.busybox_tar();
    let script = format!(
        "mkdir -p small && mount -t tmpfs -o size=24m none small && \
         CTRBUILD_ROOT=$PWD/small/store && export CTRBUILD_ROOT && {program} import {tar} base >/dev/null && \
         {{ {program} build -t app {context}; code=$?; }}; \
         test -z \"$({program} images -q app)\" && {program} store verify >&2 && {program} prune -a -f >&2 && exit $code; \
         echo the store is not sound >&2; exit 99",
        program = env!("CARGO_BIN_EXE_ctrbuild"),
        tar = tar.display(),
    );
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["-m", "sh", "-c", &script]).current_dir(place.dir.path()).env_clear();
    let full = run(unshare.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", place.path("home")));
    assert_eq!(full.code, Some(1), "{}", full.stderr);
    assert!(full.stderr.contains("No space left on device"), "{}", full.stderr);
    assert!(full.stderr.contains("error: "), "{}", full.stderr);
}

#[test]
fn no_namespaces() {
    let Some(place) = Place::with_base() else { return };
    if !has(&["unshare", "setpriv"]) {
        return;
    }
    // Within a user namespace whose own limit of namespaces is zero, somebody without rights.
    let context = place.recipe("FROM base\nRUN true\n");
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && \
         exec setpriv --inh-caps=-all --bounding-set=-all {} --root $PWD/mine build -t app {context}",
        env!("CARGO_BIN_EXE_ctrbuild"),
    );
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["-Ur", "sh", "-c", &script]).current_dir(place.dir.path()).env_clear();
    let refused = run(unshare.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", place.path("home")));
    assert_eq!(refused.code, Some(1), "{}{}", refused.stdout, refused.stderr);
    let said = refused.stderr.to_lowercase();
    assert!(said.contains("namespace") && said.contains("hint:"), "{said}");
}
