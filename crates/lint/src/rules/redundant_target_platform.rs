//! --platform=$TARGETPLATFORM is the default.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "RedundantTargetPlatform",
    aliases: &[],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "--platform=$TARGETPLATFORM is the default",
    why: "FROM takes the target platform by itself.",
    bad: r#"FROM --platform=$TARGETPLATFORM alpine:3.20
"#,
    good: r#"FROM alpine:3.20
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let text = cx.source().text();
    out.events_with(Check::RedundantTargetPlatform, |event, finding| {
        let range = event.detail.unwrap_or(event.range);
        let Some(rest) = text.get(range.end as usize..) else { return };
        let blanks = rest.bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count() as u32;
        if text.get(range.as_usize()).is_some_and(|flag| flag.starts_with("--platform=")) && blanks > 0 {
            let range = TextRange::new(range.start, range.end + blanks);
            finding.fix(Fix::replace("drop the flag", Applicability::Safe, range, ""));
        }
    });
}
