//! The answers, one file a kind. Each is a plain function of what is known of a recipe.

pub mod actions;
pub mod completion;
mod completion_items;
pub mod diagnostics;
pub mod folding;
pub mod format;
pub mod hover;
pub mod links;
pub mod navigate;
pub mod outline;
pub mod rename;
pub mod signature;
pub mod tokens;

use crate::analysis::Analysis;
use crate::host::Host;
use crate::text::Text;
use diagnostic::TextRange;
use serde_json::{Value, json};
use std::path::Path;

/// One open recipe.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Its address.
    pub uri: &'a str,
    /// Its file, if it has one.
    pub path: Option<&'a Path>,
    /// Its version.
    pub version: Option<i64>,
    /// Its text.
    pub text: &'a Text,
    /// What is known of it.
    pub analysis: &'a Analysis,
    /// Other files.
    pub host: &'a dyn Host,
    /// What the client can do.
    pub client: Client,
}

/// What matters of a client's capabilities.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client {
    /// It wants edits with the version they are for.
    pub versioned_edits: bool,
    /// It shows Markdown.
    pub markdown: bool,
    /// It shows where else a finding matters.
    pub related: bool,
    /// It asks for diagnostics itself.
    pub pulls: bool,
    /// It watches files when told to.
    pub watches: bool,
    /// It shows a tree of symbols.
    pub tree: bool,
}

impl View<'_> {
    /// A set of changes of this document.
    pub fn workspace_edit(&self, edits: &[(TextRange, String)]) -> Value {
        let edits = self.text_edits(edits);
        match self.client.versioned_edits {
            true => json!({"documentChanges": [{
                "textDocument": {"uri": self.uri, "version": self.version},
                "edits": edits,
            }]}),
            false => json!({"changes": {self.uri: edits}}),
        }
    }

    /// Changes as the protocol has them.
    pub fn text_edits(&self, edits: &[(TextRange, String)]) -> Vec<Value> {
        edits.iter().map(|(range, text)| json!({"range": self.text.range(*range), "newText": text})).collect()
    }

    /// A place in this document.
    pub fn location(&self, range: TextRange) -> Value {
        json!({"uri": self.uri, "range": self.text.range(range)})
    }

    /// The source bytes of a range.
    pub fn slice(&self, range: TextRange) -> &str {
        self.text.as_str().get(range.as_usize()).unwrap_or_default()
    }
}
