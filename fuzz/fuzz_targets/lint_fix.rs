//! Any text is linted; its fixes apply, break nothing, and leave nothing for a second time.
#![no_main]

use diagnostic::SourceFile;
use libfuzzer_sys::fuzz_target;
use lint::fix::{Which, fix};
use lint::{Options, Profile};

fuzz_target!(|text: &str| {
    let options = Options::of(Profile::All);
    let parsed = dockerfile::parse(SourceFile::new("Dockerfile", text));
    for finding in lint::lint(&parsed, &options).findings {
        let range = finding.diagnostic.range;
        assert!(parsed.source.text().get(range.as_usize()).is_some());
        if let Some(fix) = &finding.diagnostic.fix {
            assert!(fix.apply(parsed.source.text()).is_some());
        }
    }
    for which in [Which::Safe, Which::All] {
        let outcome = fix(&parsed, &options, which);
        let next = dockerfile::parse(SourceFile::new("Dockerfile", outcome.text.clone()));
        assert!(next.errors.len() <= parsed.errors.len());
        assert_eq!(next.statements.len(), parsed.statements.len());
        assert_eq!(fix(&next, &options, which).text, outcome.text);
    }
});
