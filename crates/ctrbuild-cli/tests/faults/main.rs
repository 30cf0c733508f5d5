//! Faults that the store must outlive, against the real program: kills, full and failing disks, damage, crowds,
//! power loss, bad networks. docs/faults.md says which promise each of them holds.
//!
//! The forms here are short: samples that a seed chooses. `CTRBUILD_TORTURE=long`, as `cargo xtask torture` sets
//! it, makes them whole. A test that needs what the machine lacks says `skipped: …` and passes.

mod crowd;
mod damage;
mod disk;
mod kill;
mod lab;
#[allow(dead_code)]
#[path = "../e2e/place.rs"]
mod place;
mod power;
mod proxy;
mod registry;
mod signals;
