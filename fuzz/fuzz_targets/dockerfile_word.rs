//! Any text is a word: expansion never panics and keeps its limits.
#![no_main]

use dockerfile::word::{Lexer, MAX_WORD_BYTES};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

fuzz_target!(|input: (&str, &str, bool)| {
    let (word, value, backtick) = input;
    let variables = BTreeMap::from([("a".to_owned(), value.to_owned()), ("b".to_owned(), String::new())]);
    let lexer = Lexer::new(if backtick { '`' } else { '\\' });
    if let Ok(expansion) = lexer.expand(word, &variables) {
        assert!(expansion.text.len() <= MAX_WORD_BYTES);
    }
    let _ = lexer.words(word, &variables);
    let _ = Lexer::for_body().expand(word, &variables);
});
