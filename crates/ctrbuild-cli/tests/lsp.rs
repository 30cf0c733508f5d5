//! `ctrbuild lsp` as an editor sees it: the real program, spoken to over its standard input and output.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Editor {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    next: i64,
    /// Notifications and requests that came while an answer was awaited.
    aside: Vec<Value>,
}

impl Drop for Editor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Editor {
    fn start(folder: &Path) -> Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ctrbuild"))
            .args(["lsp", "--stdio"])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("no input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut editor = Self { child, input, output, next: 0, aside: Vec::new() };
        let capabilities = json!({
            "general": {"positionEncodings": ["utf-8", "utf-16"]},
            "textDocument": {"documentSymbol": {"hierarchicalDocumentSymbolSupport": true}},
            "workspace": {"didChangeWatchedFiles": {"dynamicRegistration": true}},
        });
        let root = format!("file://{}", folder.display());
        let params = json!({"capabilities": capabilities, "processId": null, "rootUri": root});
        let answer = editor.ask("initialize", params)?;
        assert_eq!(answer["result"]["serverInfo"]["name"], "ctrbuild");
        editor.tell("initialized", json!({}))?;
        let registration = editor.receive()?;
        assert_eq!(registration["method"], "client/registerCapability");
        editor.send(&json!({"jsonrpc": "2.0", "id": registration["id"], "result": null}))?;
        Ok(editor)
    }

    fn raw(&mut self, text: &str) -> Result {
        self.input.write_all(text.as_bytes())?;
        self.input.flush()?;
        Ok(())
    }

    fn send(&mut self, message: &Value) -> Result {
        let body = message.to_string();
        self.raw(&format!("Content-Length: {}\r\n\r\n{body}", body.len()))
    }

    fn tell(&mut self, method: &str, params: Value) -> Result {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
    }

    fn receive(&mut self) -> Result<Value> {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                return Err("the server has ended".into());
            }
            match line.trim().split_once(": ") {
                Some(("Content-Length", value)) => length = value.parse()?,
                _ if line.trim().is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.output.read_exact(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }

    fn ask(&mut self, method: &str, params: Value) -> Result<Value> {
        self.next += 1;
        let id = self.next;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))?;
        loop {
            let message = self.receive()?;
            if message["id"] == id && message.get("method").is_none() {
                return Ok(message);
            }
            self.aside.push(message);
        }
    }

    /// The next findings of a recipe.
    fn findings(&mut self) -> Result<Value> {
        let is = |message: &Value| message["method"] == "textDocument/publishDiagnostics";
        if let Some(at) = self.aside.iter().position(is) {
            return Ok(self.aside.remove(at)["params"].clone());
        }
        loop {
            let message = self.receive()?;
            if is(&message) {
                return Ok(message["params"].clone());
            }
        }
    }

    fn open(&mut self, uri: &str, text: &str) -> Result<Value> {
        let document = json!({"uri": uri, "languageId": "dockerfile", "version": 1, "text": text});
        self.tell("textDocument/didOpen", json!({"textDocument": document}))?;
        self.findings()
    }

    fn change(&mut self, uri: &str, version: i32, text: &str) -> Result<Value> {
        let params =
            json!({"textDocument": {"uri": uri, "version": version}, "contentChanges": [{"text": text}]});
        self.tell("textDocument/didChange", params)?;
        self.findings()
    }

    fn exit_code(&mut self) -> Result<Option<i32>> {
        Ok(self.child.wait()?.code())
    }
}

fn rules(findings: &Value) -> Vec<String> {
    let list = findings["diagnostics"].as_array().cloned().unwrap_or_default();
    list.iter().filter_map(|one| one["code"].as_str().map(str::to_owned)).collect()
}

/// A text with edits in UTF-8 columns made.
fn edited(text: &str, edits: &Value) -> String {
    let at = |position: &Value| {
        let line = position["line"].as_u64().unwrap_or(0) as usize;
        let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
        start + position["character"].as_u64().unwrap_or(0) as usize
    };
    let mut list: Vec<(usize, usize, String)> = edits
        .as_array()
        .into_iter()
        .flatten()
        .map(|edit| {
            let new = edit["newText"].as_str().unwrap_or_default().to_owned();
            (at(&edit["range"]["start"]), at(&edit["range"]["end"]), new)
        })
        .collect();
    list.sort();
    let mut out = text.to_owned();
    list.into_iter().rev().for_each(|(start, end, new)| out.replace_range(start..end, &new));
    out
}

