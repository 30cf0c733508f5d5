//! Any bytes are a recipe: parsing never panics, and the tree gives the bytes back.
#![no_main]

use diagnostic::{Color, SourceFile, render_all};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let parsed = dockerfile::parse(SourceFile::from_bytes("Dockerfile", bytes));
    assert_eq!(parsed.source.to_bytes(), bytes);
    assert_eq!(parsed.print(), parsed.source.text());
    let shown = render_all(&parsed.source, &parsed.diagnostics, Color::Never);
    assert!(!shown.contains('\x1b'));
    dockerfile::view::buildkit_json("Dockerfile", &parsed);
    let _ = dockerfile::parse_instruction(parsed.source.text());
});
