//! Source files, byte ranges and diagnostics, and how they are shown.
//!
//! Invariants: a [`TextRange`] always counts bytes of [`SourceFile::text`]; a renderer never panics on a
//! range that lies outside the text, and never passes a control character of the text on to a terminal.
//! Not here: what is wrong with a recipe (crates `dockerfile` and `lint` say that).

#![forbid(unsafe_code)]

mod distance;
mod json;
mod message;
mod source;
mod terminal;

pub use distance::distance;
pub use json::{to_json, to_json_line};
pub use message::{Applicability, Diagnostic, Edit, Fix, Label, Severity};
pub use source::{Position, SourceFile, TextRange};
pub use terminal::{Color, escape_json, render, render_all, sanitize, sanitize_lines};
