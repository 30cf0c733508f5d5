//! Steps of real builds: attacks that must stay inside, and what the executor offers beside plain RUN.
//!
//! Everything is done twice, as root and as an ordinary user that the tests make for themselves, unless it
//! needs what only one of them has. A test that needs what the machine lacks says `skipped: …` and passes.

mod attacks;
mod builder;
mod foreign;
mod layouts;
mod limits;
mod mounts;
mod network;
#[allow(dead_code)]
#[path = "../e2e/place.rs"]
mod place;
mod shell;
mod signals;
mod snapshotters;
mod steps;
mod world;
