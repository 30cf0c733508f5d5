//! Metadata of Windows image files; see `fuzzing::wim_tree`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::wim_tree(bytes));
