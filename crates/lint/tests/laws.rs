//! What must hold for any text at all.

use diagnostic::SourceFile;
use lint::{Options, Profile};
use proptest::prelude::*;

/// Lines that look like recipes, and some that do not.
fn recipe() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("FROM alpine:3.20 as build".to_owned()),
        Just("from --platform=$TARGETPLATFORM b\\".to_owned()),
        Just("RUN apt-get install x && `cat a` | tee $b \\".to_owned()),
        Just("RUN <<EOF\nexport a=$(b)\n! c\nEOF".to_owned()),
        Just("ENV a b c".to_owned()),
        Just("# hadolint ignore=DL3008".to_owned()),
        Just("# check=skip=all".to_owned()),
        Just("CMD [ 'a', \"b\" ]".to_owned()),
        Just("COPY --from=0 a b".to_owned()),
        Just("ONBUILD RUN sudo ls *.a".to_owned()),
        Just("MAINTAINER \"a\" é".to_owned()),
        Just("".to_owned()),
        "[ -~]{0,40}",
        "(RUN|ENV|ADD|EXPOSE|LABEL|SHELL|USER|WORKDIR) .{0,30}",
    ];
    prop::collection::vec(line, 0..14).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn findings_lie_inside(text in recipe()) {
        let parsed = dockerfile::parse(SourceFile::new("Dockerfile", text.clone()));
        for profile in [Profile::Default, Profile::Buildkit, Profile::Hadolint, Profile::All] {
            for finding in lint::lint(&parsed, &Options::of(profile)).findings {
                let range = finding.diagnostic.range;
                prop_assert!(range.end as usize <= text.len() && text.get(range.as_usize()).is_some(), "{:?}", finding);
                if let Some(fix) = &finding.diagnostic.fix {
                    prop_assert!(fix.apply(&text).is_some(), "{:?}", finding);
                }
            }
        }
    }

    #[test]
    fn fixes_and_formats_pass_the_gate(text in recipe()) {
        let parsed = dockerfile::parse(SourceFile::new("Dockerfile", text));
        let outcome = lint::fix::fix(&parsed, &Options::of(Profile::All), lint::fix::Which::All);
        let fixed = dockerfile::parse(SourceFile::new("Dockerfile", outcome.text.clone()));
        prop_assert!(fixed.errors.len() <= parsed.errors.len());
        if let Ok(formatted) = lint::fmt::format(&parsed) {
            let next = dockerfile::parse(SourceFile::new("Dockerfile", formatted.text.clone()));
            prop_assert_eq!(lint::gate::same(&parsed, &next, &Default::default()), Ok(()));
            let again = lint::fmt::format(&next).map(|again| again.text);
            prop_assert_eq!(again.ok(), Some(formatted.text));
        }
    }

    #[test]
    fn any_shell_text_is_read(text in "[ -~\\n]{0,80}") {
        let tree = lint::shell::parser::parse(&text);
        prop_assert!(tree.error.is_none_or(|at| at as usize <= text.len()));
    }

    #[test]
    fn any_unicode_is_read(text in "\\PC{0,60}") {
        lint::shell::parser::parse(&text);
        let parsed = dockerfile::parse(SourceFile::new("Dockerfile", format!("FROM a\nRUN {text}\n")));
        lint::lint(&parsed, &Options::of(Profile::All));
    }
}

#[test]
fn time_is_bounded() {
    for text in [
        "$(".repeat(20_000),
        "`".repeat(20_000),
        "(".repeat(20_000),
        "${".repeat(20_000),
        "a|".repeat(20_000),
        "if ".repeat(20_000),
        "\"$(".repeat(10_000),
        "{ ".repeat(20_000),
    ] {
        let start = std::time::Instant::now();
        lint::shell::parser::parse(&text);
        assert!(start.elapsed().as_secs() < 5, "{}", &text[..6]);
    }
}

/// Many variables, stages or findings take time that grows with the text and not with its square.
#[test]
fn large_recipes_end() {
    let many = |line: &dyn Fn(usize) -> String| (0..20_000).map(line).collect::<String>();
    for text in [
        format!("FROM a\n{}", many(&|n| format!("ENV v{n}=1\n"))),
        many(&|n| format!("FROM a{n} as s{n}\nCOPY --from=s{} a b\n", n / 2)),
        format!("FROM a\n{}", many(&|n| format!("CMD x{n}\n"))),
    ] {
        let start = std::time::Instant::now();
        let parsed = dockerfile::parse(SourceFile::new("Dockerfile", text));
        lint::lint(&parsed, &Options::default());
        assert!(start.elapsed().as_secs() < 60, "{} s", start.elapsed().as_secs());
    }
}
