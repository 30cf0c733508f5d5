//! DL3040: dnf clean all should follow dnf install.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "dnf-clean",
    aliases: &["DL3040"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "dnf clean all should follow dnf install",
    why: "Its cache stays in the layer otherwise.",
    bad: r#"FROM fedora:40
RUN dnf install -y httpd-2.4.59
"#,
    good: r#"FROM fedora:40
RUN dnf install -y httpd-2.4.59 && dnf clean all
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let words = ["install", "in", "upgrade", "up", "upgrade-minimal", "up-min", "reinstall", "rei"];
    for (node, _, script) in cx.runs() {
        let cached = ["/var/cache/libdnf5", ".cache/libdnf5", "/var/cache/dnf"]
            .iter()
            .any(|path| node.has_cache_at(path));
        for name in ["dnf", "microdnf"] {
            let forgot = super::shared::forgets_to_clean(
                &script.calls,
                |call| call.is(name, &words),
                |call| call.is(name, &["clean", "all"]) || call.is("rm", &["-rf", "/var/cache/libdnf5*"]),
            );
            if let Some(call) = forgot.filter(|_| !cached) {
                out.report(node.place(call.span), "the cache of dnf stays in the layer");
            }
        }
    }
}
