//! hadolint's rules: against what hadolint finds in the same recipes, and where it is not followed.

use diagnostic::SourceFile;
use lint::{Options, Profile};
use std::collections::BTreeSet;

/// Ids of hadolint and the lines of the instructions they are found in.
fn found(recipe: &str) -> BTreeSet<(u32, String)> {
    let parsed = dockerfile::parse(SourceFile::new("Dockerfile", recipe));
    let report = lint::lint(&parsed, &Options::of(Profile::Hadolint));
    let ids = report.findings.iter().flat_map(|finding| {
        let ids = finding.aliases().iter().filter(|alias| alias.starts_with("DL"));
        ids.map(|id| (finding.instruction_line, (*id).to_owned()))
    });
    ids.collect()
}

#[test]
fn as_hadolint() {
    let mut wrong = Vec::new();
    let lines = include_str!("../../../testdata/lint/hadolint.txt").lines();
    let cases: Vec<&str> = lines.filter(|line| !line.starts_with('#') || line.contains('¦')).collect();
    for case in &cases {
        let Some((recipe, expected)) = case.split_once('¦') else { panic!("{case:?} has no two fields") };
        let recipe = recipe.strip_suffix(' ').unwrap_or(recipe).replace('⏎', "\n") + "\n";
        let expected: BTreeSet<(u32, String)> = expected
            .split_whitespace()
            .filter_map(|one| one.split_once('@'))
            .filter_map(|(id, line)| Some((line.parse().ok()?, id.to_owned())))
            .collect();
        let found = found(&recipe);
        if found != expected {
            wrong.push(format!("{recipe}  expected {expected:?}\n  found    {found:?}"));
        }
    }
    assert!(cases.len() > 300, "{}", cases.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// What hadolint does not see, or sees where nothing is.
#[test]
fn better_than_hadolint() {
    let lines = |recipe: &str, id: &str| -> Vec<u32> {
        found(recipe).into_iter().filter(|(_, found)| found == id).map(|(line, _)| line).collect()
    };
    // Stage names have no case, a port is no tag, and quotes are not part of a name.
    assert_eq!(lines("FROM a:1 AS x\nCOPY --from=X /a /b\n", "DL3023"), [2]);
    assert_eq!(lines("FROM localhost:5000/x\n", "DL3006"), [1]);
    assert_eq!(lines("FROM 'debian:latest'\n", "DL3007"), [1]);
    // A trigger of ONBUILD copies from the stages of another recipe.
    assert!(lines("FROM a:1 AS x\nONBUILD COPY --from=x /a /b\n", "DL3023").is_empty());
    // The variables of triggers are set when triggers run.
    assert!(
        lines("FROM a:1\nONBUILD ENV PIP_NO_CACHE_DIR=1\nONBUILD RUN pip install b==1\n", "DL3042")
            .is_empty()
    );
    assert!(lines("FROM a:1\nONBUILD ENV V=1\nONBUILD RUN yum -y install b-${V}\n", "DL3033").is_empty());
    // SHELL stays for stages that start from this one, and `set -o pipefail` is as good.
    let shell = "FROM a:1 AS b\nSHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\nFROM b\nRUN a | b\n";
    assert!(lines(shell, "DL4006").is_empty());
    assert!(lines("FROM a:1\nRUN set -euo pipefail; a | b\n", "DL4006").is_empty());
    assert_eq!(lines("FROM a:1\nRUN set +o pipefail; a | b\n", "DL4006"), [2]);
    // A heredoc is read by the program that the line names.
    assert_eq!(lines("FROM a:1\nRUN bash -e <<EOF\napt-get install b=1\nEOF\n", "DL3014"), [2]);
    assert!(lines("FROM a:1\nRUN bash -o pipefail <<EOF\na | b\nEOF\n", "DL4006").is_empty());
    assert!(lines("FROM a:1\nRUN <<EOF python3\napt-get install b=1\nEOF\n", "DL3014").is_empty());
    // git is something that COPY can't fetch.
    assert!(lines("FROM a:1\nADD git@example.com:a/b.git /b\n", "DL3020").is_empty());
}
