//! What is fuzzed: functions that take any bytes and panic where a promise is broken.
//!
//! Two drivers share them: the targets of libFuzzer in `fuzz/`, and `tests/short.rs`, which mutates seeds by a
//! small generator of its own on any compiler, for some seconds in every run of the tests.
//!
//! Deliberately not here: anything that ships.
#![forbid(unsafe_code)]

mod archive;
mod image;
mod machine;
mod recipe;
mod wim;

pub use archive::{extract, layer};
pub use image::{config, document, platform, reference};
pub use machine::{mountinfo, passwd, records};
pub use recipe::{ignore, parse, word};
pub use wim::{tree as wim_tree, wim};

/// A function and the name of its target.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("archive_extract", extract),
    ("archive_layer", layer),
    ("dockerfile_ignore", ignore),
    ("dockerfile_parse", parse),
    ("dockerfile_word", word),
    ("image_config", config),
    ("image_document", document),
    ("image_platform", platform),
    ("image_reference", reference),
    ("machine_mountinfo", mountinfo),
    ("machine_passwd", passwd),
    ("store_records", records),
    ("wim_file", wim),
    ("wim_tree", wim_tree),
];
