//! DL3036: zypper clean should follow zypper install.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "zypper-clean",
    aliases: &["DL3036"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "zypper clean should follow zypper install",
    why: "Its cache stays in the layer otherwise.",
    bad: r#"FROM opensuse/leap:15.6
RUN zypper install -y httpd=2.4.46
"#,
    good: r#"FROM opensuse/leap:15.6
RUN zypper install -y httpd=2.4.46 && zypper clean
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, _, script) in cx.runs().filter(|(node, ..)| !node.has_cache_at("/var/cache/zypp")) {
        let forgot = super::shared::forgets_to_clean(
            &script.calls,
            |call| call.is("zypper", &["install", "in"]),
            |call| call.is("zypper", &["clean", "cc"]),
        );
        if let Some(call) = forgot {
            out.report(node.place(call.span), "the cache of zypper stays in the layer");
        }
    }
}
