//! A client for tests: speaks to the server in the process, with files and a clock of its own.
#![allow(dead_code, reason = "each test uses its part")]

use language_server::{Entry, Host, Message, Server};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Files and time in memory.
#[derive(Clone, Default)]
pub struct World {
    pub files: Rc<RefCell<BTreeMap<PathBuf, String>>>,
    pub clock: Rc<Cell<u64>>,
    /// Whether reading a file is a fault of the program.
    pub broken: Rc<Cell<bool>>,
}

impl World {
    pub fn write(&self, path: &str, text: &str) {
        self.files.borrow_mut().insert(path.into(), text.into());
    }
}

impl Host for World {
    fn read(&self, path: &Path) -> Option<String> {
        assert!(!self.broken.get(), "broken for a test");
        self.files.borrow().get(path).cloned()
    }

    fn list(&self, folder: &Path) -> Vec<Entry> {
        let mut out = BTreeMap::new();
        for path in self.files.borrow().keys() {
            let Ok(rest) = path.strip_prefix(folder) else { continue };
            let mut parts = rest.components();
            if let Some(first) = parts.next() {
                out.insert(first.as_os_str().to_string_lossy().into_owned(), parts.next().is_some());
            }
        }
        out.into_iter().map(|(name, folder)| Entry { name, folder }).collect()
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.borrow().keys().any(|file| file.starts_with(path))
    }

    fn now(&self) -> u64 {
        self.clock.get()
    }
}

/// A conversation.
pub struct Client {
    pub server: Server,
    pub world: World,
    next: i64,
}

pub const URI: &str = "file:///p/Dockerfile";

impl Client {
    /// After `initialize` with these capabilities.
    pub fn new(capabilities: Value) -> Self {
        let world = World::default();
        let mut client = Self { server: Server::new(Box::new(world.clone())), world, next: 0 };
        let params =
            json!({"capabilities": capabilities, "workspaceFolders": [{"uri": "file:///p", "name": "p"}]});
        client.ask("initialize", params);
        client.tell("initialized", json!({}));
        client
    }

    /// With UTF-8 columns and trees.
    pub fn plain() -> Self {
        Self::new(json!({
            "general": {"positionEncodings": ["utf-8"]},
            "textDocument": {"documentSymbol": {"hierarchicalDocumentSymbolSupport": true}},
        }))
    }

    /// The whole answer to a request.
    pub fn answer(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let message = Message::Request { id: self.next.into(), method: method.into(), params };
        let out = self.server.handle(message);
        out.into_iter().find(|one| one["id"] == self.next).unwrap_or_default()
    }

    /// The result of a request; the error where there is none.
    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        let answer = self.answer(method, params);
        match answer.get("error") {
            Some(error) => json!({"error": error}),
            None => answer["result"].clone(),
        }
    }

    pub fn tell(&mut self, method: &str, params: Value) -> Vec<Value> {
        self.server.handle(Message::Notification { method: method.into(), params })
    }

    pub fn open(&mut self, text: &str) -> Vec<Value> {
        let document = json!({"uri": URI, "languageId": "dockerfile", "version": 1, "text": text});
        let mut out = self.tell("textDocument/didOpen", json!({"textDocument": document}));
        out.extend(self.server.tick());
        out
    }

    /// A request about a place.
    pub fn at(&mut self, method: &str, position: (u32, u32), mut more: Value) -> Value {
        more["textDocument"] = json!({"uri": URI});
        more["position"] = json!({"line": position.0, "character": position.1});
        self.ask(method, more)
    }

    /// A request about the whole document.
    pub fn of(&mut self, method: &str, mut more: Value) -> Value {
        more["textDocument"] = json!({"uri": URI});
        self.ask(method, more)
    }
}

/// The byte at a position in UTF-8 columns.
pub fn offset(text: &str, position: &Value) -> usize {
    let line = position["line"].as_u64().unwrap_or(0) as usize;
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    (start + position["character"].as_u64().unwrap_or(0) as usize).min(text.len())
}

/// A text with edits of the protocol made.
pub fn edited(text: &str, edits: &Value) -> String {
    let mut list: Vec<(usize, usize, &str)> = edits
        .as_array()
        .into_iter()
        .flatten()
        .map(|edit| {
            let range = &edit["range"];
            (
                offset(text, &range["start"]),
                offset(text, &range["end"]),
                edit["newText"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    list.sort();
    let mut out = text.to_owned();
    for (start, end, new) in list.into_iter().rev() {
        out.replace_range(start..end, new);
    }
    out
}

/// The edits of this document in a workspace edit.
pub fn changes(edit: &Value) -> Value {
    match edit.get("changes") {
        Some(changes) => changes[URI].clone(),
        None => edit["documentChanges"][0]["edits"].clone(),
    }
}
