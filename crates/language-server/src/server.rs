//! The server: open recipes, and which message asks for what.

use crate::analysis::Analysis;
use crate::capabilities;
use crate::features::{
    Client, View, actions, completion, diagnostics, folding, format, hover, links, navigate, outline, rename,
    signature, tokens,
};
use crate::host::Host;
use crate::message::{self, Failure, Message};
use crate::text::{Encoding, Position, Text};
use crate::uri;
use crate::workspace::{self, Workspace};
use lint::project;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::rc::Rc;

/// Quiet time behind a change before findings are sent, in milliseconds.
const QUIET: u64 = 150;
/// The same for recipes that take long to look at.
const QUIET_LARGE: u64 = 1000;
/// Recipes above this many bytes are large.
const LARGE: usize = 512 << 10;

/// Where the conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Running,
    ShutDown,
}

struct Document {
    version: Option<i64>,
    text: Text,
    path: Option<PathBuf>,
    /// Made when it is asked for, gone with every change.
    analysis: Option<Analyzed>,
    /// When findings are to be sent.
    due: Option<u64>,
}

#[derive(Clone)]
struct Analyzed {
    analysis: Rc<Analysis>,
    excluded: bool,
    /// Distinguishes it from those before.
    number: u64,
}

/// The server's state.
pub struct Server {
    phase: Phase,
    client: Client,
    encoding: Encoding,
    workspace: Workspace,
    documents: BTreeMap<String, Document>,
    /// Open files that are no recipes.
    foreign: BTreeSet<String>,
    /// Faults of configurations that were shown.
    told: BTreeSet<String>,
    requests: u64,
    analyses: u64,
    exit: Option<u8>,
    host: Box<dyn Host>,
}

type Answer = Result<Value, Failure>;

impl Server {
    /// A server that waits for `initialize`.
    pub fn new(host: Box<dyn Host>) -> Self {
        Self {
            phase: Phase::New,
            client: Client::default(),
            encoding: Encoding::default(),
            workspace: Workspace::default(),
            documents: BTreeMap::new(),
            foreign: BTreeSet::new(),
            told: BTreeSet::new(),
            requests: 0,
            analyses: 0,
            exit: None,
            host,
        }
    }

    /// The exit code, once the client has asked to exit.
    pub const fn exit_code(&self) -> Option<u8> {
        self.exit
    }

    /// When [`Server::tick`] has something to do; a time of the host.
    pub fn deadline(&self) -> Option<u64> {
        self.documents.values().filter_map(|document| document.due).min()
    }

    /// Sends findings that are due.
    pub fn tick(&mut self) -> Vec<Value> {
        let now = self.host.now();
        let due = self.documents.iter().filter(|(_, one)| one.due.is_some_and(|due| due <= now));
        let names: Vec<String> = due.map(|(name, _)| name.clone()).collect();
        let mut out = Vec::new();
        for name in names {
            if let Some(document) = self.documents.get_mut(&name) {
                document.due = None;
            }
            match catch_unwind(AssertUnwindSafe(|| self.publish(&name))) {
                Ok(messages) => out.extend(messages),
                Err(panic) => out.push(fault(&panic)),
            }
        }
        out
    }

    /// Takes one message and gives those to send. Never panics.
    pub fn handle(&mut self, message: Message) -> Vec<Value> {
        match message {
            Message::Request { id, method, params } => {
                let answer = catch_unwind(AssertUnwindSafe(|| self.request(&method, &params)));
                let answer = answer.unwrap_or_else(|panic| {
                    Err(Failure::new(Failure::INTERNAL, format!("{method}: {}", words(&panic))))
                });
                let mut out = vec![match answer {
                    Ok(result) => message::answered(&id, result),
                    Err(failure) => message::failed(&id, &failure),
                }];
                out.extend(self.tell_faults());
                out
            }
            Message::Notification { method, params } => {
                let done = catch_unwind(AssertUnwindSafe(|| self.notification(&method, &params)));
                done.unwrap_or_else(|panic| vec![fault(&panic)])
            }
            // Whether the client watches files or not is its business.
            Message::Response { .. } => Vec::new(),
        }
    }

