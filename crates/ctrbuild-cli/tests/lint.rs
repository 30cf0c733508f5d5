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
fn files_keep_what_they_are() -> Result {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
    let folder = tempfile::tempdir()?;
    let recipe = folder.path().join("real");
    std::fs::write(&recipe, "from a:1\nrun  apt update\n")?;
    std::fs::set_permissions(&recipe, std::fs::Permissions::from_mode(0o640))?;
    let given_away = chown(&recipe, Some(12345), Some(12346)).is_ok();
    symlink("real", folder.path().join("Dockerfile"))?;
    for args in [["fmt", "Dockerfile"].as_slice(), &["lint", "--fix", "Dockerfile"]] {
        let before = std::fs::read(&recipe)?;
        run(folder.path(), args)?;
        let now = std::fs::metadata(&recipe)?;
        assert_ne!(std::fs::read(&recipe)?, before, "{args:?}");
        assert_eq!(now.mode() & 0o7777, 0o640);
        assert!(!given_away || (now.uid(), now.gid()) == (12345, 12346), "{args:?}: {}", now.uid());
        assert!(folder.path().join("Dockerfile").is_symlink());
    }
    // What is read-only is left alone, and said so; nothing stays behind.
    let before = "from a:1\nrun  apt update\n";
    std::fs::write(&recipe, before)?;
    std::fs::set_permissions(&recipe, std::fs::Permissions::from_mode(0o444))?;
    for args in [["fmt", "Dockerfile"].as_slice(), &["lint", "--fix", "Dockerfile"]] {
        let output = run(folder.path(), args)?;
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(text(&output.stderr).contains("read-only"), "{}", text(&output.stderr));
        assert_eq!(std::fs::read_to_string(&recipe)?, before);
    }
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 2);
    Ok(())
}

#[test]
fn annotations_carry_no_control_characters() -> Result {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("Dockerfile"), "FROM a:1\nB\x1b[31m x\n")?;
    let output = run(folder.path(), &["lint", "--format", "github", "--failure-threshold", "none"])?;
    let said = text(&output.stdout);
    assert!(said.contains("unknown instruction") && !said.contains('\x1b'), "{said:?}");
    assert_eq!(said.lines().count(), 1);
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
    // One's own are rules like others.
    let own = "[[lint.rule]]\nname = \"no-npm\"\nmessage = \"use pnpm\"\nseverity = \"error\"\ncommand = \"npm\"\n\
               replace = \"pnpm\"\nbad = \"FROM a\\nRUN npm i\\n\"\nfixed = \"FROM a\\nRUN pnpm i\\n\"\n";
    std::fs::write(folder.path().join("ctrbuild.toml"), own)?;
    let all = text(&run(folder.path(), &["lint", "explain"])?.stdout);
    assert!(all.lines().any(|line| line.starts_with("no-npm ") && line.contains("error")), "{all}");
    let one = text(&run(folder.path(), &["lint", "explain", "no-npm"])?.stdout);
    assert!(one.contains("use pnpm") && one.contains("## Fixed"), "{one}");
    std::fs::write(folder.path().join("ctrbuild.toml"), own.replace("RUN pnpm i", "RUN yarn i"))?;
    let wrong = run(folder.path(), &["lint", "explain"])?;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("the fix makes"), "{}", text(&wrong.stderr));
    Ok(())
}

fn git(folder: &Path, args: &[&str]) -> Result {
    let output = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"])
        .args(args)
        .output()?;
    assert!(output.status.success(), "git {args:?}: {}", text(&output.stderr));
    Ok(())
}

