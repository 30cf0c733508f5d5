//! Space: `df`, `prune` and its filters, equal files kept once, `store move`.

use crate::place::{Place, has, run};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Two layers with the same large file of the same time, and a small difference.
fn twins(place: &Place) {
    for n in ["1", "2"] {
        let recipe = format!(
            "FROM base\nRUN mkdir /data && head -c 3000000 /bin/busybox /bin/busybox > /data/big && echo {n} > /data/n && \
             touch -d @1600000000 /data/big && ln /data/big /data/twin && cp /data/big /data/one && \
             touch -d @1600000000 /data/one\n"
        );
        let context = place.context_in(n, &[("Dockerfile", &recipe)]);
        place.run(["build", "-q", "-t", &format!("t{n}"), &context]).ok();
    }
}

fn saved(place: &Place) -> String {
    let table = place.run(["df"]).ok();
    let line = table.lines().find(|l| l.starts_with("Unpacked layers")).unwrap();
    line.split_whitespace().last().unwrap().to_string()
}

#[test]
fn equal_files_are_kept_once_and_images_stay_the_same() {
    let Some(place) = Place::with_base() else { return };
    twins(&place);
    assert_eq!(saved(&place), "0B");
    let tar = |name: &str| {
        place.run(["save", "-o", name, "t2"]).ok();
        fs::read(place.path(name)).unwrap()
    };
    let content = |program: &str| {
        let recipe = format!("FROM t2\nRUN {program}\n");
        let context = place.context_in("look", &[("Dockerfile", &recipe)]);
        let built = place.run(["build", "--no-cache", "--progress=plain", &context]);
        assert_eq!(built.code, Some(0), "{}", built.stderr);
        built.stderr
    };
    let before = tar("before.tar");
    let said = place.run(["store", "dedup"]).ok();
    assert!(said.starts_with("Equal files kept once: 1 of 1 layers"), "{said}");
    assert_ne!(saved(&place), "0B");
    assert!(tar("after.tar") == before, "the image is the same to the byte");
    assert_eq!(place.run(["store", "dedup"]).ok(), "", "there is nothing left to do");
    place.verify();
    let big = |snapshot: &fs::DirEntry| fs::metadata(snapshot.path().join("fs/data/one")).ok();
    let snapshots = || fs::read_dir(place.root.join("snapshots")).unwrap().map(|e| e.unwrap());
    let inodes: Vec<_> = snapshots().filter_map(|s| big(&s)).map(|m| m.ino()).collect();
    assert_eq!(inodes.len(), 2);
    assert_eq!(inodes[0], inodes[1]);
    // A step that writes to such a file changes its own layer only.
    let said = content("echo more >> /data/one && stat -c 'size %s' /data/one /data/big && cat /data/n");
    assert!(said.contains(" 2\n"), "{said}");
    let mut sizes: Vec<_> = snapshots().filter_map(|s| big(&s)).map(|m| m.len()).collect();
    sizes.sort();
    assert!(matches!(sizes[..], [a, b, c] if a == b && c == b + 5), "{sizes:?}");
    // Whichever goes first leaves the other whole.
    place.run(["rmi", "t1"]).ok();
    place.run(["prune", "-a", "-f"]).ok();
    assert_eq!(saved(&place), "0B");
    assert!(tar("alone.tar") == before);
}

#[test]
fn prune_by_age_kind_and_size() {
    let Some(place) = Place::with_base() else { return };
    let recipe = "FROM base\nRUN --mount=type=cache,id=keep,target=/c head -c 500000 /bin/busybox > /c/x\n\
                  RUN head -c 700000 /bin/busybox > /data\n";
    let context = place.context(&[("Dockerfile", recipe)]);
    place.run(["build", "-q", &context]).ok();
    let reclaimed = |args: &[&str]| {
        let out = run(&mut place.command(args)).ok();
        out.lines().last().unwrap().rsplit_once(": ").unwrap().1.to_string()
    };
    // An untagged image is no cache: it goes at any time.
    let first = place.run(["prune", "--filter", "until=24h", "-f"]).ok();
    assert!(first.starts_with("Untagged images: 1"), "{first}");
    assert_eq!(reclaimed(&["prune", "--filter", "until=24h"]), "0B", "it was made just now");
    assert_eq!(reclaimed(&["prune", "--unused-for", "1d"]), "0B");
    let would = reclaimed(&["prune", "--dry-run", "--filter", "kind=mount"]);
    assert_ne!(would, "0B");
    assert_eq!(reclaimed(&["prune", "--filter", "type=exec.cachemount"]), would);
    assert_eq!(reclaimed(&["prune", "--filter", "kind=mount"]), "0B");
    assert_ne!(reclaimed(&["prune", "--keep-storage", "1k"]), "0B");
    assert!(place.run(["build", "-q", &context]).code == Some(0));
    for bad in ["colour=red", "until=yesterday", "kind"] {
        let said = place.run(["prune", "--filter", bad]).err();
        assert!(said.contains(bad.split('=').next_back().unwrap()) && said.contains("hint: "), "{said}");
    }
    let said = place.run(["prune", "--keep-storage", "much"]).err();
    assert!(said.contains("\"much\" is no size"), "{said}");
    place.verify();
}

