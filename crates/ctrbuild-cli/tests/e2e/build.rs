//! `ctrbuild build`: what it prints, what it caches, what it writes beside.

use crate::place::{EPOCH, Place, run};
use std::fs;

const RECIPE: &str =
    "FROM base\nCOPY hello /hello\nRUN cat /hello > /copy && chown app /copy\nCMD [\"cat\", \"/copy\"]\n";

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|h| h.len() == 64 && h.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// How many steps were executed and how many were cached, by plain progress.
fn steps(progress: &str) -> (usize, usize) {
    let cached = progress.lines().filter(|l| l.contains(" CACHED")).count();
    let executed = progress.lines().filter(|l| l.contains(" DONE ")).count();
    (executed, cached)
}

#[test]
fn the_second_build_is_cached_and_the_same() {
    let Some(place) = Place::with_base() else { return };
    let context = place.context(&[("Dockerfile", RECIPE), ("hello", "hello\n")]);
    let first = place.run(["build", "--progress=plain", "-t", "app", &context]);
    assert!(steps(&first.stderr).0 >= 2, "{}", first.stderr);
    let digest = first.ok();
    assert!(is_digest(&digest), "{digest}");
    // `ctrbuild CONTEXT` is the same command.
    let second = place.run(["--progress=plain", "-t", "app", &context]);
    assert_eq!(steps(&second.stderr).0, 0, "{}", second.stderr);
    assert!(steps(&second.stderr).1 >= 1, "{}", second.stderr);
    assert_eq!(second.ok(), digest);
    // Content counts, the time of a change does not.
    fs::write(place.path("context/hello"), "hello\n").unwrap();
    assert_eq!(place.run(["build", &context]).ok(), digest);
    fs::write(place.path("context/hello"), "other\n").unwrap();
    let third = place.run(["build", "--progress=plain", &context]);
    assert!(steps(&third.stderr).0 >= 2, "{}", third.stderr);
    assert_ne!(third.ok(), digest);
    place.verify();
}

#[test]
fn ids_go_where_they_were_asked_for() {
    let Some(place) = Place::with_base() else { return };
    let context = place.context(&[("Dockerfile", RECIPE), ("hello", "hello\n")]);
    let quiet =
        place.run(["build", "-q", "--iidfile", "id", "--metadata-file", "meta", "-t", "app:1", &context]);
    assert_eq!(quiet.stderr, "", "quiet is quiet");
    let id = quiet.ok();
    assert!(is_digest(&id));
    assert_eq!(fs::read_to_string(place.path("id")).unwrap(), id);
    let meta: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(place.path("meta")).unwrap()).unwrap();
    assert_eq!(meta["containerimage.config.digest"], id.as_str());
    assert_eq!(meta["image.name"], "docker.io/library/app:1");
    let digest = meta["containerimage.digest"].as_str().unwrap();
    assert_eq!(meta["containerimage.descriptor"]["digest"], digest);
    // Without -q it is the digest that names the image in a registry.
    assert_eq!(place.run(["build", "-t", "app:1", &context]).ok(), digest);
}

#[test]
fn the_same_input_gives_the_same_digest_anywhere() {
    let Some(place) = Place::with_base() else { return };
    place.run(["save", "-o", "base.saved", "base"]).ok();
    let context = place.context(&[
        ("Dockerfile", "FROM base\nCOPY hello sub/more /\nENV A=b\n"),
        ("hello", "hello\n"),
        ("sub/more", "more\n"),
    ]);
    let epoch = format!("SOURCE_DATE_EPOCH={EPOCH}");
    let first = place.run(["build", "--build-arg", &epoch, &context]).ok();
    let other = place.path("other");
    run(&mut place.command_on(&other, ["load", "-i", "base.saved"])).ok();
    let script =
        format!("umask 077; exec {} build --build-arg {epoch} ../{context}", env!("CARGO_BIN_EXE_ctrbuild"));
    let mut elsewhere = std::process::Command::new("sh");
    elsewhere.args(["-c", &script]).current_dir(place.path("home")).env_clear();
    elsewhere.env("TZ", "Asia/Tokyo").env("LC_ALL", "C").env("CTRBUILD_ROOT", &other).env("PATH", "/bin");
    assert_eq!(run(&mut elsewhere).ok(), first);
}

#[test]
fn a_failing_step_shows_its_lines_its_code_and_its_log() {
    let Some(place) = Place::with_base() else { return };
    let context = place.recipe("FROM base\nRUN echo before\nRUN echo to-the-log && \\\n    exit 7\n");
    let failed = place.run(["build", "-t", "broken", &context]);
    let said = failed.err();
    for part in ["to-the-log", "exit code: 7", "   3 | >>> RUN echo to-the-log", "   4 | >>>     exit 7"] {
        assert!(said.contains(part), "no {part:?} in:\n{said}");
    }
    assert_eq!(place.run(["images", "-q", "broken"]).ok(), "");
    place.verify();
    // What came before is kept.
    let context = place.recipe("FROM base\nRUN echo before\n");
    let next = place.run(["build", "--progress=plain", &context]);
    assert_eq!(steps(&next.stderr).0, 0, "{}", next.stderr);
    next.ok();
}

#[test]
fn stages_contexts_arguments_and_labels() {
    let Some(place) = Place::with_base() else { return };
    let extra = place.context_in("extra", &[("data", "from elsewhere\n")]);
    let context = place.recipe(
        "ARG WHO=nobody\nFROM base AS one\nARG WHO\nRUN echo $WHO > /who\n\
         FROM base AS two\nCOPY --from=one /who /who\nCOPY --from=more data /data\nFROM scratch\nCOPY --from=two /who /\n",
    );
    let named = format!("more={extra}");
    let args = ["--build-arg", "WHO=anna", "--label", "a=b", "--build-context", &named];
    let mut build = place.command(["build", "--target", "two", "-t", "two"]);
    run(build.args(args).arg(&context)).ok();
    run(place.command(["build", "-o", "out"]).args(args).arg(&context)).ok();
    assert_eq!(fs::read_to_string(place.path("out/who")).unwrap(), "anna\n");
    let image = place.inspect("two").to_string();
    assert!(image.contains("\"a\":\"b\""), "{image}");
}

#[test]
fn without_network_there_is_none() {
    let Some(place) = Place::with_base() else { return };
    let context = place.recipe("FROM base\nRUN ip -o link | grep -v ' lo:' > /links; test ! -s /links\n");
    place.run(["build", "--network=none", "-q", &context]).ok();
}

#[test]
fn a_recipe_from_standard_input() {
    let Some(place) = Place::with_base() else { return };
    let recipe = place.path("recipe");
    fs::write(&recipe, "FROM base\nRUN echo in > /made\n").unwrap();
    let mut build = place.command(["build", "-q", "-t", "in", "-"]);
    assert!(is_digest(&run(build.stdin(fs::File::open(&recipe).unwrap())).ok()));
}
