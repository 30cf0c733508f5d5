//! passwd and group; see `fuzzing::passwd`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::passwd(bytes));
