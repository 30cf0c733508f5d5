//! Any text is an ignore file: a walk and a question agree, and what is skipped holds nothing that is kept.
#![no_main]

use dockerfile::ignore::{FolderState, Matcher, clean, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (file, path) = input;
    let Ok(patterns) = read(file) else { return };
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
});
