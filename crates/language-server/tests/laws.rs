//! Laws: no request panics anywhere in real recipes, edits keep recipes valid, and a text that came in pieces
//! is the text that came whole.
//!
//! The corpus lives beside the project's folder or where `CTRBUILD_CORPUS` says; without it the test says so
//! and does nothing. `CTRBUILD_TEST_LONG=1` takes all of it and not a part.

mod client;

use client::{Client, URI, changes, edited};
use diagnostic::SourceFile;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::PathBuf;

fn corpus() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus");
    let folder = std::env::var_os("CTRBUILD_CORPUS").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    if folder.join("files").is_dir() {
        return Some(folder);
    }
    println!("skipped: there is no corpus at {}", folder.display());
    None
}

fn errors(text: &str) -> usize {
    dockerfile::parse(SourceFile::new("Dockerfile", text)).errors.len()
}

/// An answer that is no fault of the program.
fn sane(name: &str, method: &str, answer: &Value) {
    let code = answer["error"]["code"].as_i64();
    assert!(!matches!(code, Some(-32603..=-32601)), "{name}: {method}: {answer}");
}

fn check(name: &str, text: &str, positions: usize) -> usize {
    let mut client = Client::plain();
    let published = client.open(text);
    assert_eq!(published[0]["method"], "textDocument/publishDiagnostics", "{name}: {published:?}");
    let before = errors(text);
    let mut asked = 0;
    for method in
        ["documentSymbol", "foldingRange", "documentLink", "semanticTokens/full", "formatting", "diagnostic"]
    {
        let method = format!("textDocument/{method}");
        let answer = client.of(&method, json!({"options": {}}));
        sane(name, &method, &answer);
        asked += 1;
        if method.ends_with("formatting") && !answer.is_null() {
            assert_eq!(errors(&edited(text, &answer)), before, "{name}: formatted");
        }
    }
    let lines: Vec<&str> = text.split('\n').collect();
    let mut seed = text.len() as u64 + 1;
    for _ in 0..positions {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let line = (seed >> 33) as usize % lines.len();
        let column = (seed >> 13) as usize % (lines[line].len() + 1);
        let place = (line as u32, column as u32);
        for method in [
            "hover",
            "completion",
            "definition",
            "references",
            "documentHighlight",
            "signatureHelp",
            "prepareRename",
        ] {
            let method = format!("textDocument/{method}");
            sane(name, &method, &client.at(&method, place, json!({})));
            asked += 1;
        }
        let renamed = client.at("textDocument/rename", place, json!({"newName": "renamed_by_test"}));
        sane(name, "rename", &renamed);
        if renamed.get("error").is_none() {
            let text = edited(text, &changes(&renamed));
            assert_eq!(errors(&text), before, "{name}: renamed at {place:?}");
        }
        let position = json!({"line": line, "character": column});
        let range = json!({"start": position, "end": position});
        sane(
            name,
            "selectionRange",
            &client.of("textDocument/selectionRange", json!({"positions": [position]})),
        );
        let tokens = client.of("textDocument/semanticTokens/range", json!({"range": range}));
        sane(name, "semanticTokens/range", &tokens);
        let only = json!({"range": range, "context": {"diagnostics": [], "only": ["quickfix"]}});
        let actions = client.of("textDocument/codeAction", only);
        sane(name, "codeAction", &actions);
        for action in actions.as_array().into_iter().flatten() {
            let text = edited(text, &changes(&action["edit"]));
            assert!(errors(&text) <= before, "{name}: {}", action["title"]);
        }
        asked += 4;
    }
    asked
}

