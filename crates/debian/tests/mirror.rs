//! Mirrors that are wrong in one way each, as folders on this machine.

use debian::{Architecture, Bootstrap, Error, FetchError, PgpError, Proxies, find_suites};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// 2026-01-03: the fixtures are from the day before.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_398_400)
}

fn fetch(release: Option<&str>, change: &dyn Fn(String) -> String, set: &dyn Fn(&mut Bootstrap)) -> Error {
    let mirror = tempfile::tempdir().unwrap();
    let suite = mirror.path().join("dists/stable");
    std::fs::create_dir_all(&suite).unwrap();
    if let Some(name) = release {
        let text = change(std::fs::read_to_string(data(name)).unwrap());
        std::fs::write(suite.join("InRelease"), text).unwrap();
    }
    let cache = mirror.path().join("cache");
    let mut bootstrap = Bootstrap::new("stable", Architecture::new("amd64").unwrap(), cache, now());
    bootstrap.mirror = format!("file://{}", mirror.path().display());
    bootstrap.keyrings = vec![data("keyring.gpg")];
    set(&mut bootstrap);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let progress: Arc<dyn Fn(debian::Event) + Send + Sync> = Arc::new(|_| {});
    let error = runtime.block_on(bootstrap.fetch(&progress)).unwrap_err();
    let message = error.to_string();
    assert!(!message.ends_with('.') && !message.is_empty(), "{message}");
    error
}

#[test]
fn each_fault_has_its_error_and_hint() {
    let same = |text: String| text;
    let nothing = |_: &mut Bootstrap| {};

    let e = fetch(None, &same, &nothing);
    assert!(matches!(e, Error::Fetch { source: FetchError::Status(404), .. }), "{e:?}");
    assert!(e.hint().unwrap().contains("no such suite"));

    let e = fetch(Some("ed.asc"), &|t| t.replace("Suite: stable", "Suite: oldest"), &nothing);
    assert!(matches!(e, Error::Signature { source: PgpError::Bad { .. }, .. }), "{e:?}");
    assert!(e.hint().is_some());

    let e = fetch(Some("ed.asc"), &same, &|b| b.keyrings = vec![data("stranger.gpg")]);
    assert!(matches!(e, Error::Signature { source: PgpError::NoGood(_), .. }), "{e:?}");
    assert!(e.hint().unwrap().contains("--keyring"));

    let e = fetch(Some("ed.asc"), &same, &|b| b.keyrings = vec![data("text")]);
    assert!(matches!(e, Error::Keyring { .. }), "{e:?}");

    // Signed well, but no release file: it lists nothing.
    let e = fetch(Some("ed.asc"), &same, &nothing);
    assert!(matches!(e, Error::Malformed { .. }), "{e:?}");

    let e = fetch(Some("ed.asc"), &same, &|b| b.suite = "../../etc".into());
    assert!(matches!(e, Error::Name { kind: "suite", .. }), "{e:?}");
    let e = fetch(Some("ed.asc"), &same, &|b| b.mirror = "gopher://x/debian".into());
    assert!(matches!(e, Error::Fetch { source: FetchError::Address, .. }), "{e:?}");
    let e = fetch(Some("ed.asc"), &same, &|b| b.mirror = "http://me:secret@127.0.0.1:1/debian".into());
    let text = format!("{e} {e:?} {:?}", e.hint());
    assert!(text.contains("127.0.0.1:1/debian") && !text.contains("secret"), "{text}");
}

#[test]
fn a_mirror_without_suites_has_none() {
    let mirror = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = format!("file://{}", mirror.path().display());
    let keys = [data("keyring.gpg")];
    let found = runtime.block_on(find_suites(
        &url,
        debian::KNOWN_SUITES,
        &keys,
        &mirror.path().join("cache"),
        &Proxies::default(),
        now(),
    ));
    assert!(found.unwrap().is_empty());
}

#[test]
fn futures_can_move_between_threads() {
    fn movable<T: Send>(_: &T) {}
    let bootstrap = Bootstrap::new("stable", Architecture::new("amd64").unwrap(), "/nonexistent", now());
    let progress: Arc<dyn Fn(debian::Event) + Send + Sync> = Arc::new(|_| {});
    movable(&bootstrap.fetch(&progress));
}