#[test]
fn only_what_changed_since_a_revision() -> Result {
    if Command::new("git").arg("--version").output().is_err() {
        println!("skipped: git is not installed");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let at = |path: &str| folder.path().join(path);
    std::fs::create_dir_all(at("a/b"))?;
    let long: String = (0..20).map(|n| format!("RUN sudo x{n} \\\n  y\n")).collect();
    std::fs::write(at("a/b/[x].Dockerfile"), format!("FROM alpine:3.20\n{long}"))?;
    git(folder.path(), &["init", "-q"])?;
    git(folder.path(), &["add", "."])?;
    git(folder.path(), &["commit", "-qm", "one"])?;
    git(folder.path(), &["mv", "a/b/[x].Dockerfile", "a/Dockerfile"])?;
    std::fs::write(
        at("a/Dockerfile"),
        format!("FROM alpine:3.20\n{}", long.replace("x7 \\\n  y", "x7 \\\n  z")),
    )?;
    git(folder.path(), &["commit", "-qam", "two"])?;
    let lines = |folder: &Path, args: &[&str]| -> Result<Vec<String>> {
        let args: Vec<&str> =
            ["lint", "--format", "gnu", "--ignore", "consecutive-run"].iter().chain(args).copied().collect();
        let output = run(folder, &args)?;
        assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
        Ok(text(&output.stdout).lines().map(str::to_owned).collect())
    };
    // The instruction changed in its second line; the file has another name.
    let found = lines(folder.path(), &["--since", "HEAD~1"])?;
    assert!(found.len() == 1 && found[0].starts_with("a/Dockerfile:16:5: error: "), "{found:?}");
    assert!(lines(&at("a"), &["--since", "HEAD~1"])?[0].starts_with("Dockerfile:16:5: "));
    assert_eq!(lines(folder.path(), &["--since", "HEAD"])?, [""; 0]);
    git(folder.path(), &["worktree", "add", "-q", "tree", "HEAD"])?;
    assert_eq!(lines(&at("tree/a"), &["--since", "HEAD~1"])?.len(), 1);
    // What git does not know yet is new as a whole.
    std::fs::write(at("new.Dockerfile"), "FROM alpine:3.20\nRUN sudo x\n")?;
    assert_eq!(lines(folder.path(), &["--since", "HEAD", "new.Dockerfile"])?.len(), 1);
    for revision in ["nope", "--output=x"] {
        let output = run(folder.path(), &["lint", &format!("--since={revision}")])?;
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).starts_with("error: "), "{}", text(&output.stderr));
    }
    assert!(!at("x").exists());
    Ok(())
}

#[test]
fn a_recipe_is_read_once() -> Result {
    let folder = project()?;
    std::os::unix::fs::symlink("nowhere", folder.path().join("gone.Dockerfile"))?;
    std::fs::create_dir_all(folder.path().join("sub/Dockerfile"))?;
    std::os::unix::fs::symlink("..", folder.path().join("sub/loop"))?;
    let output = run(folder.path(), &["lint", "--format", "checkstyle", "Dockerfile", "./Dockerfile", "."])?;
    assert_eq!(text(&output.stdout).matches("<file ").count(), 1, "{}", text(&output.stdout));
    Ok(())
}

#[test]
fn names_of_findings_are_unique() -> Result {
    let folder = tempfile::tempdir()?;
    std::fs::write(
        folder.path().join("Dockerfile"),
        "FROM alpine:3.20\nRUN sudo x\nRUN sudo x\nRUN sudo x\n",
    )?;
    let output = run(folder.path(), &["lint", "--format", "gitlab"])?;
    let issues: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
    let names: std::collections::BTreeSet<&str> =
        issues.iter().filter_map(|issue| issue["fingerprint"].as_str()).collect();
    assert!(issues.len() > 3 && names.len() == issues.len(), "{issues:?}");
    Ok(())
}

#[test]
fn mistakes_in_the_configuration_have_a_place() -> Result {
    let folder = project()?;
    let rule = "[[lint.rule]]\nname = \"a\"\nmessage = \"m\"\ncommand = \"[z\"\n";
    std::fs::write(folder.path().join("ctrbuild.toml"), rule)?;
    let output = run(folder.path(), &["lint"])?;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("ctrbuild.toml: line 4, column 11: rule \"a\""), "{said}");
    Ok(())
}