#[test]
fn requests_anywhere_in_real_recipes() {
    let Some(corpus) = corpus() else { return };
    let step = if std::env::var_os("CTRBUILD_TEST_LONG").is_some() { 1 } else { 12 };
    let mut files: Vec<PathBuf> = std::fs::read_dir(corpus.join("files"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.sort();
    let (mut count, mut asked) = (0, 0);
    for path in files.iter().step_by(step) {
        let Ok(bytes) = std::fs::read(path) else { continue };
        // Editors have texts, not bytes.
        let Ok(text) = String::from_utf8(bytes) else { continue };
        asked += check(&path.display().to_string(), &text, if step == 1 { 24 } else { 6 });
        count += 1;
    }
    println!("{asked} requests in {count} recipes");
    assert!(count > 0);
}

#[test]
fn requests_in_odd_texts() {
    for text in [
        "",
        "\n",
        "\r",
        "FROM a\r\nRUN b \\\r\n c\r\n",
        "FROM a\rRUN b\rCOPY --from=",
        "\u{feff}FROM é😀\nRUN echo $😀é $é\n",
        "# escape=`\nFROM a\nRUN x `\n y\n",
        "FROM",
        "FROM a AS",
        "RUN <<E\n$",
        "FROM a\nRUN <<E <<F\n$x\nE\n",
        "FROM a\nONBUILD ONBUILD RUN $x\nONBUILD",
        "FROM a AS a\nFROM a AS a\nCOPY --from=a --from=1 b c",
        "FROM a\nENV $x=$y \"q w\"=e 'r'\nARG \"a b\"=c\n",
        "FROM a\nCOPY [\"$x\", \"\\u0024y\"]\nCMD [\"sh\", \"-c\", \"echo $x $x\"]",
        "FROM a\nRUN --mount=from=\"a\",x=\\\n y --mount= z\\",
        "FROM a\nRUN echo \"${x:-\"$(y '${z')}\" ${ $( ` $(( <<",
        "FROM a\nSHELL [\"cmd\"]\nARG x\nRUN echo %x%\n",
    ] {
        check(text, text, 40);
    }
}

#[test]
fn long_recipes() {
    let mut text = String::from("ARG V=1\nFROM a AS s0\nARG V\n");
    for n in 0..3000 {
        text.push_str(&format!("RUN echo $V {n}\nENV E{n}=$V\n"));
    }
    let mut client = Client::plain();
    client.open(&text);
    let references = client.at("textDocument/references", (2, 5), json!({}));
    assert_eq!(references.as_array().map(Vec::len), Some(6002));
    let tokens = client.of("textDocument/semanticTokens/full", json!({}));
    assert!(tokens["data"].as_array().is_some_and(|data| data.len() > 60_000));
}

/// UTF-16 position of a byte, counted in the plainest way.
fn position(text: &str, at: usize) -> Value {
    let (mut line, mut column) = (0, 0);
    let mut before = text[..at].chars().peekable();
    while let Some(c) = before.next() {
        let follows = before.peek().copied().or_else(|| text[at..].chars().next());
        match c {
            '\n' => (line, column) = (line + 1, 0),
            '\r' if follows != Some('\n') => (line, column) = (line + 1, 0),
            c => column += c.len_utf16(),
        }
    }
    json!({"line": line, "character": column})
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn pieces_make_the_whole(
        start in "(FROM a AS b\r?\n|RUN \\$é😀 \\\\\n x\n|ENV A=1\r\n|\r| ){0,6}",
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[a$é😀\r\n \\\\]{0,5}|RUN \\$A\n"), 0..12),
    ) {
        let mut text = start.clone();
        let mut client = Client::new(json!({}));
        client.open(&start);
        for (version, (a, b, new)) in edits.into_iter().enumerate() {
            // A client can't name the place between `\r` and `\n`.
            let places: Vec<usize> = (0..=text.len())
                .filter(|at| text.is_char_boundary(*at) && !(text[..*at].ends_with('\r') && text[*at..].starts_with('\n')))
                .collect();
            let (a, b) = (*a.get(&places), *b.get(&places));
            let (a, b) = (a.min(b), a.max(b));
            let range = json!({"start": position(&text, a), "end": position(&text, b)});
            text.replace_range(a..b, &new);
            client.tell("textDocument/didChange", json!({
                "textDocument": {"uri": URI, "version": version + 2},
                "contentChanges": [{"range": range, "text": new}],
            }));
        }
        let mut whole = Client::new(json!({}));
        let fresh = whole.open(&text);
        client.world.clock.set(10_000);
        let later = client.server.tick();
        if let Some(later) = later.first() {
            prop_assert_eq!(&later["params"]["diagnostics"], &fresh[0]["params"]["diagnostics"]);
        }
        for method in ["textDocument/semanticTokens/full", "textDocument/documentSymbol", "textDocument/foldingRange"] {
            prop_assert_eq!(client.of(method, json!({})), whole.of(method, json!({})), "{}", method);
        }
        let ask = json!({"positions": [{"line": 0, "character": 0}]});
        let all = |client: &mut Client| client.of("textDocument/selectionRange", ask.clone());
        prop_assert_eq!(all(&mut client), all(&mut whole));
    }
}
