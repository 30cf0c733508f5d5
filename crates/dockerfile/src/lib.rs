//! The recipe language: from bytes to typed instructions, and what goes with it.
//!
//! [`parse`] never fails: it gives a lossless tree, the recipe as far as it could be understood, and what is
//! wrong with it. Everything in this crate is pure; nothing reads a file, a clock or the environment.
//! Facts follow BuildKit's Dockerfile frontend; where a behaviour is an accident of it, a comment says so.
//! Not here: which variables exist, what a base image is, what an instruction does (crate `plan`).

#![forbid(unsafe_code)]

pub mod chmod;
#[cfg(feature = "codegen")]
pub mod codegen;
pub mod error;
pub mod glob;
pub mod ignore;
pub mod instruction;
pub mod port;
mod recipe;
pub mod signal;
pub mod syntax;
pub mod view;
pub mod word;

pub use error::{ErrorKind, Phase, RecipeError};
pub use instruction::*;
pub use recipe::{Parsed, TriggerError, parse, parse_instruction};