    fn request(&mut self, method: &str, params: &Value) -> Answer {
        match (self.phase, method) {
            (Phase::New, "initialize") => {
                let (client, encoding) = capabilities::read(params);
                (self.client, self.encoding) = (client, encoding);
                let folders = params["workspaceFolders"].as_array().map(Vec::as_slice).unwrap_or_default();
                for folder in folders.iter().filter_map(|folder| folder["uri"].as_str()) {
                    self.workspace.add(folder);
                }
                if let Some(root) = params["rootUri"].as_str().filter(|_| folders.is_empty()) {
                    self.workspace.add(root);
                }
                self.phase = Phase::Running;
                return Ok(capabilities::answer(client, encoding));
            }
            (Phase::New, _) => {
                return Err(Failure::new(Failure::NOT_INITIALIZED, "the first request is initialize"));
            }
            (Phase::Running, "initialize") => {
                return Err(Failure::new(Failure::INVALID_REQUEST, "initialize comes once"));
            }
            (Phase::ShutDown, _) => {
                return Err(Failure::new(Failure::INVALID_REQUEST, "the server is shutting down"));
            }
            (Phase::Running, "shutdown") => {
                self.phase = Phase::ShutDown;
                return Ok(Value::Null);
            }
            (Phase::Running, _) => {}
        }
        let known = method.starts_with("textDocument/");
        if !known {
            return Err(no_method(method));
        }
        let name = message::text(params, "/textDocument/uri")?.to_owned();
        if self.foreign.contains(&name) {
            return Ok(Value::Null);
        }
        if !self.documents.contains_key(&name) {
            // Methods that there are not are said to be so first.
            return match is_method(method) {
                true => Err(Failure::new(Failure::INVALID_PARAMS, format!("{name} is not open"))),
                false => Err(no_method(method)),
            };
        }
        let analyzed = self.analyze(&name).ok_or_else(|| Failure::params("/textDocument/uri"))?;
        let document = self.documents.get(&name).ok_or_else(|| Failure::params("/textDocument/uri"))?;
        let view = View {
            uri: &name,
            path: document.path.as_deref(),
            version: document.version,
            text: &document.text,
            analysis: &analyzed.analysis,
            host: self.host.as_ref(),
            client: self.client,
        };
        answer(method, params, &view, &analyzed)
    }

