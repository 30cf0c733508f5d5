//! The CI examples: they are YAML, and their commands run, pass on a good project and fail on a changed one.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const RECIPE: &str =
    "FROM alpine:3.20\n\nWORKDIR /app\n\nCOPY . .\n\nUSER 1000\n\nENTRYPOINT [\"/app/run\"]\n";

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/ci")
}

/// Commands of a workflow that start with `ctrbuild`, as they are written.
fn commands(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.trim().trim_start_matches("- "));
    let lines = lines.map(|line| line.strip_prefix("run: ").unwrap_or(line));
    lines.filter(|line| line.starts_with("ctrbuild ")).map(str::to_owned).collect()
}

fn shell(folder: &Path, command: &str) -> Result<Output> {
    let program = Path::new(env!("CARGO_BIN_EXE_ctrbuild"));
    let path = std::env::join_paths(
        program
            .parent()
            .map(Path::to_owned)
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(folder).env("PATH", path).env("HOME", folder.join("home"));
    Ok(shell.env_remove("CTRBUILD_ROOT").output()?)
}

#[test]
fn examples_are_yaml() -> Result {
    let python = |code: &str, arg: &Path| Command::new("python3").arg("-c").arg(code).arg(arg).output();
    if !python("import yaml", Path::new("")).is_ok_and(|out| out.status.success()) {
        println!("skipped: python3 has no module yaml");
        return Ok(());
    }
    for (name, check) in [
        (
            "github-actions.yml",
            "assert [s for s in d['jobs']['recipes']['steps'] if 'upload-sarif' in s.get('uses', '')]",
        ),
        ("gitlab-ci.yml", "assert d['recipes']['artifacts']['reports']['codequality'] == 'codequality.json'"),
    ] {
        let code = format!("import sys, yaml\nd = yaml.safe_load(open(sys.argv[1]))\n{check}");
        let out = python(&code, &examples().join(name))?;
        assert!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(())
}

#[test]
fn their_commands_run() -> Result {
    let shellcheck = Command::new("shellcheck").arg("--version").output().is_ok();
    if !shellcheck {
        println!("skipped: shellcheck is not installed");
        return Ok(());
    }
    for (name, report) in [("github-actions.yml", "ctrbuild.sarif"), ("gitlab-ci.yml", "codequality.json")] {
        let all = commands(&std::fs::read_to_string(examples().join(name))?);
        assert_eq!(all.len(), 4, "{name}: {all:?}");
        let folder = tempfile::tempdir()?;
        let recipe = folder.path().join("Dockerfile");
        std::fs::create_dir(folder.path().join("home"))?;
        std::fs::write(&recipe, RECIPE)?;
        std::fs::write(folder.path().join(".dockerignore"), "home\n")?;
        for command in all.iter().filter(|command| command.contains("--snapshot")) {
            let accept = command.replace("--check", "--accept");
            let out = shell(folder.path(), &accept)?;
            assert!(out.status.success(), "{accept}: {}", String::from_utf8_lossy(&out.stderr));
        }
        for command in &all {
            let out = shell(folder.path(), command)?;
            assert!(out.status.success(), "{name}: {command}: {}", String::from_utf8_lossy(&out.stderr));
        }
        let findings: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.path().join(report))?)?;
        assert!(findings.is_array() || findings["version"] == "2.1.0", "{findings}");
        // Something to complain about for each of them.
        std::fs::write(&recipe, RECIPE.replace("FROM alpine:3.20", "from alpine\nRUN sudo read x"))?;
        for command in &all {
            let out = shell(folder.path(), command)?;
            assert_eq!(out.status.code(), Some(1), "{name}: {command}");
        }
    }
    Ok(())
}
