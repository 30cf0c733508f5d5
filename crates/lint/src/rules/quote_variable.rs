//! SC2086: variables should be quoted.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "quote-variable",
    aliases: &["SC2086"],
    group: Group::Shell,
    severity: Severity::Info,
    default: Default::On,
    summary: "Variables should be quoted",
    why: "Without quotes the value is split at blanks and its wildcards are expanded. Variables of ARG and ENV, numbers, and values that are seen to hold neither are left alone.",
    bad: r#"FROM alpine:3.20
RUN x=$(uname -r) && ls /lib/modules/$x
"#,
    good: r#"FROM alpine:3.20
RUN x=$(uname -r) && ls "/lib/modules/$x"
"#,
    check,
};

use crate::shell::Kind;
use crate::shell::ast::{self, PartKind};
use std::collections::BTreeMap;

const PLAIN: [&str; 18] = [
    "$",
    "-",
    "?",
    "!",
    "#",
    "BASHPID",
    "EUID",
    "LINENO",
    "OPTIND",
    "PPID",
    "RANDOM",
    "SECONDS",
    "SHELLOPTS",
    "SHLVL",
    "UID",
    "COLUMNS",
    "EPOCHSECONDS",
    "HISTSIZE",
];

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, _, script) in cx.runs().filter(|(_, _, script)| script.kind.is_posix()) {
        let known = cx.state(node.stage, node.index);
        let set = |name: &str| {
            name != "PATH"
                && known.is_some_and(|state| state.env.0.contains_key(name) || state.args.contains(name))
        };
        let mut walk = Walk { known: &set, values: BTreeMap::new(), kind: script.kind, found: Vec::new() };
        walk.list(&script.tree.list);
        for (span, name) in walk.found {
            let finding = out.report(script.range(span), format!("${name} should be quoted"));
            if script.mapped.is_whole(span) {
                let text = cx.source().slice(script.range(span)).to_owned();
                finding.fix(Fix::replace(
                    "quote it",
                    Applicability::Unsafe,
                    script.range(span),
                    format!("\"{text}\""),
                ));
            }
        }
    }
}

struct Walk<'a> {
    known: &'a dyn Fn(&str) -> bool,
    /// Whether the value of a variable may be split.
    values: BTreeMap<String, bool>,
    kind: Kind,
    found: Vec<(ast::Span, String)>,
}

impl Walk<'_> {
    fn splits(&self, name: &str) -> bool {
        if PLAIN.contains(&name) {
            return false;
        }
        match self.values.get(name) {
            Some(splits) => *splits,
            None => !(self.known)(name),
        }
    }

    fn value_splits(&self, parts: &[ast::Part]) -> bool {
        parts.iter().any(|part| match &part.kind {
            PartKind::Literal(text) | PartKind::Single(text) | PartKind::DollarSingle(text) => {
                text.contains(|c: char| c.is_whitespace() || matches!(c, '*' | '?' | '['))
            }
            PartKind::Escaped(c) => c.is_whitespace() || matches!(c, '*' | '?' | '['),
            PartKind::Double(parts) => self.value_splits(parts),
            PartKind::Param(param) => !param.length && self.splits(&param.name),
            PartKind::Command { .. } | PartKind::Process(_) => true,
            PartKind::Arith(_) => false,
        })
    }

    fn look(&mut self, word: &ast::Word) {
        for part in &word.parts {
            let PartKind::Param(param) = &part.kind else { continue };
            let alternative = param.rest.starts_with(":+\"") || param.rest.starts_with("+\"");
            if !param.length
                && !alternative
                && param.name != "@"
                && param.name != "*"
                && self.splits(&param.name)
            {
                self.found.push((part.span, param.name.clone()));
            }
        }
    }
}

