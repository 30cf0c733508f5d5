//! The language: recipes, words, ignore files.

use diagnostic::{Color, SourceFile, render_all};
use dockerfile::ignore::{FolderState, Matcher, clean, read};
use dockerfile::word::{Lexer, MAX_WORD_BYTES};
use std::collections::BTreeMap;

/// Any bytes are a recipe: parsing never panics, and the tree gives the bytes back.
pub fn parse(bytes: &[u8]) {
    let parsed = dockerfile::parse(SourceFile::from_bytes("Dockerfile", bytes));
    assert_eq!(parsed.source.to_bytes(), bytes);
    assert_eq!(parsed.print(), parsed.source.text());
    let shown = render_all(&parsed.source, &parsed.diagnostics, Color::Never);
    assert!(!shown.contains('\x1b'));
    dockerfile::view::buildkit_json("Dockerfile", &parsed);
    let _ = dockerfile::parse_instruction(parsed.source.text());
}

/// The part before the first zero byte, and the part after it.
fn halves(bytes: &[u8]) -> (String, String) {
    let at = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    (text(&bytes[..at]), text(bytes.get(at + 1..).unwrap_or_default()))
}

/// Any text is a word: expansion never panics and keeps its limits.
pub fn word(bytes: &[u8]) {
    let (word, value) = halves(bytes);
    let variables = BTreeMap::from([("a".to_owned(), value), ("b".to_owned(), String::new())]);
    let lexer = Lexer::new(if bytes.len().is_multiple_of(2) { '`' } else { '\\' });
    if let Ok(expansion) = lexer.expand(&word, &variables) {
        assert!(expansion.text.len() <= MAX_WORD_BYTES);
    }
    let _ = lexer.words(&word, &variables);
    let _ = Lexer::for_body().expand(&word, &variables);
}

/// Any text is an ignore file: a walk and a question agree, and what is skipped holds nothing that is kept.
pub fn ignore(bytes: &[u8]) {
    let (file, path) = halves(bytes);
    let Ok(patterns) = read(&file) else { return };
    let Ok(matcher) = Matcher::new(&patterns) else { return };
    let path = clean(path.trim_start_matches('/'));
    if path.starts_with("..") || path.contains('\n') {
        return;
    }
    let mut state = FolderState::default();
    let mut skipped = false;
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        let (ignored, next) = matcher.matches_in(&path[..end], &state);
        assert!(ignored || !skipped, "{patterns:?} skips {path}");
        skipped |= ignored && matcher.can_skip(&path[..end]);
        state = next;
    }
    let _ = matcher.matches_or_parent(&path);
}
