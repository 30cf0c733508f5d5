//! References and digests; see `fuzzing::reference`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::reference(bytes));