impl Walk<'_> {
    fn list(&mut self, list: &ast::List) {
        list.items.iter().for_each(|(command, _)| self.command(command));
    }

    /// Something that may run or not: afterwards a variable may have its old value or its new one.
    fn maybe(&mut self, run: impl FnOnce(&mut Self)) {
        let before = self.values.clone();
        run(self);
        let after = std::mem::replace(&mut self.values, before.clone());
        for (name, splits) in after {
            let splits = splits || self.splits(&name);
            self.values.insert(name, splits);
        }
    }

    /// Something that runs in a process of its own.
    fn apart(&mut self, run: impl FnOnce(&mut Self)) {
        let before = self.values.clone();
        run(self);
        self.values = before;
    }

    fn words<'w>(&mut self, words: impl Iterator<Item = &'w ast::Word>) {
        for word in words {
            for (part, _) in crate::shell::parts(word) {
                if let PartKind::Command { list, .. } | PartKind::Process(list) = &part.kind {
                    self.apart(|walk| walk.list(list));
                }
            }
        }
    }

    fn command(&mut self, command: &ast::Command) {
        match command {
            ast::Command::Simple(simple) => self.simple(simple),
            ast::Command::Pipeline(commands) => {
                commands.iter().for_each(|command| self.apart(|walk| walk.command(command)))
            }
            ast::Command::Not(command, _) => self.command(command),
            ast::Command::AndOr(first, rest) => {
                self.command(first);
                rest.iter().for_each(|(_, command)| self.maybe(|walk| walk.command(command)));
            }
            ast::Command::Block(list, redirects) => {
                self.list(list);
                redirects
                    .iter()
                    .filter(|redirect| !redirect.op.starts_with("<<"))
                    .for_each(|redirect| self.look(&redirect.target));
            }
            ast::Command::If(arms, otherwise) => {
                for (condition, body) in arms {
                    self.list(condition);
                    self.maybe(|walk| walk.list(body));
                }
                otherwise.iter().for_each(|body| self.maybe(|walk| walk.list(body)));
            }
            ast::Command::Loop(condition, body) => {
                self.list(condition);
                self.maybe(|walk| walk.list(body));
            }
            ast::Command::For { name, words, body } => {
                self.words(words.iter().flatten());
                let splits = words
                    .as_ref()
                    .is_none_or(|words| words.iter().any(|word| self.value_splits(&word.parts)));
                self.values.insert(name.clone(), splits);
                self.maybe(|walk| walk.list(body));
            }
            ast::Command::Case(word, arms) => {
                self.words(std::iter::once(word));
                arms.iter().for_each(|arm| self.maybe(|walk| walk.list(&arm.body)));
            }
            ast::Command::Function(_, body) => self.maybe(|walk| walk.command(body)),
            ast::Command::Test(words, _) => self.words(words.iter()),
            ast::Command::Arith(_) => {}
        }
    }

    fn simple(&mut self, simple: &ast::Simple) {
        self.words(simple.assigns.iter().map(|assign| &assign.value).chain(&simple.words));
        let name = simple.words.first().and_then(ast::Word::literal).unwrap_or_default();
        let declares = matches!(name.as_str(), "export" | "declare" | "local" | "readonly" | "typeset");
        for word in simple.words.iter().skip(1) {
            let assigns = declares && word.text().contains('=');
            if !assigns || self.kind.is_strict() {
                self.look(word);
            }
        }
        for redirect in simple.redirects.iter().filter(|redirect| !redirect.op.starts_with("<<")) {
            self.look(&redirect.target);
        }
        for assign in &simple.assigns {
            let splits = assign.array || self.value_splits(&assign.value.parts);
            self.values.insert(assign.name.clone(), splits);
        }
        if declares {
            for word in simple.words.iter().skip(1) {
                if let Some((name, _)) = word.text().split_once('=') {
                    let value = self.value_splits(&word.parts);
                    self.values.insert(name.to_owned(), value);
                }
            }
        }
        if name == "read" {
            for word in simple
                .words
                .iter()
                .skip(1)
                .filter_map(ast::Word::literal)
                .filter(|word| !word.starts_with('-'))
            {
                self.values.insert(word, true);
            }
        }
    }
}