#[test]
fn a_store_moves_and_everything_goes_on() {
    let Some(place) = Place::with_base() else { return };
    twins(&place);
    place.run(["store", "dedup"]).ok();
    let context = place.path("2").to_string_lossy().into_owned();
    let built = place.run(["build", "-q", "-t", "t2", &context]).ok();
    let new = place.path("new");
    assert_eq!(place.run(["store", "move", "new"]).ok(), new.to_string_lossy());
    let check = || {
        let again = place.run(["build", "--progress=plain", "-t", "t2", &context]);
        assert_eq!(again.code, Some(0), "{}", again.stderr);
        assert_eq!(place.run(["build", "-q", "-t", "t2", &context]).ok(), built);
        assert!(again.stderr.contains("CACHED") && !again.stderr.contains("DONE"), "{}", again.stderr);
        assert_ne!(saved(&place), "0B", "what is kept once stays so");
        place.verify();
    };
    check();
    assert!(place.run(["store", "move", "new"]).err().contains("it is there"));
    assert!(place.run(["store", "move", "home"]).err().contains("it exists"));
    assert!(place.run(["store", "move", "new/inside"]).err().contains("it is inside of the store"));
    assert!(place.run(["store", "move", "no/where"]).err().contains("does not exist"));
    // To other file systems, seen by this script alone: one that is too small, one that will do.
    if !has(&["unshare", "mount"]) {
        return;
    }
    let program = env!("CARGO_BIN_EXE_ctrbuild");
    let script = format!(
        "mount --make-rprivate / && mkdir small large && mount -t tmpfs -o size=2m none small && mount -t tmpfs none large && \
         {{ {program} store move small/s && exit 8; test -z \"$(ls small)\" || exit 9; }}; {program} images -q t2 >/dev/null && \
         {program} store move large/s && test \"$(ls new)\" = format && {program} store verify >&2 && \
         {program} build --progress=plain -t t2 {context} 2>&1 | grep -c CACHED && {program} store move {store} && \
         test \"$(ls large/s)\" = format\n",
        store = place.root.display()
    );
    let settings = place.command(["help"]);
    let mut shell = std::process::Command::new("unshare");
    shell.args(["--mount", "sh", "-ec", &script]).current_dir(place.dir.path()).env_clear();
    shell.envs(settings.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let out = run(&mut shell);
    assert_eq!(out.code, Some(0), "{}{}", out.stdout, out.stderr);
    assert!(
        out.stderr.contains("No space left") && out.stderr.contains("copied and compared"),
        "{}",
        out.stderr
    );
    check();
}

/// Changes one byte of a file in the store, so that nothing but the content tells.
fn damage(path: &Path) {
    let meta = fs::metadata(path).unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let file = fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    file.set_modified(meta.modified().unwrap()).unwrap();
}

fn unpacked(place: &Place, name: &str) -> PathBuf {
    let all = fs::read_dir(place.root.join("snapshots")).unwrap();
    all.map(|e| e.unwrap().path().join("fs").join(name)).find(|p| p.exists()).unwrap()
}

#[test]
fn damage_of_unpacked_layers_is_found_and_mended() {
    let Some(place) = Place::with_base() else { return };
    // One layer that was made here, and one that was pulled and has its blob.
    let context = place.context(&[("Dockerfile", "FROM base\nRUN echo something > /made\n")]);
    place.run(["build", "-q", "-t", "app", &context]).ok();
    place.run(["save", "-o", "pulled.tar", "app"]).ok();
    let other = Place::bare();
    other.run(["load", "-i", place.path("pulled.tar").to_str().unwrap()]).ok();
    let look = other.context(&[("Dockerfile", "FROM app\nRUN cat /made\n")]);
    other.run(["build", "-q", "-t", "look", &look]).ok();
    for place in [&place, &other] {
        place.verify();
        damage(&unpacked(place, "made"));
        let said = place.run(["store", "verify"]);
        assert_eq!(said.code, Some(1), "{}", said.stdout);
        assert!(said.stdout.contains("its files were changed"), "{}", said.stdout);
    }
    // The blob is here: the layer is unpacked again.
    let said = other.run(["store", "verify", "--repair"]);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    let again = other.run(["build", "--no-cache", "--progress=plain", &look]);
    assert!(again.stderr.contains(" something\n"), "{}", again.stderr);
    // It is not: the image is lost and named, and a build makes it again.
    let said = place.run(["store", "verify", "--repair"]);
    assert!(said.code == Some(1) && said.stdout.contains("app"), "{}{}", said.stdout, said.stderr);
    place.run(["build", "-q", "-t", "app", &context]).ok();
    place.verify();
}
