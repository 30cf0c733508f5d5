//! Ignore files; see `fuzzing::ignore`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::ignore(bytes));
