//! `ctrbuild lint` and `ctrbuild fmt` as commands: output, exit codes, what is written.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const RECIPE: &str = "FROM alpine as b\nRUN apk add curl\n# hadolint ignore=DL3020\nADD a /a\nENV a b\n";

fn run(folder: &Path, args: &[&str]) -> Result<Output> {
    Ok(Command::new(env!("CARGO_BIN_EXE_ctrbuild")).current_dir(folder).args(args).output()?)
}

fn project() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("Dockerfile"), RECIPE)?;
    Ok(folder)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn json_is_an_array_of_objects() -> Result {
    let folder = project()?;
    let output = run(folder.path(), &["lint", "--format", "json", "Dockerfile"])?;
    assert_eq!(output.status.code(), Some(1));
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
    let first = findings.iter().find(|finding| finding["rule"] == "FromAsCasing").ok_or("not found")?;
    assert_eq!((&first["line"], &first["column"], &first["end_column"]), (&1.into(), &13.into(), &15.into()));
    assert_eq!(first["file"], "Dockerfile");
    assert_eq!(first["fix"]["edits"][0]["replacement"], "AS");
    assert!(findings.iter().all(|finding| finding["rule"] != "copy-not-add"), "a comment silences it");
    Ok(())
}

#[test]
fn every_format_is_written() -> Result {
    let folder = project()?;
    for format in ["sarif", "codeclimate", "gitlab", "sonarqube"] {
        let output = run(folder.path(), &["lint", "--format", format])?;
        serde_json::from_slice::<serde_json::Value>(&output.stdout)?;
    }
    for (format, word) in [
        ("text", " --> Dockerfile:1:13"),
        ("gnu", "Dockerfile:1:13: warning: "),
        ("checkstyle", "<error line=\"1\" column=\"13\" severity=\"warning\""),
        ("junit", "<testsuite name=\"Dockerfile\""),
        ("github", "::warning file=Dockerfile,line=1,endLine=1,col=13,endColumn=15,"),
    ] {
        let output = text(&run(folder.path(), &["lint", "--format", format])?.stdout);
        assert!(output.contains(word), "{format}: {output}");
    }
    Ok(())
}

#[test]
fn thresholds_decide() -> Result {
    let folder = project()?;
    for (threshold, code) in [("error", 0), ("warning", 1), ("none", 0)] {
        let output = run(folder.path(), &["lint", "--failure-threshold", threshold])?;
        assert_eq!(output.status.code(), Some(code), "{threshold}");
    }
    assert_eq!(run(folder.path(), &["lint", "--failure-threshold", "x"])?.status.code(), Some(1));
    std::fs::write(folder.path().join("ctrbuild.toml"), "[lint]\nfailure-threshold = \"error\"\n")?;
    assert_eq!(run(folder.path(), &["lint"])?.status.code(), Some(0));
    assert_eq!(run(folder.path(), &["lint", "--no-config"])?.status.code(), Some(1));
    std::fs::write(folder.path().join("ctrbuild.toml"), "[lint.rules]\nNOPE = \"off\"\n")?;
    let output = run(folder.path(), &["lint"])?;
    assert!(text(&output.stderr).contains("there is no rule \"NOPE\""));
    Ok(())
}

#[test]
fn fixes_are_written_or_shown() -> Result {
    let folder = project()?;
    let output = run(folder.path(), &["lint", "--fix", "--diff"])?;
    assert!(text(&output.stdout).contains("-FROM alpine as b\n"));
    assert_eq!(std::fs::read_to_string(folder.path().join("Dockerfile"))?, RECIPE);
    run(folder.path(), &["lint", "--fix"])?;
    let fixed = std::fs::read_to_string(folder.path().join("Dockerfile"))?;
    assert_eq!(
        fixed,
        "FROM alpine AS b\nRUN apk add --no-cache curl\n# hadolint ignore=DL3020\nADD a /a\nENV a=b\n"
    );
    Ok(())
}

#[test]
fn formats_are_checked_and_written() -> Result {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("x.Dockerfile");
    std::fs::write(&path, "from   a\nrun  b  c\n\n\n")?;
    assert_eq!(run(folder.path(), &["fmt", "--check"])?.status.code(), Some(1));
    assert_eq!(run(folder.path(), &["fmt"])?.status.code(), Some(0));
    assert_eq!(std::fs::read_to_string(&path)?, "FROM a\nRUN b  c\n");
    assert_eq!(run(folder.path(), &["fmt", "--check"])?.status.code(), Some(0));
    std::fs::write(&path, "FROM a\nRUM b\n")?;
    assert_eq!(run(folder.path(), &["fmt"])?.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&path)?, "FROM a\nRUM b\n");
    Ok(())
}

#[test]
fn standard_input_has_a_name() -> Result {
    let folder = tempfile::tempdir()?;
    let mut child = Command::new(env!("CARGO_BIN_EXE_ctrbuild"))
        .current_dir(folder.path())
        .args(["lint", "-", "--stdin-filename", "a/Dockerfile", "--format", "gnu"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    child.stdin.take().ok_or("no input")?.write_all(RECIPE.as_bytes())?;
    let output = child.wait_with_output()?;
    assert!(text(&output.stdout).starts_with("a/Dockerfile:1:6: warning: "));
    Ok(())
}

#[test]
fn snapshots_and_baselines() -> Result {
    let folder = project()?;
    assert_eq!(run(folder.path(), &["lint", "--snapshot", "--check"])?.status.code(), Some(1));
    assert_eq!(run(folder.path(), &["lint", "--snapshot"])?.status.code(), Some(0));
    assert_eq!(run(folder.path(), &["lint", "--snapshot", "--check"])?.status.code(), Some(0));
    run(folder.path(), &["lint", "--baseline", "known.json", "--write-baseline"])?;
    assert_eq!(run(folder.path(), &["lint", "--baseline", "known.json"])?.status.code(), Some(0));
    std::fs::write(folder.path().join("Dockerfile"), format!("# moved\n{RECIPE}RUN sudo x\n"))?;
    let drift = run(folder.path(), &["lint", "--snapshot"])?;
    assert_eq!(drift.status.code(), Some(1));
    assert!(text(&drift.stdout).contains("+  | RUN sudo x"));
    assert_eq!(run(folder.path(), &["lint", "--snapshot", "--accept"])?.status.code(), Some(0));
    let output = text(&run(folder.path(), &["lint", "--baseline", "known.json", "--format", "gnu"])?.stdout);
    assert!(output.contains("no-sudo") && !output.contains("pin-apk"), "{output}");
    Ok(())
}

#[test]
fn rules_are_explained() -> Result {
    let folder = tempfile::tempdir()?;
    let all = text(&run(folder.path(), &["lint", "explain"])?.stdout);
    assert!(all.lines().count() > 100);
    let one = text(&run(folder.path(), &["lint", "explain", "dl3008"])?.stdout);
    assert!(one.starts_with("# pin-apt\n"));
    assert_eq!(run(folder.path(), &["lint", "explain", "nope"])?.status.code(), Some(1));
    Ok(())
}
