//! The shell rules against what ShellCheck finds in the same text, by rule and column. The text stands in a heredoc,
//! in a shell form, and behind a continuation.

use diagnostic::SourceFile;
use lint::{Options, Profile};
use std::collections::BTreeSet;

/// Rule and column, as the line `row` of the recipe has them.
fn found(recipe: &str, row: u32, shift: u32) -> BTreeSet<(u32, String)> {
    let parsed = dockerfile::parse(SourceFile::new("Dockerfile", recipe));
    let report = lint::lint(&parsed, &Options::of(Profile::Hadolint));
    let place = |finding: &lint::Finding| parsed.source.position(finding.diagnostic.range.start);
    let findings = report.findings.iter().filter(|finding| place(finding).line == row);
    findings
        .flat_map(|finding| {
            let column = place(finding).column.saturating_sub(shift);
            let ids = finding.aliases().iter().filter(|alias| alias.starts_with("SC"));
            ids.map(move |id| (column, (*id).to_owned()))
        })
        .collect()
}

#[test]
fn as_shellcheck() {
    let mut wrong = Vec::new();
    let mut compared = 0;
    for line in include_str!("../../../testdata/lint/shell.txt").lines().filter(|line| !line.starts_with('#'))
    {
        let mut fields = line.split('¦').map(str::trim);
        let (Some(shell), Some(text), Some(expected)) = (fields.next(), fields.next(), fields.next()) else {
            panic!("{line:?} has no three fields");
        };
        let expected: BTreeSet<(u32, String)> = expected
            .split_whitespace()
            .filter_map(|one| one.split_once('@'))
            .filter_map(|(id, column)| Some((column.parse().ok()?, id.to_owned())))
            .collect();
        let head = format!("FROM debian:12\nSHELL [\"/bin/{shell}\", \"-c\"]\n");
        let heredoc = format!("{head}RUN <<\"END-OF-IT\"\n{text}\nEND-OF-IT\n");
        let mut forms = vec![("heredoc", found(&heredoc, 4, 0))];
        // What looks like a heredoc to the recipe is none in these forms, and a backslash at the end continues.
        if !text.contains("<<") && !text.ends_with('\\') {
            forms.push(("shell form", found(&format!("{head}RUN {text}\n"), 3, 4)));
            let continued = format!("{head}RUN :; \\\n# about it\n\n{text}\n");
            // `#` in front would be a comment of the recipe, `set -e; !` and assignments mean the same there.
            forms.push(("continuation", found(&continued, 6, 0)));
        }
        for (form, found) in forms {
            compared += 1;
            if found != expected {
                wrong.push(format!("{shell}, {form}: {text}\n  expected {expected:?}\n  found    {found:?}"));
            }
        }
    }
    assert!(compared > 1000, "{compared}");
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
}
