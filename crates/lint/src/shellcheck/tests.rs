//! ShellCheck's answers as they were recorded, brought to their place.

use super::*;
use crate::lint;
use diagnostic::SourceFile;

/// Answers every snippet with what it holds: (a text of the snippet, id, fix).
#[derive(Debug)]
struct Fake(Vec<(&'static str, u32, Vec<Replacement>)>);

impl Checker for Fake {
    fn comments(&self, snippets: &[Snippet]) -> Vec<Arc<[Comment]>> {
        let of = |snippet: &Snippet| {
            let all = self.0.iter().filter_map(|(what, code, fix)| {
                let at = snippet.text().find(what)?;
                let line = snippet.text()[..at].matches('\n').count() as u32 + 1;
                let start = snippet.text()[..at].rfind('\n').map_or(0, |at| at + 1);
                let column = snippet.text()[start..at].chars().count() as u32 + 1;
                let moved = |one: &Replacement| Replacement {
                    line,
                    end_line: line,
                    column: column + one.column,
                    end_column: column + one.end_column,
                    ..one.clone()
                };
                let replacements: Vec<_> = fix.iter().map(moved).collect();
                Some(Comment {
                    file: "0".into(),
                    line,
                    end_line: line,
                    column,
                    end_column: column + what.chars().count() as u32,
                    level: "warning".into(),
                    code: *code,
                    message: "Some thing is wrong.".into(),
                    fix: (!replacements.is_empty()).then_some(Replacements { replacements }),
                })
            });
            all.collect()
        };
        snippets.iter().map(of).collect()
    }
}

fn options(answers: Vec<(&'static str, u32, Vec<Replacement>)>) -> Options {
    Options { shellcheck: Some(Arc::new(Fake(answers))), ..Options::default() }
}

/// (rule, text it is about) of everything that ShellCheck has a name for.
fn found(text: &str, options: &Options) -> Vec<(String, String)> {
    let parsed = dockerfile::parse(SourceFile::new("Dockerfile", text));
    let findings = lint(&parsed, options).findings;
    let named = findings.iter().filter(|finding| {
        finding.diagnostic.rule.starts_with("SC")
            || finding.aliases().iter().any(|alias| alias.starts_with("SC"))
    });
    named
        .map(|finding| {
            let text = parsed.source.slice(finding.diagnostic.range).to_owned();
            (finding.diagnostic.rule.to_string(), text)
        })
        .collect()
}

fn scripts_of(text: &str) -> Vec<String> {
    let parsed = dockerfile::parse(SourceFile::new("Dockerfile", text));
    let options = Options::default();
    snippets(&Context::new(&parsed, &options)).iter().map(|one| one.text().to_owned()).collect()
}

#[test]
fn places_are_exact() {
    let text = "FROM a\nRUN\ttrue é \\\n\t# a comment\n\n\t&& one \\\n  two\nRUN <<EOF\n\tthree\nEOF\nRUN cat <<-EOF\n\t\tfour\n\tEOF\n";
    let all = ["one   two", "three", "four"].map(|word| (word, 1234, Vec::new()));
    let found = found(text, &options(all.to_vec()));
    let texts: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["one \\\n  two", "three", "four"]);
}

#[test]
fn shells_and_names() {
    let text = "ARG G=1\nFROM a AS one\nARG G\nARG my-arg=1\nENV \"x;y\"=1 z=1\nRUN a\nSHELL [\"/bin/bash\", \"-eo\", \"pipefail\", \"-c\"]\nRUN b\nRUN [\"c\", \"d\"]\nSHELL [\"pwsh\", \"-c\"]\nRUN e\nFROM b\nRUN <<EOF\n#!/usr/bin/env python3\nprint()\nEOF\nRUN <<EOF\n#!/bin/ash\nf\nEOF\nSHELL [\"zsh\", \"-c\"]\nRUN g\n";
    let scripts = scripts_of(text);
    assert_eq!(scripts.len(), 3, "{scripts:#?}");
    assert!(scripts[0].starts_with("#!/bin/sh\n") && scripts[0].ends_with("\na\n"));
    assert!(scripts[0].contains("\nexport G=1\n") && scripts[0].contains("\nexport z=1\n"));
    assert!(!scripts[0].contains("my-arg") && !scripts[0].contains("x;y") && !scripts[0].contains("PATH="));
    assert!(scripts[1].starts_with("#!/bin/bash -e\n"));
    assert!(scripts[2].starts_with("#!/bin/dash\n") && scripts[2].ends_with("\n#!/bin/ash\nf\n"));
    assert!(!scripts[2].contains("export G=1"));
}

#[test]
fn rules_of_this_project_win() {
    let text = "FROM a\nRUN x=$(y) && ls $x && z\n";
    let answers = vec![("$x", 2086, Vec::new()), ("z", 2086, Vec::new()), ("ls", 2999, Vec::new())];
    let own = ("quote-variable".to_owned(), "$x".to_owned());
    let rest = [("SC2999".to_owned(), "ls".to_owned()), own, ("quote-variable".to_owned(), "z".to_owned())];
    assert_eq!(found(text, &options(answers.clone())), rest);
    let mut off = options(answers);
    assert_eq!(off.set("SC2086", "off"), Ok(()));
    assert_eq!(off.set("SC2999", "error"), Ok(()));
    assert_eq!(found(text, &off), rest[..1]);
    assert_eq!(off.set("SC2999", "off"), Ok(()));
    assert!(found(text, &off).is_empty());
    let comments = text.replace("RUN", "# hadolint ignore=SC2086,SC2999\nRUN");
    assert!(found(&comments, &options(vec![("z", 2086, Vec::new()), ("ls", 2999, Vec::new())])).is_empty());
}

#[test]
fn fixes_pass_the_gate_or_are_left() {
    let edit = |column, end_column, replacement: &str, point: &str| Replacement {
        line: 1,
        end_line: 1,
        column,
        end_column,
        replacement: replacement.into(),
        insertion_point: point.into(),
    };
    let quote = vec![edit(0, 0, "\"", "afterEnd"), edit(1, 1, "\"", "beforeStart")];
    let text = "FROM a\nRUN x \\\n    && y \\\n    z\n";
    let fixed = |answers| {
        let parsed = dockerfile::parse(SourceFile::new("Dockerfile", text));
        let outcome = crate::fix::fix(&parsed, &options(answers), crate::fix::Which::All);
        (outcome.text, outcome.dropped.into_iter().map(|one| one.rule).collect::<Vec<_>>())
    };
    // The fake finds `y` no more once it is quoted.
    assert_eq!(fixed(vec![(" y ", 2999, vec![edit(1, 2, "\"y\"", "")])]).0, text.replace('y', "\"y\""));
    let (same, dropped) = fixed(vec![("z", 2999, quote)]);
    assert_eq!((same.as_str(), dropped.as_slice()), (text, ["SC2999".to_owned()].as_slice()), "it stays");
    let (same, dropped) = fixed(vec![(" y ", 2999, vec![edit(1, 2, "\"y", "")])]);
    assert_eq!((same.as_str(), dropped.len()), (text, 1), "the shell could not read it");
    let (same, dropped) = fixed(vec![(" y ", 2999, vec![edit(1, 2, "y\nRUN rm", "")])]);
    assert_eq!((same.as_str(), dropped.len()), (text, 1), "another instruction");
    assert_eq!(fixed(vec![("y     z", 2999, vec![edit(0, 7, "w", "")])]).0, text, "a continuation inside");
}

#[test]
fn answers_are_read() {
    let json = r#"{"comments":[{"file":"0","line":2,"endLine":2,"column":9,"endColumn":11,"level":"info","code":2086,"message":"Double quote to prevent globbing and word splitting.","fix":{"replacements":[{"column":9,"endColumn":9,"endLine":2,"insertionPoint":"afterEnd","line":2,"precedence":7,"replacement":"\""}]}}]}"#;
    let all = read(json).unwrap_or_default();
    assert_eq!((all.len(), all[0].code, all[0].column), (1, 2086, 9));
    assert!(read("shellcheck: no").is_err());
    assert_eq!(message(&all[0].message), "double quote to prevent globbing and word splitting");
    assert_eq!(message("In POSIX sh, [[ ]] is undefined."), "in POSIX sh, [[ ]] is undefined");
    assert_eq!(message("A..."), "A...");
    assert_eq!((code("SC2086"), code("SC208"), code("DL3008")), (Some(2086), None, None));
}
