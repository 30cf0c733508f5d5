//! A language server for recipes: what editors ask over LSP, answered from the parser and the linter.
//!
//! [`Server`] is pure: [`Server::handle`] takes one message and gives the messages to send; files and time come
//! from a [`Host`]. Framing, queueing with cancellation and JSON-RPC are here too, reading standard input is
//! not: that is the command line's.
//! Invariants: positions are in the encoding that was agreed upon; edits that claim to keep the meaning passed
//! the gate of crate `lint`, or the proof of [`features::rename`]; a panic costs one answer.
//! The protocol's types are not taken from a crate: of some hundred this needs a few fields each, and
//! `lsp-types` would be the largest dependency of the whole program for them.

#![forbid(unsafe_code)]

pub mod analysis;
mod capabilities;
pub mod edits;
pub mod features;
pub mod frame;
pub mod host;
pub mod index;
pub mod message;
pub mod queue;
pub mod scan;
mod server;
pub mod text;
pub mod uri;
mod workspace;

pub use host::{Entry, Host};
pub use message::Message;
pub use queue::Queue;
pub use server::Server;
