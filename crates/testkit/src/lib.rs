//! Doubles for tests: an in-process registry that can misbehave, a real one as a process, and builders of
//! small images and Windows image files.
//!
//! Invariants: everything listens on loopback only and ends with the value that owns it.
//!
//! Deliberately not here: anything that ships.
#![forbid(unsafe_code)]

mod http;
mod image;
mod process;
mod registry;
mod rule;
mod wim;

pub use image::{TestImage, image, index, layer_tar};
pub use process::{Access, RegistryProcess};
pub use registry::{Auth, Recorded, TestRegistry};
pub use rule::{Action, Rule};
pub use wim::{WimImage, WimNode, wim};
