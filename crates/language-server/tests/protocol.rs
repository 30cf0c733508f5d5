//! The conversation: beginning and end, opening and closing, configuration, what is refused.

mod client;

use client::{Client, URI, World, changes, edited};
use language_server::{Message, Server};
use serde_json::{Value, json};

fn request(server: &mut Server, method: &str) -> Value {
    let message = Message::Request { id: json!("x"), method: method.into(), params: json!({}) };
    server.handle(message).first().cloned().unwrap_or_default()
}

fn notify(server: &mut Server, method: &str) {
    server.handle(Message::Notification { method: method.into(), params: json!({}) });
}

fn rules(message: &Value) -> Vec<&str> {
    let list = message["params"]["diagnostics"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|one| one["code"].as_str()).collect()
}

#[test]
fn beginning_and_end() {
    let mut server = Server::new(Box::new(World::default()));
    assert_eq!(request(&mut server, "textDocument/hover")["error"]["code"], -32002);
    assert_eq!(request(&mut server, "initialize")["result"]["serverInfo"]["name"], "ctrbuild");
    assert_eq!(request(&mut server, "initialize")["error"]["code"], -32600);
    assert_eq!(request(&mut server, "workspace/nothing")["error"]["code"], -32601);
    assert_eq!(request(&mut server, "$/nothing")["error"]["code"], -32601);
    assert_eq!(request(&mut server, "textDocument/hover")["error"]["code"], -32602);
    notify(&mut server, "$/nothing");
    assert_eq!(request(&mut server, "shutdown")["result"], Value::Null);
    assert_eq!(request(&mut server, "textDocument/hover")["error"]["code"], -32600);
    assert_eq!(server.exit_code(), None);
    notify(&mut server, "exit");
    assert_eq!(server.exit_code(), Some(0));
    let mut rude = Server::new(Box::new(World::default()));
    notify(&mut rude, "exit");
    assert_eq!(rude.exit_code(), Some(1));
}

#[test]
fn columns_are_as_agreed() {
    let encoding = |offered: Value| {
        let mut server = Server::new(Box::new(World::default()));
        let params = json!({"capabilities": {"general": {"positionEncodings": offered}}});
        let answer = server.handle(Message::Request { id: json!(1), method: "initialize".into(), params });
        answer[0]["result"]["capabilities"]["positionEncoding"].clone()
    };
    assert_eq!(encoding(json!(["utf-16", "utf-8"])), "utf-8");
    assert_eq!(encoding(json!(["utf-16"])), "utf-16");
    assert_eq!(encoding(json!(["utf-32"])), "utf-32");
    assert_eq!(encoding(Value::Null), "utf-16");
    let column = |capabilities: Value| {
        let mut client = Client::new(capabilities);
        let out = client.open("FROM a:1 AS b\r\n# 😀é\r\nENV X=😀é Y=1\r\nRUN echo \"é😀\" $Y\r\n");
        let uses = client.at("textDocument/references", (2, 0), json!({}));
        assert_eq!(uses, json!([]));
        let hover =
            client.of("textDocument/documentHighlight", json!({"position": {"line": 3, "character": 20}}));
        drop(out);
        hover[0]["range"]["start"]["character"].clone()
    };
    // `ENV X=😀é Y`: 6 columns, the emoji in 2 or 4, é in 1 or 2, a blank.
    assert_eq!(column(json!({})), 10);
    assert_eq!(column(json!({"general": {"positionEncodings": ["utf-8"]}})), 13);
}

#[test]
fn findings_come_when_it_is_quiet() {
    let mut client = Client::plain();
    let opened = client.open("FROM alpine\n");
    assert_eq!(rules(&opened[0]), ["untagged-image"]);
    assert_eq!(opened[0]["params"]["version"], 1);
    let finding = &opened[0]["params"]["diagnostics"][0];
    assert!(
        finding["codeDescription"]["href"]
            .as_str()
            .is_some_and(|href| href.ends_with("/rules/untagged-image.md"))
    );
    let change = |text: &str, version: i32| json!({"textDocument": {"uri": URI, "version": version}, "contentChanges": [{"text": text}]});
    client.tell("textDocument/didChange", change("FROM alpine:3\n", 2));
    assert!(client.server.tick().is_empty(), "somebody is typing");
    client.world.clock.set(100);
    client.tell("textDocument/didChange", change("FROM alpine:3\nRUM\n", 3));
    client.world.clock.set(200);
    assert!(client.server.tick().is_empty(), "still typing");
    let due = client.server.deadline();
    client.world.clock.set(due.unwrap_or_default());
    let out = client.server.tick();
    assert_eq!((rules(&out[0]), &out[0]["params"]["version"]), (vec!["unknown-instruction"], &json!(3)));
    assert_eq!(client.server.deadline(), None);
    client.tell("textDocument/didSave", json!({"textDocument": {"uri": URI}}));
    assert_eq!(client.server.tick().len(), 1, "at once");
    let closed = client.tell("textDocument/didClose", json!({"textDocument": {"uri": URI}}));
    assert_eq!(closed[0]["params"], json!({"uri": URI, "diagnostics": []}));
    assert_eq!(client.of("textDocument/hover", json!({}))["error"]["code"], -32602);
}

