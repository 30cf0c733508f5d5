//! A cache of binaries should be kept apart by platform.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "cache-id-platform",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Info,
    default: Default::On,
    summary: "A cache of binaries should be kept apart by platform",
    why: "Builds for several platforms write to the same cache at once. Put $TARGETPLATFORM into the id where the recipe is for several.",
    bad: r#"FROM --platform=$BUILDPLATFORM golang:1.23 AS build
ARG TARGETARCH
RUN --mount=type=cache,id=apt,target=/var/cache/apt GOARCH=$TARGETARCH go build
"#,
    good: r#"FROM --platform=$BUILDPLATFORM golang:1.23 AS build
ARG TARGETARCH
RUN --mount=type=cache,id=apt-$TARGETARCH,target=/var/cache/apt GOARCH=$TARGETARCH go build
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let by_arch = [
        "/var/cache/apt",
        "/var/lib/apt",
        "/var/cache/dnf",
        "/var/cache/apk",
        "/var/cache/yum",
        "/etc/apk/cache",
    ];
    for (node, run, _) in cx.runs() {
        let many = cx.state(node.stage, node.index).is_some_and(|state| {
            ["TARGETARCH", "TARGETPLATFORM"].iter().any(|name| state.args.contains(*name))
        });
        for (mount, word) in crate::context::mounts(run) {
            let locked = mount.sharing == Some(dockerfile::Sharing::Locked);
            let target = mount.target.trim_end_matches('/');
            if many
                && mount.kind == dockerfile::MountType::Cache
                && !mount.id.contains('$')
                && !locked
                && by_arch.contains(&target)
            {
                out.report(word.range, "platforms that are built at once share this cache");
            }
        }
    }
}
