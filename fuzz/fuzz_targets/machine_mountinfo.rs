//! The table of mounts; see `fuzzing::mountinfo`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::mountinfo(bytes));
