//! DL3032: yum clean all should follow yum install.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "yum-clean",
    aliases: &["DL3032"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "yum clean all should follow yum install",
    why: "Its cache stays in the layer otherwise.",
    bad: r#"FROM centos:7
RUN yum install -y httpd-2.4.6
"#,
    good: r#"FROM centos:7
RUN yum install -y httpd-2.4.6 && yum clean all
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, _, script) in cx.runs().filter(|(node, ..)| !node.has_cache_at("/var/cache/yum")) {
        let forgot = super::shared::forgets_to_clean(
            &script.calls,
            |call| call.is("yum", &["install"]),
            |call| call.is("yum", &["clean", "all"]) || call.is("rm", &["-rf", "/var/cache/yum/*"]),
        );
        if let Some(call) = forgot {
            out.report(node.place(call.span), "the cache of yum stays in the layer");
        }
    }
}