    fn notification(&mut self, method: &str, params: &Value) -> Vec<Value> {
        match (self.phase, method) {
            (phase, "exit") => {
                self.exit = Some(u8::from(phase != Phase::ShutDown));
                return Vec::new();
            }
            (Phase::Running, _) => {}
            _ => return Vec::new(),
        }
        let name = params.pointer("/textDocument/uri").and_then(Value::as_str).unwrap_or_default();
        match method {
            "initialized" if self.client.watches => {
                return vec![self.ask("client/registerCapability", capabilities::watchers())];
            }
            "textDocument/didOpen" => self.open(name, &params["textDocument"]),
            "textDocument/didChange" => self.change(name, params),
            "textDocument/didClose" => return self.close(name),
            "textDocument/didSave" => {
                // Whoever saves may have changed the configuration before, and not every client watches files.
                self.workspace.forget();
                self.renew(name);
            }
            "workspace/didChangeWatchedFiles" => {
                let changes = params["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
                if changes.iter().filter_map(|change| change["uri"].as_str()).any(workspace::matters) {
                    return self.renew_all();
                }
            }
            "workspace/didChangeConfiguration" => return self.renew_all(),
            "workspace/didChangeWorkspaceFolders" => {
                let each = |list: &str| {
                    let list = params["event"][list].as_array().cloned().unwrap_or_default();
                    list.into_iter().filter_map(|folder| folder["uri"].as_str().map(str::to_owned))
                };
                each("removed").for_each(|folder| self.workspace.remove(&folder));
                each("added").for_each(|folder| self.workspace.add(&folder));
                return self.renew_all();
            }
            _ => {}
        }
        Vec::new()
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.requests += 1;
        message::request(self.requests, method, params)
    }

    fn open(&mut self, name: &str, document: &Value) {
        let Some(text) = document["text"].as_str() else { return };
        let language = document["languageId"].as_str().unwrap_or_default().to_ascii_lowercase();
        let file = name.rsplit('/').next().unwrap_or(name);
        let is_recipe = ["dockerfile", "containerfile", "docker", ""].contains(&language.as_str())
            || project::is_recipe(file);
        if !is_recipe {
            self.foreign.insert(name.to_owned());
            return;
        }
        self.workspace.forget();
        let document = Document {
            version: document["version"].as_i64(),
            text: Text::new(text, self.encoding),
            path: uri::path_of(name),
            analysis: None,
            due: (!self.client.pulls).then(|| self.host.now()),
        };
        self.documents.insert(name.to_owned(), document);
    }

    fn change(&mut self, name: &str, params: &Value) {
        let now = self.host.now();
        let (pulls, encoding) = (self.client.pulls, self.encoding);
        let Some(document) = self.documents.get_mut(name) else { return };
        document.version =
            params.pointer("/textDocument/version").and_then(Value::as_i64).or(document.version);
        for change in params["contentChanges"].as_array().into_iter().flatten() {
            let Some(text) = change["text"].as_str() else { continue };
            match document.text.bytes(&change["range"]) {
                Some(range) => document.text.replace(range, text),
                None => document.text = Text::new(text, encoding),
            }
        }
        document.analysis = None;
        let quiet = if document.text.as_str().len() > LARGE { QUIET_LARGE } else { QUIET };
        document.due = (!pulls).then_some(now + quiet);
    }

    fn close(&mut self, name: &str) -> Vec<Value> {
        self.foreign.remove(name);
        match self.documents.remove(name) {
            Some(_) if !self.client.pulls => {
                vec![message::notification(
                    "textDocument/publishDiagnostics",
                    json!({"uri": name, "diagnostics": []}),
                )]
            }
            _ => Vec::new(),
        }
    }

    /// Looks at a recipe anew.
    fn renew(&mut self, name: &str) {
        let now = self.host.now();
        let pulls = self.client.pulls;
        if let Some(document) = self.documents.get_mut(name) {
            document.analysis = None;
            document.due = (!pulls).then_some(now);
        }
    }

    fn renew_all(&mut self) -> Vec<Value> {
        self.workspace.forget();
        self.told.clear();
        let names: Vec<String> = self.documents.keys().cloned().collect();
        names.iter().for_each(|name| self.renew(name));
        match self.client.pulls {
            true => vec![self.ask("workspace/diagnostic/refresh", Value::Null)],
            false => Vec::new(),
        }
    }

    fn analyze(&mut self, name: &str) -> Option<Analyzed> {
        let document = self.documents.get_mut(name)?;
        if let Some(known) = &document.analysis {
            return Some(known.clone());
        }
        let setup = self.workspace.setup(name, self.host.as_ref());
        let file = name.rsplit('/').next().unwrap_or(name);
        self.analyses += 1;
        let analyzed = Analyzed {
            analysis: Rc::new(Analysis::new(file, document.text.as_str(), setup.options)),
            excluded: setup.excluded,
            number: self.analyses,
        };
        document.analysis = Some(analyzed.clone());
        Some(analyzed)
    }

    fn publish(&mut self, name: &str) -> Vec<Value> {
        let Some(analyzed) = self.analyze(name) else { return Vec::new() };
        let Some(document) = self.documents.get(name) else { return Vec::new() };
        let view = View {
            uri: name,
            path: document.path.as_deref(),
            version: document.version,
            text: &document.text,
            analysis: &analyzed.analysis,
            host: self.host.as_ref(),
            client: self.client,
        };
        let findings = if analyzed.excluded { Vec::new() } else { diagnostics::all(&view) };
        let params = json!({"uri": name, "version": document.version, "diagnostics": findings});
        let mut out = vec![message::notification("textDocument/publishDiagnostics", params)];
        out.extend(self.tell_faults());
        out
    }

    /// What is wrong with configurations, once each.
    fn tell_faults(&mut self) -> Vec<Value> {
        let faults = self.workspace.faults();
        let new: Vec<String> = faults.into_iter().filter(|fault| !self.told.contains(fault)).collect();
        self.told.extend(new.iter().cloned());
        new.into_iter()
            .map(|fault| message::notification("window/showMessage", json!({"type": 2, "message": fault})))
            .collect()
    }
}

fn no_method(method: &str) -> Failure {
    Failure::new(Failure::NO_METHOD, format!("there is no method {method}"))
}

/// Every method about a document.
const METHODS: [&str; 18] = [
    "signatureHelp",
    "diagnostic",
    "codeAction",
    "formatting",
    "rangeFormatting",
    "hover",
    "completion",
    "documentSymbol",
    "definition",
    "declaration",
    "references",
    "documentHighlight",
    "prepareRename",
    "rename",
    "foldingRange",
    "selectionRange",
    "documentLink",
    "semanticTokens",
];

fn is_method(method: &str) -> bool {
    method
        .strip_prefix("textDocument/")
        .is_some_and(|rest| METHODS.contains(&rest.split('/').next().unwrap_or_default()))
}

fn answer(method: &str, params: &Value, view: &View<'_>, analyzed: &Analyzed) -> Answer {
    let at = || {
        let position = Position::read(&params["position"]).ok_or_else(|| Failure::params("/position"))?;
        Ok(view.text.offset(position))
    };
    let range = || view.text.bytes(&params["range"]).ok_or_else(|| Failure::params("/range"));
    Ok(match method.strip_prefix("textDocument/").unwrap_or_default() {
        "diagnostic" => {
            let number = analyzed.number.to_string();
            match params["previousResultId"].as_str() == Some(&number) {
                true => json!({"kind": "unchanged", "resultId": number}),
                false => {
                    let items = if analyzed.excluded { Vec::new() } else { diagnostics::all(view) };
                    json!({"kind": "full", "resultId": number, "items": items})
                }
            }
        }
        "codeAction" => match analyzed.excluded {
            true => json!([]),
            false => {
                let only = params.pointer("/context/only").and_then(Value::as_array);
                let automatic = params.pointer("/context/triggerKind").and_then(Value::as_u64) == Some(2);
                let asked = match (only, automatic) {
                    (Some(kinds), _) => actions::Asked::Kinds(kinds),
                    (None, true) => actions::Asked::Glance,
                    (None, false) => actions::Asked::All,
                };
                Value::Array(actions::all(view, range()?, asked))
            }
        },
        "formatting" => format::document(view).map_or(Value::Null, |edits| view.text_edits(&edits).into()),
        "rangeFormatting" => {
            format::range(view, range()?).map_or(Value::Null, |edits| view.text_edits(&edits).into())
        }
        "hover" => match hover::at(view, at()?) {
            Some((text, range)) => {
                let kind = if view.client.markdown { "markdown" } else { "plaintext" };
                json!({"contents": {"kind": kind, "value": text}, "range": view.text.range(range)})
            }
            None => Value::Null,
        },
        "completion" => json!({"isIncomplete": false, "items": completion::at(view, at()?)}),
        "signatureHelp" => signature::at(view, at()?).unwrap_or_default(),
        "documentSymbol" => outline::symbols(view).into(),
        "definition" | "declaration" => {
            navigate::definition(view, at()?).map_or(Value::Null, |range| view.location(range))
        }
        "references" => {
            let declarations = params.pointer("/context/includeDeclaration").and_then(Value::as_bool);
            navigate::references(view, at()?, declarations.unwrap_or(true)).into()
        }
        "documentHighlight" => navigate::highlights(view, at()?).into(),
        "prepareRename" => match rename::prepare(view, at()?)? {
            Some((range, name)) => json!({"range": view.text.range(range), "placeholder": name}),
            None => Value::Null,
        },
        "rename" => {
            let edits = rename::rename(view, at()?, message::text(params, "/newName")?)?;
            view.workspace_edit(&edits)
        }
        "foldingRange" => folding::ranges(view).into(),
        "selectionRange" => {
            let positions = params["positions"].as_array().ok_or_else(|| Failure::params("/positions"))?;
            let positions = positions.iter().map(|position| {
                let position = Position::read(position).ok_or_else(|| Failure::params("/positions"))?;
                Ok(folding::selection(view, view.text.offset(position)))
            });
            Value::Array(positions.collect::<Result<_, Failure>>()?)
        }
        "documentLink" => links::all(view).into(),
        "semanticTokens/full" => json!({"data": tokens::encoded(view, None)}),
        "semanticTokens/range" => json!({"data": tokens::encoded(view, Some(range()?))}),
        _ => return Err(no_method(method)),
    })
}

/// A panic in words.
fn words(panic: &Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    format!("internal error: {text}; please report it")
}

fn fault(panic: &Box<dyn std::any::Any + Send>) -> Value {
    message::notification("window/logMessage", json!({"type": 1, "message": words(panic)}))
}
