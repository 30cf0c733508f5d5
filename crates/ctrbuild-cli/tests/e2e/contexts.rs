//! Contexts whose files were hashed in an earlier build: they are not read again, and every change is seen.

use crate::place::{Place, has, run};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const RECIPE: &str = "FROM scratch\nCOPY file other /\n";

fn strace(place: &Place, context: &str) -> (String, usize) {
    let log = place.path("strace");
    let command = place.command(["build", "-q", context]);
    let mut traced = Command::new("strace");
    traced.args(["-f", "-y", "-e", "trace=read,pread64,copy_file_range,sendfile", "-o"]).arg(&log);
    traced.arg(command.get_program()).args(command.get_args());
    traced.envs(command.get_envs().filter_map(|(k, v)| v.map(|v| (k, v))));
    traced.current_dir(command.get_current_dir().unwrap());
    let digest = run(&mut traced).ok();
    let reads = fs::read_to_string(&log).unwrap().lines().filter(|l| l.contains("/context/file>")).count();
    (digest, reads)
}

#[test]
fn what_was_hashed_before_is_not_read_again() {
    if !has(&["strace"]) {
        return;
    }
    let place = Place::bare();
    let context = place.context(&[("Dockerfile", RECIPE), ("file", &"x".repeat(100_000)), ("other", "o")]);
    let (first, reads) = strace(&place, &context);
    assert!(reads > 0);
    // A file that was changed a moment ago is not remembered, but by the next build.
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(strace(&place, &context).0, first);
    assert_eq!(strace(&place, &context), (first.clone(), 0));
    // What a step needs is copied, not hashed once more: one pass over the file.
    fs::write(place.path("context/other"), "p").unwrap();
    let (changed, reads) = strace(&place, &context);
    assert!(changed != first && (1..=4).contains(&reads), "{reads} reads");
}

/// Whatever is done to a file, a build sees it: nothing of what was remembered is taken for what is there now.
#[test]
fn every_change_of_a_file_is_seen() {
    let place = Place::bare();
    let context = place.context(&[("Dockerfile", RECIPE), ("file", "content 0"), ("other", "content 1")]);
    let (file, other) = (place.path("context/file"), place.path("context/other"));
    let build = || {
        place.run(["build", "-q", "-o", "out", &context]).ok();
        let files = ["file", "other"].map(|f| fs::read(place.path("out").join(f)).unwrap());
        let now = [&file, &other].map(|f| fs::read(f).unwrap());
        assert_eq!(files.map(|f| String::from_utf8(f).unwrap()), now.map(|f| String::from_utf8(f).unwrap()));
    };
    let remember = || {
        std::thread::sleep(Duration::from_millis(2100));
        build();
    };
    let old_times = |path: &Path| {
        let reference = place.path("reference");
        fs::write(&reference, "").unwrap();
        run(Command::new("touch").args(["-d", "2001-01-01 00:00:00"]).arg(&reference)).ok();
        run(Command::new("touch").arg("-r").arg(&reference).arg(path)).ok();
    };
    old_times(&file);
    build();
    remember();
    // The same size and the same time of change.
    fs::write(&file, "content 2").unwrap();
    old_times(&file);
    assert_eq!(fs::metadata(&file).unwrap().size(), 9);
    build();
    remember();
    // In place, without a change of its inode.
    let mut open = fs::File::options().write(true).open(&file).unwrap();
    std::io::Write::write_all(&mut open, b"CONTENT 3").unwrap();
    drop(open);
    old_times(&file);
    build();
    remember();
    // The two change places.
    old_times(&other);
    let third = place.path("third");
    for (from, to) in [(&file, &third), (&other, &file), (&third, &other)] {
        fs::rename(from, to).unwrap();
    }
    build();
    remember();
    // A copy with all its times.
    fs::write(&third, "content 4").unwrap();
    old_times(&third);
    run(Command::new("cp").arg("-p").arg(&third).arg(&file)).ok();
    build();
    // Again and again, faster than any clock ticks.
    for n in 0..20 {
        fs::write(&file, format!("content {}", n % 10)).unwrap();
        old_times(&file);
        build();
    }
    // A store that was told wrong things has a miss at worst: records of another folder, and nonsense.
    let hints =
        fs::read_dir(place.path("store/hints-v1")).unwrap().flatten().map(|e| e.path()).collect::<Vec<_>>();
    assert_eq!(hints.len(), 1);
    for nonsense in [&b""[..], b"x", &[0; 300]] {
        fs::write(&hints[0], nonsense).unwrap();
        build();
    }
    place.verify();
}

#[test]
fn a_miss_names_the_files_that_changed() {
    let Some(place) = Place::with_base() else { return };
    let recipe = "FROM base AS one\nCOPY . /src\nRUN cp /src/a /a\nFROM base\nCOPY --from=one /a /\n";
    let context = place.context(&[("Dockerfile", recipe), ("a", "1"), ("sub/b", "1")]);
    let misses = || {
        let said = place.run(["build", "--progress=plain", &context]).stderr;
        let lines = said.lines().filter_map(|l| Some(l.split_once(" cache miss, changed: ")?.1.to_string()));
        lines.collect::<Vec<_>>()
    };
    assert_eq!(misses(), [""; 0]);
    fs::write(place.path("context/sub/b"), "2").unwrap();
    fs::write(place.path("context/c"), "").unwrap();
    assert_eq!(misses(), ["c (new), sub/b", "[one 1/3] COPY . /src"]);
    fs::remove_file(place.path("context/c")).unwrap();
    fs::write(place.path("context/a"), "2").unwrap();
    assert_eq!(misses(), ["a, c (gone)", "[one 1/3] COPY . /src", "/a of [one 2/3] RUN cp /src/a /a"]);
    // Too many to be told one by one.
    for n in 0..300 {
        fs::write(place.path(&format!("context/n{n}")), "").unwrap();
    }
    assert_eq!(misses()[0], "/ of the build context");
}
