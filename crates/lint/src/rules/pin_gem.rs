//! DL3028: Gems should have a version.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "pin-gem",
    aliases: &["DL3028"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Gems should have a version",
    why: "What is installed today may not be what is installed tomorrow, and the cache does not notice.",
    bad: r#"FROM ruby:3.3
RUN gem install bundler
"#,
    good: r#"FROM ruby:3.3
RUN gem install bundler:2.5.0
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, call) in cx.calls().filter(|(_, call)| call.is("gem", &["install", "i"])) {
        if call.has_any(&["-v"]) || call.flag(&["version"]) {
            continue;
        }
        let mut skip = false;
        for arg in call.args.iter().take_while(|arg| arg.text != "--") {
            if std::mem::take(&mut skip) {
                continue;
            }
            if arg.text.starts_with('-') {
                skip = true;
            } else if arg.text != "install" && arg.text != "i" && !arg.text.contains(':') {
                out.report(node.place(arg.span), format!("{} has no version", arg.text));
                break;
            }
        }
    }
}
