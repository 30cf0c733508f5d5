//! What is fetched should be checked before it runs.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "curl-to-shell",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Warning,
    default: Default::On,
    summary: "What is fetched should be checked before it runs",
    why: "A script that goes from the network straight into a shell can be anything. Fetch it, compare its checksum, then run it.",
    bad: r#"FROM debian:12
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN curl -f https://example.com/install | sh
"#,
    good: r#"FROM debian:12
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://example.com/install /install
RUN sh /install
"#,
    check,
};

use crate::shell::ast::{self, Visitor};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (_, _, script) in cx.runs().filter(|(_, _, script)| script.kind.is_posix()) {
        let mut walk = Walk(Vec::new());
        script.visit(&mut walk);
        for span in walk.0 {
            out.report(script.range(span), "this runs whatever the network sends");
        }
    }
}

struct Walk(Vec<ast::Span>);

fn name(command: &ast::Command) -> Option<(String, ast::Span)> {
    let ast::Command::Simple(simple) = command else { return None };
    let mut words = simple
        .words
        .iter()
        .map(ast::Word::text)
        .filter(|word| word != "sudo" && word != "-E" && word != "env");
    let name = words.find(|word| !word.contains('='))?;
    Some((name.rsplit('/').next().unwrap_or(&name).to_owned(), simple.span))
}

impl Visitor for Walk {
    fn pipeline(&mut self, commands: &[ast::Command]) {
        let names: Vec<_> = commands.iter().map(name).collect();
        for (at, fetch) in names.iter().enumerate() {
            let fetches = fetch.as_ref().is_some_and(|(name, _)| name == "curl" || name == "wget");
            let runs = names[at + 1..].iter().flatten().any(|(name, _)| {
                matches!(
                    name.as_str(),
                    "sh" | "bash" | "zsh" | "dash" | "ash" | "python" | "python3" | "perl" | "ruby" | "node"
                )
            });
            if let Some((_, span)) = fetch.as_ref().filter(|_| fetches && runs) {
                self.0.push(*span);
            }
        }
    }
}
