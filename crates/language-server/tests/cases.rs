//! testdata/lsp: a recipe a case, `‸` where the cursor is. The first word of its name says what is asked.

mod client;

use client::{Client, changes, edited, offset};
use serde_json::{Value, json};
use std::fmt::Write;

const CURSOR: char = '‸';

/// The text without cursors, and where they were: 0-based lines and columns in bytes.
fn read(source: &str) -> (String, Vec<(u32, u32)>) {
    let mut text = String::new();
    let mut cursors = Vec::new();
    for c in source.chars() {
        if c == CURSOR {
            let line = text.matches('\n').count() as u32;
            cursors.push((line, (text.len() - text.rfind('\n').map_or(0, |at| at + 1)) as u32));
        } else {
            text.push(c);
        }
    }
    (text, cursors)
}

/// A place with its text: `3:5 "name"`.
fn place(text: &str, range: &Value) -> String {
    let (start, end) = (offset(text, &range["start"]), offset(text, &range["end"]));
    let line = range["start"]["line"].as_u64().unwrap_or(0) + 1;
    let column = range["start"]["character"].as_u64().unwrap_or(0) + 1;
    format!("{line}:{column} {:?}", text.get(start..end).unwrap_or("?"))
}

fn places(text: &str, list: &Value) -> String {
    let list: Vec<String> = match list {
        Value::Array(list) => list.iter().map(|one| place(text, &one["range"])).collect(),
        Value::Null => vec!["nothing".into()],
        one => vec![place(text, &one["range"])],
    };
    list.join(", ")
}

