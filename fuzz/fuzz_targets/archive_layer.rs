//! Layers of images; see `fuzzing::layer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::layer(bytes));
