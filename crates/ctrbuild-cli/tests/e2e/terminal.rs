//! Live progress, on a terminal that `script` makes.

use crate::place::{Place, has, run};
use std::fs;
use std::process::Command;

/// All that a build writes to a terminal of so many rows.
fn watch(place: &Place, rows: u32, variables: &[(&str, &str)]) -> Option<String> {
    if !has(&["script", "stty"]) {
        return None;
    }
    let build = place.command(["build", "--no-cache", "context"]);
    let mut words = vec![build.get_program().to_string_lossy().into_owned()];
    words.extend(build.get_args().map(|a| a.to_string_lossy().into_owned()));
    let line = format!("stty rows {rows} cols 50 && exec {}", words.join(" "));
    let log = place.path("typescript");
    let mut script = Command::new("script");
    script.args(["-qec", &line]).arg(&log).env("TERM", "xterm").envs(variables.iter().copied());
    script.envs(build.get_envs().filter_map(|(k, v)| v.map(|v| (k, v))));
    script.current_dir(build.get_current_dir().unwrap());
    run(&mut script).ok();
    Some(String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned())
}

#[test]
fn progress_on_a_terminal() {
    let Some(place) = Place::with_base() else { return };
    place.context(&[(
        "Dockerfile",
        "FROM base\nRUN for n in 1 2 3 4 5 6 7 8 9; do echo line $n; done; sleep 1\n",
    )]);
    let Some(seen) = watch(&place, 24, &[]) else { return };
    assert!(
        seen.contains("\u{1b}[36m => [1/1] RUN for n in") || seen.contains("\u{1b}[36m => [1/"),
        "{seen}"
    );
    assert!(seen.contains("line 9"), "{seen}");
    // Time goes by for a step that is silent: it is drawn again and again.
    let frames: Vec<&str> = seen.split("\u{1b}[?7l").skip(1).collect();
    assert!(frames.len() >= 3, "{seen}");
    // What is drawn is taken back, and never higher than the terminal.
    let small = watch(&place, 4, &[]).unwrap();
    for frame in small.split("\u{1b}[?7l").skip(1) {
        let (drawn, after) = frame.split_once("\u{1b}[?7h").unwrap();
        let lines = drawn.matches('\n').count();
        assert!((1..=3).contains(&lines), "{small}");
        assert!(after.starts_with(&format!("\u{1b}[{lines}A\u{1b}[0J")), "{small}");
    }
    let plain = watch(&place, 24, &[("NO_COLOR", "1")]).unwrap();
    assert!(
        plain.contains("\u{1b}[?7l") && !plain.contains("\u{1b}[36m") && !plain.contains("\u{1b}[0m"),
        "{plain}"
    );
    let dumb = watch(&place, 24, &[("TERM", "dumb")]).unwrap();
    assert!(!dumb.contains('\u{1b}') && dumb.contains("#3 DONE"), "{dumb}");
}
