//! What ADD unpacks; see `fuzzing::extract`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::extract(bytes));
