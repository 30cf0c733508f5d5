//! What must hold for every text.

use diagnostic::{Color, SourceFile, render};
use dockerfile::ignore::{self, Matcher};
use dockerfile::view::buildkit_json;
use dockerfile::word::Lexer;
use dockerfile::{glob, parse, parse_instruction};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Texts made of what the grammar is made of.
fn recipe() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "FROM a\n",
        "FROM ",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "ARG ",
        "LABEL ",
        "ONBUILD ",
        "HEALTHCHECK ",
        "CMD ",
        "\n",
        "\r\n",
        "\\\n",
        "`\n",
        "\\",
        "`",
        " ",
        "\t",
        "# escape=`\n",
        "#",
        "=",
        "\"",
        "'",
        "$a",
        "${a:-",
        "}",
        "<<EOF",
        "<<-'X'",
        "EOF\n",
        "X\n",
        "[\"a\"",
        "]",
        ",",
        "--",
        "--mount=type=bind,target=/x",
        "--link",
        "x",
        "é",
        "\u{a0}",
        "\u{85}",
        "\u{feff}",
        "\0",
        "\x1b[2J",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn check(bytes: &[u8]) {
    let parsed = parse(SourceFile::from_bytes("Dockerfile", bytes));
    assert_eq!(parsed.source.to_bytes(), bytes);
    let text = parsed.source.text();
    assert_eq!(parsed.print(), text);
    let mut end = 0;
    for item in parsed.tree.items() {
        assert_eq!(item.range.start, end);
        for token in parsed.tree.tokens_of(item) {
            assert_eq!(token.range.start, end);
            assert!(!token.range.is_empty());
            end = token.range.end;
        }
        assert_eq!(item.range.end, end);
    }
    assert_eq!(end as usize, text.len());
    for statement in &parsed.statements {
        assert!(statement.lines.first <= statement.lines.last);
        assert!(statement.lines.last <= parsed.source.line_count());
        let words = std::iter::once(&statement.keyword).chain(&statement.flags).chain(&statement.args);
        for word in words {
            assert!(text.get(word.range.as_usize()).is_some(), "{word:?}");
            assert!(statement.range.contains_range(word.range), "{word:?} outside of {:?}", statement.range);
        }
    }
    for diagnostic in &parsed.diagnostics {
        let shown = render(&parsed.source, diagnostic, Color::Never);
        assert!(shown.contains("--> Dockerfile:"));
        assert!(!shown.contains('\x1b'));
    }
    buildkit_json("Dockerfile", &parsed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&bytes);
    }

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        check(text.as_bytes());
        let _ = parse_instruction(&text);
    }

    #[test]
    fn any_recipe(text in recipe()) {
        check(text.as_bytes());
        let _ = parse_instruction(&text);
    }

    #[test]
    fn any_word(word in "[a$\\\\'\"{}:#%/*?+<` -]{0,40}", value in "[ab*/ ]{0,8}") {
        let variables = BTreeMap::from([("a".to_owned(), value)]);
        for lexer in [Lexer::new('\\'), Lexer::new('`'), Lexer::for_body()] {
            let text = lexer.expand(&word, &variables).is_ok();
            prop_assert_eq!(text, lexer.words(&word, &variables).is_ok());
        }
    }

    #[test]
    fn plain_words_stay(word in "[a-z0-9./:@-]{0,40}") {
        let expanded = Lexer::new('\\').expand(&word, &dockerfile::word::NoVariables);
        prop_assert_eq!(expanded.map(|expansion| expansion.text), Ok(word));
    }

    #[test]
    fn any_pattern(pattern in "[a*?/!.^\\[\\]\\\\-]{0,12}", path in "[a-b/]{1,12}") {
        let _ = glob::matches(&pattern, &path);
        let _ = glob::matches_deep(&pattern, &path);
        let path = ignore::clean(path.trim_start_matches('/'));
        if let Ok(matcher) = Matcher::new([&pattern]) && matcher.matches_or_parent(&path) {
            // What a folder loses, everything in it loses.
            let below = format!("{path}/x");
            prop_assert!(matcher.matches_or_parent(&below));
        }
    }
}

/// Doubling the text must not much more than double the time.
#[test]
fn time_is_linear() {
    let shapes: [(&str, &str, &str); 8] = [
        ("FROM a\n", "RUN x \\\n\n y\n", ""),
        ("FROM a\nENV ", "a=b \\\n", "c=d"),
        ("FROM a\nCOPY ", "--exclude=a \\\n", "x y"),
        ("FROM a\nONBUILD ", "ONBUILD \\\n", "x"),
        ("FROM a\n", "RUN <<x\n", ""),
        ("FROM a\nCMD ", "[ \\\n", ""),
        ("# c\n", "# c\n", "FROM a\nARG b\n"),
        ("FROM a\n", "x\n", ""),
    ];
    for (head, body, tail) in shapes {
        let time = |count: usize| {
            let text = [head, &body.repeat(count), tail].concat();
            let best = (0..3).map(|_| {
                let start = Instant::now();
                parse(SourceFile::new("Dockerfile", text.clone()));
                start.elapsed()
            });
            best.min().unwrap_or_default()
        };
        let (small, large) = (time(2_000), time(16_000));
        assert!(large < small * 24 + Duration::from_millis(200), "{body:?}: {small:?}, then {large:?}");
    }
}
