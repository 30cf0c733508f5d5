//! `ctrbuild lint --shellcheck`: a real ShellCheck where there is one, and programs that are none.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn run(folder: &Path, args: &[&str]) -> Result<Output> {
    Ok(Command::new(env!("CARGO_BIN_EXE_ctrbuild")).current_dir(folder).args(args).output()?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn there() -> bool {
    let there = Command::new("shellcheck").arg("--version").output().is_ok_and(|out| out.status.success());
    if !there {
        println!("skipped: shellcheck is not installed");
    }
    there
}

fn project(recipe: &str) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("Dockerfile"), recipe)?;
    Ok(folder)
}

/// (rule, line, column, end line, end column)
type Place = (String, u64, u64, u64, u64);

/// Of findings that only ShellCheck has.
fn places(folder: &Path, args: &[&str]) -> Result<Vec<Place>> {
    let args: Vec<&str> = ["lint", "--format", "json"].iter().chain(args).copied().collect();
    let output = run(folder, &args)?;
    let findings: Vec<serde_json::Value> =
        serde_json::from_slice(&output.stdout).map_err(|e| format!("{e}: {}", text(&output.stderr)))?;
    let number = |finding: &serde_json::Value, key: &str| finding[key].as_u64().unwrap_or(0);
    let all =
        findings.iter().filter(|finding| finding["rule"].as_str().is_some_and(|rule| rule.starts_with("SC")));
    Ok(all
        .map(|one| {
            let rule = one["rule"].as_str().unwrap_or_default().to_owned();
            (
                rule,
                number(one, "line"),
                number(one, "column"),
                number(one, "end_line"),
                number(one, "end_column"),
            )
        })
        .collect())
}

#[test]
fn findings_stand_where_they_are() -> Result {
    if !there() {
        return Ok(());
    }
    let folder = project(
        "FROM alpine:3.20\nARG KNOWN\nRUN\techo é \"$KNOWN$unknown\" \\\n\t\t# a comment\n\n\t&& \tcd /x; \\\n  read y \\\n  z\n\
         RUN <<-EOF\n\t\tset -e\n\t\techo ü; which ls\n\tEOF\nSHELL [\"/bin/bash\", \"-c\"]\nRUN [[ a ]] && echo $((1 + 1))\n\
         RUN [\"sh\", \"-c\", \"read x\"]\nSHELL [\"powershell\", \"-Command\"]\nRUN Write-Host $a[0]; read b\n",
    )?;
    let found = places(folder.path(), &["--shellcheck", "shellcheck"])?;
    let want = |rule: &str, line, column, end| (rule.to_owned(), line, column, line, end);
    assert!(found.contains(&want("SC2154", 3, 19, 27)), "{found:?}");
    assert!(found.contains(&want("SC2164", 6, 6, 11)), "{found:?}");
    assert!(found.contains(&want("SC2162", 7, 3, 7)), "{found:?}");
    assert!(found.contains(&want("SC2034", 8, 3, 4)), "{found:?}");
    assert!(found.iter().all(|(_, line, ..)| *line < 15), "{found:?}");
    assert!(found.iter().all(|(rule, ..)| rule != "SC2086"), "the rule of this project has it");
    assert_eq!(places(folder.path(), &["--shellcheck", "off"])?, []);
    assert_eq!(places(folder.path(), &["--shellcheck", "shellcheck", "--profile", "buildkit"])?, []);
    Ok(())
}

#[test]
fn rules_can_be_set_and_silenced() -> Result {
    if !there() {
        return Ok(());
    }
    let recipe = "FROM alpine:3.20\nRUN read y z\n# hadolint ignore=SC2162\nRUN read w\n";
    let folder = project(recipe)?;
    let rules = |args: &[&str]| -> Result<Vec<String>> {
        Ok(places(folder.path(), args)?
            .into_iter()
            .map(|(rule, line, ..)| format!("{rule}:{line}"))
            .collect())
    };
    assert_eq!(rules(&["--shellcheck", "shellcheck", "--ignore", "SC2034"])?, ["SC2162:2"]);
    std::fs::write(
        folder.path().join("ctrbuild.toml"),
        "[lint]\nshellcheck = \"shellcheck\"\n[lint.rules]\nSC2034 = \"off\"\nSC2162 = \"error\"\n",
    )?;
    assert_eq!(rules(&[])?, ["SC2162:2"]);
    let output = run(folder.path(), &["lint", "--format", "gnu", "--failure-threshold", "error"])?;
    assert!(text(&output.stdout).contains("2:5: error: ") && output.status.code() == Some(1));
    assert!(rules(&["--shellcheck", "off"])?.is_empty());
    // A snapshot is the same with and without.
    run(folder.path(), &["lint", "--snapshot"])?;
    assert!(!std::fs::read_to_string(folder.path().join("Dockerfile.snap"))?.contains("SC2162"));
    Ok(())
}

