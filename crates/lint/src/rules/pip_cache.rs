//! DL3042: pip install should have --no-cache-dir.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "pip-cache",
    aliases: &["DL3042"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "pip install should have --no-cache-dir",
    why: "Its cache stays in the layer otherwise. A cache mount is better still.",
    bad: r#"FROM python:3.12
RUN pip install flask==3.0.3
"#,
    good: r#"FROM python:3.12
RUN pip install --no-cache-dir flask==3.0.3
"#,
    check,
};

const TRUE: [&str; 10] = ["1", "true", "True", "TRUE", "on", "On", "ON", "yes", "Yes", "YES"];

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    super::shared::report_missing_flag(
        cx,
        out,
        "the cache of pip stays in the layer",
        (&["install"], "--no-cache-dir"),
        |node, call| {
            if !call.is_pip_install()
                || call.flag(&["no-cache-dir"])
                || call.name.contains("pipx")
                || call.name.contains("pipenv")
            {
                return false;
            }
            let set = cx.state(node.stage, node.index).and_then(|state| state.env.0.get("PIP_NO_CACHE_DIR"));
            let triggered = cx.trigger_env(node).find(|(name, _)| *name == "PIP_NO_CACHE_DIR");
            let set = triggered.map(|(_, value)| value).or(set.map(String::as_str));
            let here =
                node.script.as_ref().and_then(|script| script.mapped.text.split_once("PIP_NO_CACHE_DIR="));
            let here = here.is_some_and(|(_, rest)| TRUE.iter().any(|word| rest.starts_with(word)));
            !here && set.is_none_or(|value| !TRUE.contains(&value)) && !node.has_cache_at(".cache/pip")
        },
    );
}
