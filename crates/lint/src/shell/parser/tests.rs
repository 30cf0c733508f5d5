//! Commands in odd places, and faults.

use super::*;
use crate::shell::ast::Visitor;

struct Names(Vec<String>);
impl Visitor for Names {
    fn simple(&mut self, simple: &Simple) {
        self.0.extend(simple.words.first().map(Word::text));
    }
}

fn names(text: &str) -> String {
    let parsed = parse(text);
    assert_eq!(parsed.error, None, "{text}");
    let mut names = Names(Vec::new());
    parsed.list.visit(&mut names);
    names.0.join(" ")
}

#[test]
fn commands_are_found() {
    assert_eq!(names("a b && c | d; e & f"), "a c d e f");
    assert_eq!(names("if a; then b; elif c; then d; else e; fi"), "a b c d e");
    assert_eq!(names("for x in $(a) b; do c \"$x\" \"$(d 'e)')\"; done"), "a c d");
    assert_eq!(names("case \"$x\" in a|b) c ;; *) d;; esac; e"), "c d e");
    assert_eq!(names("f() { a; }; f; (b; c) >x 2>&1"), "a f b c");
    assert_eq!(names("a=1 b x=2 `c \"d\"`"), "b c");
    assert_eq!(names("[[ a =~ ^(b|c)$ && -n x ]] && d"), "d");
    assert_eq!(names("a <<EOF | b\n c $(d)\nEOF\ne"), "a b e");
    assert_eq!(names("! a || { b; } # c; d"), "a b");
    assert_eq!(names("echo ${a:-'}'} ${b//x/y} $((1+(2))) && c"), "echo c");
    assert_eq!(names("while read -r l; do a; done < <(b)"), "read a b");
    assert_eq!(names("a |& b; export x=(1 2); y=(3\n4) z"), "a b export z");
}

#[test]
fn faults_do_not_panic() {
    for text in [
        "'",
        "\"",
        "`",
        "$(",
        "${",
        "a |",
        "if",
        "case x in",
        "((",
        "a <<",
        "\\",
        "é$'",
        "fi",
        ")",
        "a ;; b",
        "${a[",
    ] {
        assert!(parse(text).error.is_some() || text == "\\" || text == "é$'" || text == "a <<", "{text}");
    }
    let deep = "$(".repeat(5_000);
    parse(&deep);
}