const RECIPE: &str = "FROM alpine as build\nARG VERSION=1\nRUN apk add curl=$VERSION\nFROM build\n";

#[test]
fn an_editor_works_with_it() -> Result {
    let folder = tempfile::tempdir()?;
    let uri = format!("file://{}/Dockerfile", folder.path().display());
    let mut editor = Editor::start(folder.path())?;
    let found = editor.open(&uri, RECIPE)?;
    // The same rules as on the command line.
    std::fs::write(folder.path().join("Dockerfile"), RECIPE)?;
    let lint = Command::new(env!("CARGO_BIN_EXE_ctrbuild"))
        .args(["lint", "--format", "json", "Dockerfile"])
        .current_dir(folder.path())
        .output()?;
    let lint: Vec<Value> = serde_json::from_slice(&lint.stdout)?;
    let said: Vec<String> = lint.iter().filter_map(|one| one["rule"].as_str().map(str::to_owned)).collect();
    assert_eq!(rules(&found), said);

    // An action, applied, makes its finding go away.
    let document = json!({"uri": uri});
    let place = json!({"line": 0, "character": 13});
    let params = json!({"textDocument": document, "range": {"start": place, "end": place}, "context": {"diagnostics": []}});
    let actions = editor.ask("textDocument/codeAction", params)?;
    let action = actions["result"].as_array().into_iter().flatten().find(|one| one["isPreferred"] == true);
    let action = action.ok_or("no preferred action")?;
    let fixed = edited(RECIPE, &action["edit"]["changes"][&uri]);
    assert!(fixed.starts_with("FROM alpine AS build\n"), "{fixed}");
    let after = editor.change(&uri, 2, &fixed)?;
    assert!(!rules(&after).contains(&"FromAsCasing".to_owned()));
    assert_eq!(after["version"], 2);

    // Names.
    let at = |line: u32, character: u32| json!({"textDocument": document, "position": {"line": line, "character": character}, "newName": "base"});
    let renamed = editor.ask("textDocument/rename", at(3, 6))?;
    let renamed = edited(&fixed, &renamed["result"]["changes"][&uri]);
    assert_eq!(renamed, fixed.replace("build", "base"));
    let refused = editor.ask("textDocument/rename", at(1, 0))?;
    assert_eq!(refused["error"]["code"], -32803);
    let hover = editor.ask("textDocument/hover", at(2, 20))?;
    assert!(
        hover["result"]["contents"]["value"].as_str().is_some_and(|text| text.contains("Here: `1`")),
        "{hover}"
    );
    let definition = editor.ask("textDocument/definition", at(2, 20))?;
    assert_eq!(definition["result"]["range"]["start"], json!({"line": 1, "character": 4}));
    let symbols = editor.ask("textDocument/documentSymbol", json!({"textDocument": document}))?;
    assert_eq!(symbols["result"][0]["name"], "build");
    let folds = editor.ask("textDocument/foldingRange", json!({"textDocument": document}))?;
    assert_eq!(folds["result"][0], json!({"startLine": 0, "endLine": 2, "kind": "region"}));
    let tokens = editor.ask("textDocument/semanticTokens/full", json!({"textDocument": document}))?;
    assert_eq!(
        tokens["result"]["data"].as_array().map(|data| data[..5].to_vec()),
        Some(vec![json!(0), json!(0), json!(4), json!(0), json!(0)])
    );
    let formatted =
        editor.ask("textDocument/formatting", json!({"textDocument": document, "options": {}}))?;
    assert_eq!(formatted["result"], json!([]), "it is formatted");

    // Proposals from the disk, without what the ignore file leaves out.
    std::fs::write(folder.path().join("main.c"), "")?;
    std::fs::write(folder.path().join("key"), "")?;
    std::fs::write(folder.path().join(".dockerignore"), "key\n")?;
    let watched =
        json!({"changes": [{"uri": format!("file://{}/.dockerignore", folder.path().display()), "type": 1}]});
    editor.tell("workspace/didChangeWatchedFiles", watched)?;
    let text = format!("{fixed}COPY key \n");
    let found = editor.change(&uri, 3, &text)?;
    drop(found);
    let proposals = editor.ask("textDocument/completion", at(4, 5))?;
    let labels: Vec<&str> = proposals["result"]["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["label"].as_str())
        .collect();
    assert_eq!(labels, [".dockerignore", "Dockerfile", "main.c"]);

    editor.tell("textDocument/didClose", json!({"textDocument": document}))?;
    loop {
        let found = editor.findings()?;
        if found["diagnostics"] == json!([]) {
            break;
        }
    }
    assert_eq!(editor.ask("shutdown", Value::Null)?["result"], Value::Null);
    editor.tell("exit", Value::Null)?;
    assert_eq!(editor.exit_code()?, Some(0));
    Ok(())
}

#[test]
fn nonsense_is_answered_and_survived() -> Result {
    let folder = tempfile::tempdir()?;
    let mut editor = Editor::start(folder.path())?;
    editor.raw("Content-Length: 3\r\n\r\n{x}")?;
    assert_eq!(editor.receive()?["error"]["code"], -32700);
    editor.raw("Content-Length: many\r\n\r\n")?;
    assert_eq!(editor.receive()?["error"]["code"], -32700);
    editor.raw("Content-Length: 2\r\n\r\n[]")?;
    assert_eq!(editor.receive()?["error"]["code"], -32600);
    assert_eq!(editor.ask("no/such", json!({}))?["error"]["code"], -32601);
    assert_eq!(editor.ask("textDocument/hover", json!({"textDocument": 4}))?["error"]["code"], -32602);
    // A request that was cancelled before it was begun is answered as such, or in full where it was begun.
    let cancelled = json!({"jsonrpc": "2.0", "id": 77, "method": "textDocument/hover", "params": {}});
    let cancel = json!({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 77}});
    let (a, b) = (cancelled.to_string(), cancel.to_string());
    editor.raw(&format!("Content-Length: {}\r\n\r\n{a}Content-Length: {}\r\n\r\n{b}", a.len(), b.len()))?;
    let answer = editor.receive()?;
    assert_eq!(answer["id"], 77);
    assert!([json!(-32800), json!(-32602)].contains(&answer["error"]["code"]), "{answer}");
    assert_eq!(editor.ask("shutdown", Value::Null)?["result"], Value::Null);
    assert_eq!(editor.ask("textDocument/hover", json!({}))?["error"]["code"], -32600);
    editor.tell("exit", Value::Null)?;
    assert_eq!(editor.exit_code()?, Some(0));
    Ok(())
}