#[test]
fn findings_are_asked_for() {
    let capabilities = json!({
        "textDocument": {"diagnostic": {}},
        "workspace": {"diagnostics": {"refreshSupport": true}, "didChangeWatchedFiles": {"dynamicRegistration": true}},
    });
    let mut client = Client::new(capabilities);
    assert!(client.open("FROM alpine\n").is_empty(), "nothing is sent unasked");
    let first = client.of("textDocument/diagnostic", json!({}));
    assert_eq!((&first["kind"], &first["items"][0]["code"]), (&json!("full"), &json!("untagged-image")));
    let again = client.of("textDocument/diagnostic", json!({"previousResultId": first["resultId"]}));
    assert_eq!(again["kind"], "unchanged");
    client.world.write("/p/ctrbuild.toml", "[lint.rules]\nuntagged-image = \"off\"\n");
    let changes = json!({"changes": [{"uri": "file:///p/ctrbuild.toml", "type": 1}]});
    let out = client.tell("workspace/didChangeWatchedFiles", changes);
    assert_eq!(out[0]["method"], "workspace/diagnostic/refresh");
    let then = client.of("textDocument/diagnostic", json!({"previousResultId": first["resultId"]}));
    assert_eq!((&then["kind"], &then["items"]), (&json!("full"), &json!([])));
}