#[test]
fn fixes_are_made_and_many_recipes_asked_at_once() -> Result {
    if !there() {
        return Ok(());
    }
    let folder =
        project("FROM alpine:3.20\nRUN a=1; \\\n    # why\n    echo $(( $a + 2 )) \\\n    && true\n")?;
    let output = run(folder.path(), &["lint", "--shellcheck", "shellcheck", "--fix", "--diff"])?;
    assert!(!text(&output.stdout).contains("+"), "they are not safe");
    run(folder.path(), &["lint", "--shellcheck", "shellcheck", "--unsafe-fixes"])?;
    let fixed = std::fs::read_to_string(folder.path().join("Dockerfile"))?;
    assert!(fixed.contains("$(( a + 2 ))") || fixed.contains("$(( $a + 2 ))"), "{fixed}");
    assert!(fixed.contains("    # why\n"), "{fixed}");
    for number in 0..150 {
        let recipe =
            format!("FROM alpine:3.20\nRUN read a{number}\nRUN <<EOF\n\ttrue\n read b{number}\nEOF\n");
        std::fs::write(folder.path().join(format!("n{number}.Dockerfile")), recipe)?;
    }
    let found = places(folder.path(), &["--shellcheck", "shellcheck"])?;
    let count = |line, column| {
        found.iter().filter(|(rule, l, c, ..)| rule == "SC2162" && (*l, *c) == (line, column)).count()
    };
    assert_eq!((count(2, 5), count(5, 2)), (150, 150));
    Ok(())
}

#[test]
fn what_fails_is_an_error() -> Result {
    let folder = project("FROM alpine:3.20\nRUN true\n")?;
    let program = |name: &str, script: &str| -> Result {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        Ok(std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?)
    };
    program("dies", "echo '\x1b[31mno such thing' >&2; exit 3")?;
    program("babbles", "echo hello")?;
    program(
        "lies",
        r#"echo '{"comments":[{"file":"../x","line":1,"endLine":1,"column":1,"endColumn":1,"level":"error","code":1,"message":"m"}]}'"#,
    )?;
    program(
        "far",
        r#"echo '{"comments":[{"file":"0","line":9999,"endLine":4294967295,"column":4294967295,"endColumn":0,"level":"error","code":2999,"message":"m","fix":{"replacements":[{"line":0,"endLine":0,"column":0,"endColumn":0,"replacement":"x"}]}}]}'"#,
    )?;
    for (name, word) in [
        ("./missing", "can't run "),
        ("no-such-program-anywhere", "install the package shellcheck"),
        ("./dies", "no such thing"),
        ("./babbles", "did not work as ShellCheck"),
        ("./lies", "did not work as ShellCheck"),
    ] {
        let output = run(folder.path(), &["lint", "--shellcheck", name])?;
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(said.contains(word) && said.contains("hint: ") && !said.contains('\x1b'), "{name}: {said}");
    }
    let output = run(folder.path(), &["lint", "--shellcheck", "./far"])?;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    Ok(())
}

#[test]
fn a_project_names_no_program_of_its_own() -> Result {
    let folder = project("FROM alpine:3.20\nRUN true\n")?;
    let evil = folder.path().join("evil");
    std::fs::write(&evil, "#!/bin/sh\ntouch \"$(dirname \"$0\")\"/ran\n")?;
    std::fs::set_permissions(&evil, std::fs::Permissions::from_mode(0o755))?;
    for name in ["./evil", "evil/../evil", evil.to_str().unwrap_or_default(), "/proc/self/cwd/evil"] {
        std::fs::write(folder.path().join("ctrbuild.toml"), format!("[lint]\nshellcheck = {name:?}\n"))?;
        let output = run(folder.path(), &["lint"])?;
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("configuration may not name"), "{}", text(&output.stderr));
        assert!(!folder.path().join("ran").exists());
    }
    Ok(())
}
