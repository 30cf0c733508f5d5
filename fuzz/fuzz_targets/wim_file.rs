//! Windows image files; see `fuzzing::wim`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::wim(bytes));
