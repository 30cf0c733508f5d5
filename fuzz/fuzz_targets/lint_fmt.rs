//! Any text that is a recipe is formatted without changing what it says, and only once.
#![no_main]

use diagnostic::SourceFile;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;

fuzz_target!(|text: &str| {
    let parsed = dockerfile::parse(SourceFile::new("Dockerfile", text));
    let Ok(formatted) = lint::fmt::format(&parsed) else { return };
    let next = dockerfile::parse(SourceFile::new("Dockerfile", formatted.text.clone()));
    assert!(!next.has_errors());
    assert_eq!(lint::gate::same(&parsed, &next, &BTreeSet::new()), Ok(()));
    assert_eq!(lint::fmt::format(&next).map(|again| again.text), Ok(formatted.text));
});