fn shown(kind: &str, source: &str) -> String {
    let (text, cursors) = read(source);
    let mut client = Client::plain();
    client.world.write("/p/src/main.c", "");
    client.world.write("/p/src/main.h", "");
    client.world.write("/p/secret/key", "");
    client.world.write("/p/Makefile", "");
    client.world.write("/p/.dockerignore", "secret\n*.md\n");
    client.world.write("/p/README.md", "");
    let published = client.open(&text);
    let mut out = String::new();
    match kind {
        "diagnose" => {
            for one in published[0]["params"]["diagnostics"].as_array().into_iter().flatten() {
                let _ = writeln!(
                    out,
                    "{} {} {} {}\n    {}",
                    place(&text, &one["range"]),
                    one["severity"],
                    one["code"].as_str().unwrap_or_default(),
                    one["tags"],
                    one["message"].as_str().unwrap_or_default().replace('\n', "\n    ")
                );
            }
        }
        "format" => {
            let edits = client.of("textDocument/formatting", json!({"options": {}}));
            for edit in edits.as_array().into_iter().flatten() {
                let _ = writeln!(out, "{} -> {}", place(&text, &edit["range"]), edit["newText"]);
            }
            let _ = write!(out, "----\n{}", edited(&text, &edits));
        }
        "outline" => {
            let symbols = client.of("textDocument/documentSymbol", json!({}));
            tree(&text, &symbols, 0, &mut out);
        }
        "fold" => {
            for fold in client.of("textDocument/foldingRange", json!({})).as_array().into_iter().flatten() {
                let line = |name: &str| fold[name].as_u64().unwrap_or(0) + 1;
                let _ = writeln!(out, "{}-{} {}", line("startLine"), line("endLine"), fold["kind"]);
            }
        }
        "link" => {
            for link in client.of("textDocument/documentLink", json!({})).as_array().into_iter().flatten() {
                let _ = writeln!(out, "{} {}", place(&text, &link["range"]), link["target"]);
            }
        }
        "tokens" => {
            let tokens = client.of("textDocument/semanticTokens/full", json!({}));
            let data: Vec<u64> =
                tokens["data"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
            let (mut line, mut column) = (0, 0);
            for token in data.chunks_exact(5) {
                line += token[0];
                column = if token[0] == 0 { column + token[1] } else { token[1] };
                let start = offset(&text, &json!({"line": line, "character": column}));
                let name = language_server::features::tokens::TYPES[token[3] as usize];
                let modifier = if token[4] == 1 { " declaration" } else { "" };
                let _ = writeln!(
                    out,
                    "{}:{} {:?} {name}{modifier}",
                    line + 1,
                    column + 1,
                    &text[start..start + token[2] as usize]
                );
            }
        }
        _ => {
            for cursor in cursors {
                let _ = writeln!(out, "==== {}:{}", cursor.0 + 1, cursor.1 + 1);
                at_cursor(kind, &text, &mut client, cursor, &mut out);
            }
        }
    }
    out
}

fn tree(text: &str, symbols: &Value, depth: usize, out: &mut String) {
    for symbol in symbols.as_array().into_iter().flatten() {
        let name = symbol["name"].as_str().unwrap_or_default();
        let detail = symbol["detail"].as_str().unwrap_or_default();
        let own = place(text, &symbol["selectionRange"]);
        let _ = writeln!(out, "{}{name} [{}] {detail} @ {own}", "  ".repeat(depth), symbol["kind"]);
        tree(text, &symbol["children"], depth + 1, out);
    }
}

fn at_cursor(kind: &str, text: &str, client: &mut Client, cursor: (u32, u32), out: &mut String) {
    match kind {
        "hover" => {
            let hover = client.at("textDocument/hover", cursor, json!({}));
            let value = hover["contents"]["value"].as_str().unwrap_or("nothing");
            let range = if hover.is_null() { String::new() } else { place(text, &hover["range"]) };
            let _ = writeln!(out, "{range}\n{value}");
        }
        "complete" => {
            let result = client.at("textDocument/completion", cursor, json!({}));
            let items = result["items"].as_array().cloned().unwrap_or_default();
            for item in items.iter().take(14) {
                let insert = &item["textEdit"];
                let own = place(text, &insert["range"]);
                let label = item["label"].as_str().unwrap_or_default();
                let more = if insert["newText"] == item["label"] {
                    String::new()
                } else {
                    format!(" as {}", insert["newText"])
                };
                let detail = item["detail"].as_str().unwrap_or_default();
                let _ = writeln!(out, "{label}{more} | {detail} | for {own}");
            }
            if items.len() > 14 {
                let _ = writeln!(out, "… {}", items.len());
            }
        }
        "define" => {
            let definition = client.at("textDocument/definition", cursor, json!({}));
            let references = client.at(
                "textDocument/references",
                cursor,
                json!({"context": {"includeDeclaration": false}}),
            );
            let _ = writeln!(out, "made: {}\nused: {}", places(text, &definition), places(text, &references));
        }
        "rename" => {
            let prepared = client.at("textDocument/prepareRename", cursor, json!({}));
            let edit = client.at("textDocument/rename", cursor, json!({"newName": "renamed"}));
            match edit["error"]["message"].as_str() {
                Some(message) => {
                    let early = prepared.get("error").is_some();
                    let _ = writeln!(out, "refused{}: {message}", if early { " at once" } else { "" });
                }
                None => {
                    let _ = writeln!(out, "{}\n{}", prepared["placeholder"], edited(text, &changes(&edit)));
                }
            }
        }
        "act" => {
            let position = json!({"line": cursor.0, "character": cursor.1});
            let params =
                json!({"range": {"start": position, "end": position}, "context": {"diagnostics": []}});
            let actions = client.of("textDocument/codeAction", params);
            for action in actions.as_array().into_iter().flatten() {
                let title = action["title"].as_str().unwrap_or_default();
                let preferred = if action["isPreferred"] == true { " (preferred)" } else { "" };
                let kind = action["kind"].as_str().unwrap_or_default();
                let _ = writeln!(out, "{kind}: {title}{preferred}");
                for edit in changes(&action["edit"]).as_array().into_iter().flatten() {
                    let _ = writeln!(out, "    {} -> {}", place(text, &edit["range"]), edit["newText"]);
                }
            }
        }
        "sign" => {
            let help = client.at("textDocument/signatureHelp", cursor, json!({}));
            let active = &help["signatures"][help["activeSignature"].as_u64().unwrap_or(0) as usize];
            let next = &active["parameters"][help["activeParameter"].as_u64().unwrap_or(0) as usize]["label"];
            let _ = writeln!(out, "{} -> {next}", active["label"]);
        }
        "select" => {
            let position = json!({"line": cursor.0, "character": cursor.1});
            let result = client.of("textDocument/selectionRange", json!({"positions": [position]}));
            let mut range = &result[0];
            while !range.is_null() {
                let _ = writeln!(out, "{}", place(text, &range["range"]));
                range = &range["parent"];
            }
        }
        other => panic!("no such kind of case: {other}"),
    }
}

#[test]
fn cases() {
    insta::glob!("../../../testdata/lsp", "*.Dockerfile", |path| {
        let source = std::fs::read_to_string(path).expect("a case");
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let kind = name.split('-').next().unwrap_or_default();
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../../../testdata/lsp/snapshots");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.remove_input_file();
        settings.bind(|| insta::assert_snapshot!(shown(kind, &source)));
    });
}
