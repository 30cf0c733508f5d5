//! DL3060: yarn cache clean should follow yarn install.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "yarn-clean",
    aliases: &["DL3060"],
    group: Group::Hadolint,
    severity: Severity::Info,
    default: Default::On,
    summary: "yarn cache clean should follow yarn install",
    why: "Its cache stays in the layer otherwise. A cache mount is better still.",
    bad: r#"FROM node:22
RUN yarn install
"#,
    good: r#"FROM node:22
RUN yarn install && yarn cache clean
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, _, script) in cx.runs() {
        let used = cx.is_last(node.stage) || cx.is_base(node.stage);
        let forgot = super::shared::forgets_to_clean(
            &script.calls,
            |call| call.is("yarn", &["install"]),
            |call| call.is("yarn", &["cache", "clean"]),
        );
        if let Some(call) = forgot.filter(|_| used && !node.has_cache_at(".cache/yarn")) {
            out.report(node.place(call.span), "the cache of yarn stays in the layer");
        }
    }
}