#[test]
fn configuration_is_that_of_the_folder() {
    let mut client = Client::plain();
    client.world.write("/p/.git/HEAD", "");
    let config = "[lint]\nexclude = [\"vendor/**\"]\n\n[[lint.override]]\npaths = [\"t/**\"]\n\
                  rules = { untagged-image = \"off\", maintainer = \"error\" }\n";
    client.world.write("/p/ctrbuild.toml", config);
    let out = client.open("FROM alpine\n");
    assert_eq!(rules(&out[0]), ["untagged-image"]);
    let fault = out.iter().find(|one| one["method"] == "window/showMessage").cloned().unwrap_or_default();
    assert!(fault["params"]["message"].as_str().is_some_and(|text| text.contains("maintainer")), "{out:?}");
    client.world.write("/p/ctrbuild.toml", &config.replace(", maintainer = \"error\"", ""));
    let mut found = |uri: &str, text: &str| {
        let out = open_at(&mut client, uri, text);
        rules(&out).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(found("file:///p/t/Dockerfile", "FROM alpine\n").is_empty());
    assert!(found("file:///p/vendor/x/Dockerfile", "FROM alpine\nRUM\n").is_empty());
    assert_eq!(found("untitled:Untitled-1", "FROM alpine\n"), ["untagged-image"]);
    let document = json!({"uri": "file:///p/x.py", "languageId": "python", "version": 1, "text": "x"});
    client.tell("textDocument/didOpen", json!({"textDocument": document}));
    assert!(client.server.tick().iter().all(|one| one["params"]["uri"] != "file:///p/x.py"));
    let asked = client.ask("textDocument/hover", json!({"textDocument": {"uri": "file:///p/x.py"}}));
    assert_eq!(asked, Value::Null);
    // The ignore file counts too, and its change.
    let copy = open_at(&mut client, "file:///p/i/Dockerfile", "FROM scratch\nCOPY key /\n");
    assert!(!rules(&copy).contains(&"CopyIgnoredFile"));
    client.world.write("/p/i/.dockerignore", "key\n");
    let change = json!({"changes": [{"uri": "file:///p/i/.dockerignore", "type": 1}]});
    client.tell("workspace/didChangeWatchedFiles", change);
    let later = client.server.tick();
    let later = later.iter().find(|one| one["params"]["uri"] == "file:///p/i/Dockerfile").cloned();
    assert!(rules(&later.unwrap_or_default()).contains(&"CopyIgnoredFile"));
}

fn open_at(client: &mut Client, uri: &str, text: &str) -> Value {
    let document = json!({"uri": uri, "languageId": "dockerfile", "version": 1, "text": text});
    client.tell("textDocument/didOpen", json!({"textDocument": document}));
    client.server.tick().into_iter().find(|one| one["params"]["uri"] == uri).unwrap_or_default()
}

#[test]
fn actions_do_what_they_say() {
    let text = "FROM alpine as b\nRUN apk add curl=1\nMAINTAINER x\n";
    let mut client = Client::plain();
    let opened = client.open(text);
    let all = json!({"start": {"line": 0, "character": 0}, "end": {"line": 9, "character": 0}});
    let actions = client.of("textDocument/codeAction", json!({"range": all, "context": {"diagnostics": []}}));
    let actions = actions.as_array().cloned().unwrap_or_default();
    assert!(actions.len() > 8, "{actions:?}");
    for action in &actions {
        let new = edited(text, &changes(&action["edit"]));
        let mut other = Client::plain();
        let after = other.open(&new);
        let count =
            |out: &Value, rule: &Value| rules(out).iter().filter(|one| Some(**one) == rule.as_str()).count();
        for finding in action["diagnostics"].as_array().into_iter().flatten() {
            let rule = &finding["code"];
            assert!(count(&after[0], rule) < count(&opened[0], rule), "{}: {new}", action["title"]);
        }
    }
    let only = json!({"diagnostics": [], "only": ["source.fixAll"]});
    let actions = client.of("textDocument/codeAction", json!({"range": all, "context": only}));
    assert_eq!(actions.as_array().map(Vec::len), Some(1));
    let fixed = edited(text, &changes(&actions[0]["edit"]));
    assert_eq!(fixed, "FROM alpine AS b\nRUN apk add --no-cache curl=1\nMAINTAINER x\n");
    let glance = json!({"diagnostics": [], "triggerKind": 2});
    let actions = client.of("textDocument/codeAction", json!({"range": all, "context": glance}));
    let kinds = actions.as_array().into_iter().flatten().map(|action| action["kind"].clone());
    assert!(kinds.clone().count() > 0 && kinds.into_iter().all(|kind| kind == "quickfix"));
    let only = json!({"diagnostics": [], "only": ["refactor"]});
    assert_eq!(client.of("textDocument/codeAction", json!({"range": all, "context": only})), json!([]));
}

#[test]
fn a_range_is_formatted_alone() {
    let text = "from  a\r\nrun  x\r\ncopy  a   b\r\n";
    let mut client = Client::plain();
    client.open(text);
    let range = json!({"start": {"line": 1, "character": 0}, "end": {"line": 2, "character": 1}});
    let edits = client.of("textDocument/rangeFormatting", json!({"range": range, "options": {}}));
    assert_eq!(edited(text, &edits), "from  a\r\nRUN x\r\nCOPY a b\r\n");
    let edits = client.of("textDocument/formatting", json!({"options": {}}));
    assert_eq!(edited(text, &edits), "FROM a\r\nRUN x\r\nCOPY a b\r\n");
    client.open("FROM a\nRUM\n");
    assert_eq!(client.of("textDocument/formatting", json!({"options": {}})), Value::Null);
}

#[test]
fn one_bad_instruction_spoils_nothing_else() {
    let mut client = Client::plain();
    let out = client.open("FROM alpine:3 AS a\nRUM x\nARG V=1\nRUN echo \"$V\"\nFROM a\n");
    assert_eq!(rules(&out[0]), ["unknown-instruction"]);
    let uses =
        client.at("textDocument/references", (2, 4), json!({"context": {"includeDeclaration": false}}));
    assert_eq!(uses[0]["range"]["start"], json!({"line": 3, "character": 11}));
    assert_eq!(client.of("textDocument/documentSymbol", json!({})).as_array().map(Vec::len), Some(2));
}

#[test]
fn a_panic_costs_one_answer() {
    let mut client = Client::plain();
    client.open("FROM alpine:3\n");
    client.tell("textDocument/didSave", json!({"textDocument": {"uri": URI}}));
    client.world.broken.set(true);
    let answer = client.of("textDocument/hover", json!({"position": {"line": 0, "character": 0}}));
    assert_eq!(answer["error"]["code"], -32603);
    assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains("broken for a test")));
    assert_eq!(client.server.tick()[0]["method"], "window/logMessage");
    client.world.broken.set(false);
    let hover = client.of("textDocument/hover", json!({"position": {"line": 0, "character": 0}}));
    assert!(hover["contents"]["value"].as_str().is_some_and(|text| text.contains("Starts a stage")));
}
