//! Records of the store; see `fuzzing::records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::records(bytes));