#[test]
fn an_editor_that_dies_takes_it_along() -> Result {
    let folder = tempfile::tempdir()?;
    let mut child = Command::new(env!("CARGO_BIN_EXE_ctrbuild"))
        .arg("lsp")
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    drop(child.stdin.take());
    assert_eq!(child.wait()?.code(), Some(1));
    Ok(())
}

#[test]
fn neovim_works_with_it() -> Result {
    let Ok(version) = Command::new("nvim").arg("--version").output() else {
        println!("skipped: there is no nvim");
        return Ok(());
    };
    assert!(version.status.success());
    let folder = tempfile::tempdir()?;
    let recipe = folder.path().join("Dockerfile");
    std::fs::write(&recipe, RECIPE)?;
    let output = Command::new("nvim")
        .args(["--headless", "-u", "NONE", "-i", "NONE", "-n", "-c"])
        .arg(format!("luafile {}/tests/neovim.lua", env!("CARGO_MANIFEST_DIR")))
        .env("CTRBUILD_PROGRAM", env!("CARGO_BIN_EXE_ctrbuild"))
        .env("CTRBUILD_RECIPE", &recipe)
        .env("HOME", folder.path())
        .env("XDG_STATE_HOME", folder.path())
        .env("XDG_CACHE_HOME", folder.path())
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find_map(|line| line.strip_prefix("RESULT "));
    let line = line.ok_or_else(|| format!("{said}{}", String::from_utf8_lossy(&output.stderr)))?;
    let result: Value = serde_json::from_str(line)?;
    assert_eq!(result["fault"], Value::Null, "{result}");
    let findings = result["findings"].as_array().cloned().unwrap_or_default();
    assert!(findings.contains(&json!("FromAsCasing")), "{result}");
    assert!(result["hover"].as_str().is_some_and(|text| text.contains("ARG VERSION")), "{result}");
    assert_eq!(result["definition"], 1);
    let fixed = RECIPE.replace(" as ", " AS ");
    assert_eq!(result["fixed"], fixed.trim_end());
    let renamed = format!("{}copy   a   b", fixed.replace("VERSION", "RELEASE"));
    assert_eq!(result["renamed"], renamed);
    assert_eq!(result["formatted"], renamed.replace("copy   a   b", "COPY a b"));
    Ok(())
}
