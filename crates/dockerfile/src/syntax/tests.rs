//! Tests of limits and of what the first pass finds.

use super::*;
use diagnostic::SourceFile;

fn errors(text: &str) -> Vec<(String, u32, u32)> {
    let out = parse(&SourceFile::new("Dockerfile", text));
    assert_eq!(out.tree.print(text), text);
    out.errors
        .iter()
        .map(|error| (error.kind.code().to_owned(), error.lines.first, error.buildkit_line))
        .collect()
}

#[test]
fn lines_have_a_limit() {
    let line = |length: usize| format!("RUN {}", "x".repeat(length - 4));
    let fits = format!("FROM a\n{}\nRUN y\n{}", line(MAX_LINE_BYTES), line(MAX_LINE_BYTES));
    assert_eq!(errors(&fits), []);
    let long = format!("FROM a\n{}\nRUN y\n", line(MAX_LINE_BYTES + 1));
    assert_eq!(errors(&long), [("line-too-long".to_owned(), 2, 1)]);
    // A carriage return counts, the line feed does not.
    assert_eq!(errors(&format!("FROM a\n{}\r\n", line(MAX_LINE_BYTES - 1))), []);
    assert_eq!(errors(&format!("FROM a\n{}\r\n", line(MAX_LINE_BYTES))).len(), 1);
    // A heredoc that the long line cuts off is reported first.
    let heredoc = format!("FROM a\nRUN <<E\n{}\nE\n", line(MAX_LINE_BYTES + 1));
    let codes: Vec<String> = errors(&heredoc).into_iter().map(|(code, ..)| code).collect();
    assert_eq!(codes, ["unterminated-heredoc", "line-too-long"]);
}

#[test]
fn files_have_a_limit() {
    let text = format!("FROM a\n{}", "#\n".repeat(MAX_FILE_BYTES / 2));
    let found = errors(&text);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "file-too-large");
}

#[test]
fn errors_have_a_limit() {
    assert_eq!(errors(&format!("FROM a\n{}", "ENV a\n".repeat(5_000))).len(), MAX_ERRORS);
}

#[test]
fn nothing_is_three_errors() {
    assert_eq!(errors(""), [("empty-file".to_owned(), 1, 0)]);
    assert_eq!(errors("\n# x\n"), [("no-instructions".to_owned(), 2, 2)]);
    assert_eq!(errors("\u{feff}"), [("no-instructions".to_owned(), 1, 1)]);
    // The third, no stage at all, is a matter of the whole recipe.
    assert_eq!(errors("ARG a\n"), []);
}

#[test]
fn continuations() {
    let at = |line: &str| continuation(line, Escape::Backslash);
    assert_eq!(at("a \\"), Some(2));
    assert_eq!(at("a\\ \t "), Some(1));
    assert_eq!(at("\\"), Some(0));
    assert_eq!(at("a\\\\"), None);
    assert_eq!(at("a\\\\\\"), None);
    assert_eq!(at("a`"), None);
    assert_eq!(at("a\\\u{a0}"), None);
    assert_eq!(continuation("a`", Escape::Backtick), Some(1));
}

#[test]
fn heredoc_words() {
    let mark = |word: &str| heredoc_word(word).map(|mark| (mark.name, mark.fd, mark.chomp, mark.expand));
    assert_eq!(mark("<<EOF"), Some(("EOF".into(), 0, false, true)));
    assert_eq!(mark("7<<-'E O'"), Some(("E O".into(), 7, true, false)));
    assert_eq!(mark("<<E\\OF"), Some(("EOF".into(), 0, false, true)));
    assert_eq!(mark("<<\"a'b\""), Some(("a'b".into(), 0, false, false)));
    for none in ["<<", "<<-", "<EOF", "x<<EOF", "<<<EOF", "<<a b", "<<'", "<< "] {
        assert_eq!(mark(none), None, "{none}");
    }
}

#[test]
fn directives_are_found_behind_a_hash_bang() {
    let of = |text: &str| parse(&SourceFile::new("Dockerfile", text)).directives;
    let directives = of("#!/x\n# syntax=a/b:1\n# escape=`\nFROM a\n");
    assert_eq!(directives.syntax.map(|word| word.value).as_deref(), Some("a/b:1"));
    assert_eq!(directives.escape, Escape::Backslash);
    assert_eq!(of(" # syntax=a\nFROM a\n").syntax, None);
    assert_eq!(of("{\"syntax\": \"x\"}").syntax.map(|word| word.value).as_deref(), Some("x"));
    assert_eq!(
        of("# check=skip=all\n# syntax=s\n").check.map(|word| word.value).as_deref(),
        Some("skip=all")
    );
}
