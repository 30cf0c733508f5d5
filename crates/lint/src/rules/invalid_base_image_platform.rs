//! The platform of a base image should be the one that is built for.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "InvalidBaseImagePlatform",
    aliases: &[],
    group: Group::Buildkit,
    severity: Severity::Warning,
    default: Default::On,
    summary: "The platform of a base image should be the one that is built for",
    why: "A base of another platform makes an image that does not run. Only a build, which has the image, can tell; this check never fires without one.",
    bad: "",
    good: r#"FROM alpine:3.20
"#,
    check,
};

fn check(_: &Context<'_>, out: &mut Sink<'_>) {
    out.events(Check::InvalidBaseImagePlatform);
}
