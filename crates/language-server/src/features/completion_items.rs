//! One proposal of a completion.

use super::View;
use diagnostic::TextRange;
use serde_json::{Value, json};

/// Kinds of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Variable = 6,
    Class = 7,
    Property = 10,
    Value = 12,
    Keyword = 14,
    File = 17,
    Folder = 19,
}

/// A proposal.
#[derive(Clone, Debug)]
pub struct Item {
    pub label: String,
    pub kind: Kind,
    pub detail: String,
    pub documentation: String,
    /// What replaces the unfinished word.
    pub insert: String,
}

impl Item {
    pub fn new(label: impl Into<String>, kind: Kind) -> Self {
        let label = label.into();
        Self { insert: label.clone(), label, kind, detail: String::new(), documentation: String::new() }
    }

    pub fn detail(mut self, text: impl Into<String>) -> Self {
        self.detail = text.into();
        self
    }

    pub fn documentation(mut self, text: impl Into<String>) -> Self {
        self.documentation = text.into();
        self
    }

    pub fn insert(mut self, text: impl Into<String>) -> Self {
        self.insert = text.into();
        self
    }

    /// As JSON; `order` keeps proposals in the order they were made.
    pub fn json(self, view: &View<'_>, range: TextRange, order: usize) -> Value {
        let mut out = json!({
            "label": self.label,
            "kind": self.kind as u32,
            "sortText": format!("{order:04}"),
            "filterText": self.label,
            "textEdit": {"range": view.text.range(range), "newText": self.insert},
        });
        if !self.detail.is_empty() {
            out["detail"] = json!(self.detail);
        }
        if !self.documentation.is_empty() {
            let kind = if view.client.markdown { "markdown" } else { "plaintext" };
            out["documentation"] = json!({"kind": kind, "value": self.documentation});
        }
        out
    }
}
