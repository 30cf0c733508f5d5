//! Whole commands: standard output, standard error, exit codes and what is left on disk.
//!
//! One program, so that it is linked once. A test that needs what a machine may lack (root, busybox, a
//! registry) says `skipped: …` and passes; `cargo xtask test` counts those.

mod build;
mod cache;
mod containers;
mod contexts;
mod errors;
mod examples;
mod images;
mod lineage;
mod os_image;
mod outputs;
mod place;
mod plan;
mod plan_snapshot;
mod registry;
mod relink;
mod rmi;
mod rootless;
mod search;
mod secrets;
mod signals;
mod space;
mod terminal;
mod wim;
mod windows;
