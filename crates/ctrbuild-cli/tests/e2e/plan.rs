//! `ctrbuild plan` and `ctrbuild lint`: what would be done, and what is wrong, without doing it.

use crate::place::{Place, run};

const RECIPE: &str = "FROM scratch AS files\nCOPY a b /\nFROM scratch\nCOPY --from=files /a /c\nENV X=1\n";

#[test]
fn the_graph_in_three_forms() {
    let place = Place::bare();
    let context = place.context(&[("Dockerfile", RECIPE), ("a", "a"), ("b", "b")]);
    let text = place.run(["plan", &context]).ok();
    assert!(text.contains("Dockerfile") || text.contains("COPY"), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&place.run(["plan", "--format=json", &context]).ok()).unwrap();
    assert_eq!(json["config"]["config"]["Env"].as_array().map(|e| e.iter().any(|v| v == "X=1")), Some(true));
    assert!(json["graph"]["vertices"].as_array().is_some_and(|v| v.len() >= 3), "{json}");
    let dot = place.run(["plan", "--format=dot", &context]).ok();
    assert!(dot.starts_with("digraph") && dot.ends_with('}'), "{dot}");
    // Asking does not build, and is stable.
    assert_eq!(place.run(["images", "-q"]).ok(), "");
    assert_eq!(place.run(["plan", "--format=dot", &context]).ok(), dot);
}

#[test]
fn keys_change_when_an_input_does() {
    let place = Place::bare();
    let context = place.context(&[("Dockerfile", RECIPE), ("a", "a"), ("b", "b"), ("unused", "1")]);
    // All of the context has a key too, but nothing uses all of it.
    let keys = || {
        let all = place.run(["debug", "key", &context]).ok();
        all.lines().filter(|l| !l.contains("[internal]")).map(str::to_string).collect::<Vec<_>>()
    };
    let first = keys();
    std::fs::write(place.path("context/unused"), "2").unwrap();
    std::fs::write(place.path("context/a"), "a").unwrap();
    assert_eq!(keys(), first);
    std::fs::write(place.path("context/a"), "A").unwrap();
    assert_ne!(keys(), first);
}

#[test]
fn the_store_is_named_before_the_command_or_after() {
    let place = Place::bare();
    let context = place.context(&[("Dockerfile", RECIPE), ("a", "a"), ("b", "b")]);
    for args in [
        ["--root", "one", "build", "-q", &context],
        ["build", "--root", "one", "-q", &context],
        ["--root", "one", "-q", "--no-cache", &context],
        ["-q", "--root", "one", "--no-cache", &context],
    ] {
        place.run(args).ok();
    }
    assert!(place.path("one/format").is_file() && !place.root.exists());
}

#[test]
fn a_reader_that_stops_is_no_fault() {
    let place = Place::bare();
    let context = place.recipe(&"ENV A=b\n".repeat(20_000).replacen("ENV A=b", "FROM scratch", 1));
    let mut plan = place.command(["debug", "tree", &format!("{context}/Dockerfile")]);
    let mut child =
        plan.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert_eq!((out.status.code(), String::from_utf8_lossy(&out.stderr).as_ref()), (Some(141), ""));
}

#[test]
fn output_that_can_not_be_written_is_a_failure() {
    let place = Place::bare();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    for args in [&["images"][..], &["containers"], &["image", "tree"], &["df"]] {
        let out = place.command(args).stdout(full()).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.starts_with("error: can't write the output: No space left on device"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn lint_names_the_line() {
    let place = Place::bare();
    let context = place.recipe("FROM scratch\nCOPPY a b\n");
    let lint = run(&mut place.command(["lint", &format!("{context}/Dockerfile")]));
    assert_eq!(lint.code, Some(1), "{}{}", lint.stdout, lint.stderr);
    let said = format!("{}{}", lint.stdout, lint.stderr);
    assert!(said.contains("COPPY") && said.contains('2'), "{said}");
}
