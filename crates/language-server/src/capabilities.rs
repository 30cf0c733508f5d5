//! What client and server say of themselves when they meet.

use crate::features::{Client, actions, completion, tokens};
use crate::text::Encoding;
use serde_json::{Value, json};

/// What matters of the client, and what columns are to count.
pub fn read(params: &Value) -> (Client, Encoding) {
    let capabilities = &params["capabilities"];
    let is = |pointer: &str| capabilities.pointer(pointer).and_then(Value::as_bool).unwrap_or(false);
    let document = &capabilities["textDocument"];
    let formats = document.pointer("/hover/contentFormat").and_then(Value::as_array);
    let markdown = formats.is_none_or(|formats| formats.iter().any(|format| format == "markdown"));
    let client = Client {
        versioned_edits: is("/workspace/workspaceEdit/documentChanges"),
        markdown,
        related: is("/textDocument/publishDiagnostics/relatedInformation")
            || is("/textDocument/diagnostic/relatedInformation"),
        pulls: document.get("diagnostic").is_some_and(Value::is_object)
            && is("/workspace/diagnostics/refreshSupport"),
        watches: is("/workspace/didChangeWatchedFiles/dynamicRegistration"),
        tree: is("/textDocument/documentSymbol/hierarchicalDocumentSymbolSupport"),
    };
    let offered = capabilities.pointer("/general/positionEncodings").and_then(Value::as_array);
    let offers = |name: &str| offered.is_some_and(|list| list.iter().any(|one| one == name));
    let encoding = match () {
        () if offers("utf-8") => Encoding::Utf8,
        () if offers("utf-32") && !offers("utf-16") => Encoding::Utf32,
        () => Encoding::Utf16,
    };
    (client, encoding)
}

/// The answer to `initialize`.
pub fn answer(client: Client, encoding: Encoding) -> Value {
    let mut capabilities = json!({
        "positionEncoding": encoding.name(),
        "textDocumentSync": {"openClose": true, "change": 2, "save": {"includeText": false}},
        "codeActionProvider": {"codeActionKinds": ["quickfix", actions::FIX_ALL], "resolveProvider": false},
        "documentFormattingProvider": true,
        "documentRangeFormattingProvider": true,
        "hoverProvider": true,
        "completionProvider": {"triggerCharacters": completion::TRIGGERS, "resolveProvider": false},
        "signatureHelpProvider": {"triggerCharacters": [" "]},
        "documentSymbolProvider": true,
        "definitionProvider": true,
        "declarationProvider": true,
        "referencesProvider": true,
        "documentHighlightProvider": true,
        "renameProvider": {"prepareProvider": true},
        "foldingRangeProvider": true,
        "selectionRangeProvider": true,
        "semanticTokensProvider": {"legend": tokens::legend(), "full": true, "range": true},
        "documentLinkProvider": {"resolveProvider": false},
        "workspace": {"workspaceFolders": {"supported": true, "changeNotifications": true}},
    });
    if client.pulls {
        capabilities["diagnosticProvider"] =
            json!({"identifier": "ctrbuild", "interFileDependencies": false, "workspaceDiagnostics": false});
    }
    json!({
        "capabilities": capabilities,
        "serverInfo": {"name": "ctrbuild", "version": env!("CARGO_PKG_VERSION")},
    })
}

/// What to watch: configuration and ignore files.
pub fn watchers() -> Value {
    let globs = ["**/ctrbuild.toml", "**/.ctrbuild.toml", "**/.dockerignore", "**/*.dockerignore"];
    let watchers: Vec<Value> = globs.iter().map(|glob| json!({"globPattern": glob})).collect();
    json!({"registrations": [{
        "id": "ctrbuild-files",
        "method": "workspace/didChangeWatchedFiles",
        "registerOptions": {"watchers": watchers},
    }]})
}
