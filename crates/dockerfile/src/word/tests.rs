//! Tests of expansion; facts from BuildKit's lexer.

use super::*;

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn expand_with(word: &str, pairs: &[(&str, &str)]) -> String {
    match Lexer::new('\\').expand(word, &variables(pairs)) {
        Ok(expansion) => expansion.text,
        Err(error) => format!("error: {}", error.kind),
    }
}

fn expand(word: &str) -> String {
    expand_with(word, &[("PWD", "/home"), ("SHELL", "bash"), ("한", "국"), ("NULL", "")])
}

#[test]
fn quotes_and_escapes() {
    for (word, expected) in [
        (r"he'll'o", "hello"),
        (r"he\'llo", "he'llo"),
        (r"abc\tdef", "abctdef"),
        (r#""abc\tdef""#, r"abc\tdef"),
        (r#""abc\\tdef""#, r"abc\tdef"),
        (r"'abc\tdef'", r"abc\tdef"),
        (r"hello\", "hello"),
        (r"hello\\", r"hello\"),
        (r"'hello\'", r"hello\"),
        (r"안\'녕", "안'녕"),
        (r#"'"hello"'"#, "\"hello\""),
        ("\u{feff}x\u{feff}", "x\u{feff}"),
    ] {
        assert_eq!(expand(word), expected, "{word}");
    }
    for word in ["he'llo", r"he\\'llo", "'hello"] {
        assert!(expand(word).ends_with("looking for matching single-quote"), "{word}");
    }
    for word in ["\"hello", r#""hello\""#] {
        assert!(expand(word).ends_with("looking for matching double-quote"), "{word}");
    }
}

#[test]
fn variables_in_every_form() {
    for (word, expected) in [
        ("$.", "$."),
        ("he$1x", "hex"),
        ("he$pwd.", "he."),
        ("he$PWD", "he/home"),
        (r"he\$PWD", "he$PWD"),
        (r"he\\$PWD", r"he\/home"),
        (r#""he\$PWD""#, "he$PWD"),
        ("'$PWD'", "$PWD"),
        (r"\${}aaa", "${}aaa"),
        ("he${hi}xx", "hexx"),
        ("he${XXX:-000}xx", "he000xx"),
        ("he${XXX:-${YYY:-yyy}}xx", "heyyyxx"),
        ("he${PWD:+${SHELL}}xx", "hebashxx"),
        ("he${PWD:+${PWD}:}xx", "he/home:xx"),
        (r"he${XXX:-\${PWD}z}xx", "he${PWDz}xx"),
        ("he${NULL?}", "he"),
        ("$한", "국"),
        ("${aaa}}", "}"),
        ("${aaa:-bbb {foo}", "bbb {foo"),
        ("${1:-bbb}", "bbb"),
        ("$$ $# $@ $? $!", "    "),
        ("a$", "a$"),
        ("${NULL-x}${NULL:-x}${NULL+y}${NULL:+y}", "xy"),
    ] {
        assert_eq!(expand(word), expected, "{word}");
    }
}

#[test]
fn mistakes() {
    for (word, expected) in [
        ("${}", "syntax error: bad substitution"),
        ("${{aaa}", "syntax error: bad substitution"),
        ("${:-b}", "syntax error: bad substitution"),
        ("${", "syntax error: missing '}'"),
        ("${A", "unsupported modifier (\u{fffd}) in substitution"),
        ("${XXX:YYY}", "unsupported modifier (:Y) in substitution"),
        ("${PWD:=0}", "unsupported modifier (:=) in substitution"),
        ("${PWD:#0}", "unsupported modifier (:#) in substitution"),
        ("${PWD=0}", "unsupported modifier (=) in substitution"),
        ("${PWD:-x", "syntax error: missing '}'"),
        ("${PWD/x}", "syntax error: missing '/' in ${}"),
        ("${PWD/x/y", "syntax error: missing '}'"),
        ("${XXX?}", "XXX: is not allowed to be unset"),
        ("${NULL:?}", "NULL: is not allowed to be empty"),
        ("${XXX:?set $SHELL}", "XXX: set bash"),
        (r"${PWD#\x}", r"invalid pattern (\x) in substitution: invalid escape '\x'"),
    ] {
        assert_eq!(expand(word), format!("error: {expected}"), "{word}");
    }
    let error = Lexer::new('\\').expand("\"${E:?is empty}\"", &variables(&[("E", "")]));
    assert_eq!(
        error.map_err(|error| error.to_string()),
        Err("failed to process \"\\\"${E:?is empty}\\\"\": E: is empty".to_owned())
    );
}

#[test]
fn patterns() {
    let pairs = &[("F", "xxyyzzyyxx"), ("S", "a*b?c"), ("L", "one\ntwo"), ("U", "👽🚀🖖")];
    for (word, expected) in [
        ("${F#x}", "xyyzzyyxx"),
        ("${F#*y}", "yzzyyxx"),
        ("${F##*y}", "xx"),
        ("${F%y*}", "xxyyzzy"),
        ("${F%%y*}", "xx"),
        ("${F%?}", "xxyyzzyyx"),
        ("${F#nope}", "xxyyzzyyxx"),
        ("${S#a\\*}", "b?c"),
        ("${S%\\?c}", "a*b"),
        ("${U%🖖}", "👽🚀"),
        ("${F/yy/-}", "xx-zzyyxx"),
        ("${F//yy/-}", "xx-zz-xx"),
        ("${F/y*y/-}", "xx-xx"),
        ("${F//y/}", "xxzzxx"),
        ("${F//x/\\/}", "\\/\\/yyzzyy\\/\\/"),
        ("${F//y/$S}", "xxa*b?ca*b?czza*b?ca*b?cxx"),
        ("${L#*}", "one\ntwo"),
        ("${L##*}", "\ntwo"),
        ("${X//a/b}", ""),
    ] {
        assert_eq!(expand_with(word, pairs), expected, "{word}");
    }
}

#[test]
fn words_split_after_expansion() {
    let pairs = &[("hi", "hi"), ("space", "abc  def"), ("leading", "  ab c"), ("trailing", "ab c   ")];
    let words =
        |word: &str| Lexer::new('\\').words(word, &variables(pairs)).unwrap_or_else(|_| vec!["error".into()]);
    for (word, expected) in [
        ("hello${hi}bye", vec!["hellohibye"]),
        ("hello${space}bye", vec!["helloabc", "defbye"]),
        ("hello\"${space}\"bye", vec!["helloabc  defbye"]),
        ("hello${leading}def", vec!["hello", "ab", "cdef"]),
        ("hello${trailing}d", vec!["helloab", "c", "d"]),
        ("hello\\ there", vec!["hello there"]),
        ("hello\\\" there", vec!["hello\"", "there"]),
        ("hello\" there", vec!["error"]),
        ("", vec![]),
        ("a << EOF b", vec!["a", "<< EOF", "b"]),
        // What stood before a nested substitution is lost.
        ("80${none:-81} 82", vec!["81", "82"]),
    ] {
        assert_eq!(words(word), expected, "{word}");
    }
}

#[test]
fn modes() {
    let body = Lexer::for_body();
    let text = body.expand("'$A' \"${B:-x}\" \\$A \\\\", &variables(&[("A", "1")])).map(|e| e.text);
    assert_eq!(text.as_deref(), Ok("'1' \"x\" $A \\"));
    let raw = Lexer { quotes: Quotes::Keep, unset: Unset::Keep, ..Lexer::new('\\') };
    let text = raw.expand("'a' \"$A\" $B ${B} ${B:-x} ${B/a/b}", &variables(&[("A", "1")])).map(|e| e.text);
    assert_eq!(text.as_deref(), Ok("'a' \"1\" $B ${B} ${B:-x} ${B/a/b}"));
    let keep = Lexer { escapes: Escapes::Keep, ..Lexer::new('`') };
    assert_eq!(keep.expand("a`b\\c \"`\"\"", &NoVariables).map(|e| e.text).as_deref(), Ok("a`b\\c `\""));
}

#[test]
fn names_are_recorded() {
    let expansion = Lexer::new('\\').expand("$A ${B:-$C} ${D+x}", &variables(&[("A", "1"), ("D", "")]));
    let expansion = expansion.unwrap_or_default();
    assert_eq!(expansion.used.into_iter().collect::<Vec<_>>(), ["A", "D"]);
    assert_eq!(expansion.unset.into_iter().collect::<Vec<_>>(), ["B", "C"]);
}

#[test]
fn limits() {
    let big = variables(&[("A", &"x".repeat(MAX_WORD_BYTES / 2))]);
    assert!(Lexer::new('\\').expand("$A$A", &big).is_ok());
    assert!(Lexer::new('\\').expand("$A$A$A", &big).is_err());
    assert!(Lexer::new('\\').expand("\"$A$A$A\"", &big).is_err());
    assert!(Lexer::new('\\').expand("${A//x/yyyy}", &big).is_err());
    let deep = format!("{}{}", "${a:-".repeat(100_000), "}".repeat(100_000));
    let error = Lexer::new('\\').expand(&deep, &NoVariables).map_err(|error| error.kind);
    assert_eq!(error, Err(WordErrorKind::TooDeep { max: MAX_DEPTH }));
    let pattern = format!("${{A#{}}}", "*a".repeat(1 << 17));
    assert!(Lexer::new('\\').expand(&pattern, &variables(&[("A", "x")])).is_err());
}
