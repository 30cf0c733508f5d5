//! SC2086: Variables should be quoted.

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
        let mut walk = Walk {
            known: &set,
            functions: BTreeMap::new(),
            calls: 0,
            hidden: None,
            values: BTreeMap::new(),
            kind: script.kind,
            found: Vec::new(),
        };
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

/// Most calls of functions that are followed.
const MAX_CALLS: usize = 100;

struct Walk<'a> {
    known: &'a dyn Fn(&str) -> bool,
    /// Functions by name, and how many calls of them were followed.
    functions: BTreeMap<&'a str, &'a ast::Command>,
    calls: usize,
    /// In a function: what its own variables hid.
    hidden: Option<BTreeMap<String, Option<bool>>>,
    /// Whether the value of a variable may be split.
    values: BTreeMap<String, bool>,
    kind: Kind,
    found: Vec<(ast::Span, String)>,
}

impl<'a> Walk<'a> {
    fn splits(&self, name: &str) -> bool {
        if PLAIN.contains(&name) {
            return false;
        }
        match self.values.get(name) {
            Some(splits) => *splits,
            None => !(self.known)(name),
        }
    }

    /// Whether a value may be split. An empty one vanishes, which is as bad.
    fn word_splits(&self, word: &ast::Word) -> bool {
        let empty = word.literal().is_some_and(|text| text.is_empty());
        empty || !crate::shell::braces(word).is_empty() || self.value_splits(&word.parts)
    }

    fn value_splits(&self, parts: &[ast::Part]) -> bool {
        parts.iter().any(|part| match &part.kind {
            PartKind::Literal(text) | PartKind::Single(text) | PartKind::DollarSingle(text) => {
                text.contains(|c: char| c.is_whitespace() || matches!(c, '*' | '?' | '[' | '('))
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
            // What stands for a variable that is set is meant to be words, and so are all of an array.
            let alternative = param.rest.starts_with(":+") || param.rest.starts_with('+');
            let array = param.name == "@" || param.index.as_deref() == Some("[@]");
            if !param.length && !alternative && !array && self.splits(&param.name) {
                self.found.push((part.span, param.name.clone()));
            }
        }
    }
}

impl<'a> Walk<'a> {
    fn list(&mut self, list: &'a ast::List) {
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

    /// As [`Walk::maybe`]; what ends the script changes nothing behind it.
    fn branch(&mut self, list: &'a ast::List) {
        match ends(list) {
            true => self.apart(|walk| walk.list(list)),
            false => self.maybe(|walk| walk.list(list)),
        }
    }

    /// A call of a function sets what the function sets, but for its own variables.
    fn call(&mut self, name: &str) {
        let Some(body) = self.functions.get(name).copied() else { return };
        self.calls += 1;
        if self.calls > MAX_CALLS || self.hidden.is_some() {
            return;
        }
        let found = self.found.len();
        self.hidden = Some(BTreeMap::new());
        self.command(body);
        for (name, value) in self.hidden.take().unwrap_or_default() {
            match value {
                Some(splits) => self.values.insert(name, splits),
                None => self.values.remove(&name),
            };
        }
        // They were found where the function is written.
        self.found.truncate(found);
    }

    /// Something that runs in a process of its own.
    fn apart(&mut self, run: impl FnOnce(&mut Self)) {
        let before = self.values.clone();
        run(self);
        self.values = before;
    }

    fn words(&mut self, words: impl Iterator<Item = &'a ast::Word>) {
        for word in words {
            for (part, _) in crate::shell::parts(word) {
                if let PartKind::Command { list, .. } | PartKind::Process(list) = &part.kind {
                    self.apart(|walk| walk.list(list));
                }
            }
        }
    }

    fn command(&mut self, command: &'a ast::Command) {
        match command {
            ast::Command::Simple(simple) => self.simple(simple),
            ast::Command::Pipeline(commands) => {
                commands.iter().for_each(|command| self.apart(|walk| walk.command(command)))
            }
            ast::Command::Not(command, _) => self.command(command),
            ast::Command::AndOr(first, rest) => {
                self.command(first);
                rest.iter().for_each(|(_, command)| match command {
                    ast::Command::Block(list, _) if ends(list) => self.apart(|walk| walk.command(command)),
                    command => self.maybe(|walk| walk.command(command)),
                });
            }
            ast::Command::Block(list, _) => {
                self.list(list);
                command.own_words().into_iter().for_each(|word| self.look(word));
            }
            ast::Command::Subshell(list, _) => {
                self.apart(|walk| walk.list(list));
                command.own_words().into_iter().for_each(|word| self.look(word));
            }
            ast::Command::If(arms, otherwise) => {
                for (condition, body) in arms {
                    self.list(condition);
                    self.branch(body);
                }
                otherwise.iter().for_each(|body| self.branch(body));
            }
            ast::Command::Loop(condition, body) => {
                self.list(condition);
                self.maybe(|walk| walk.list(body));
            }
            ast::Command::For { name, words, body } => {
                self.words(words.iter().flatten());
                let splits =
                    words.as_ref().is_none_or(|words| words.iter().any(|word| self.word_splits(word)));
                self.values.insert(name.clone(), splits);
                self.maybe(|walk| walk.list(body));
            }
            ast::Command::Case(word, arms) => {
                self.words(std::iter::once(word));
                arms.iter().for_each(|arm| self.branch(&arm.body));
            }
            ast::Command::Function(name, body) => {
                self.apart(|walk| walk.command(body));
                self.functions.insert(name, body);
            }
            ast::Command::Test(words, _) => self.words(words.iter()),
            ast::Command::Arith(_) => {}
        }
    }

    fn simple(&mut self, simple: &'a ast::Simple) {
        let values = simple.assigns.iter().map(|assign| &assign.value);
        self.words(values.chain(&simple.words).chain(&simple.elements));
        let name = simple.words.first().and_then(ast::Word::literal).unwrap_or_default();
        let declares = crate::shell::declares(simple);
        for word in crate::shell::split_words(simple) {
            let assigns = declares && crate::shell::is_assignment(word) && !self.kind.is_strict();
            if !(assigns || name == ":" && is_default(word)) {
                self.look(word);
            }
        }
        simple.targets().for_each(|word| self.look(word));
        // In front of a command they are for the command alone.
        for assign in simple.assigns.iter().filter(|_| simple.words.is_empty()) {
            let splits = assign.array || self.word_splits(&assign.value);
            self.values.insert(assign.name.clone(), splits);
        }
        if declares {
            let local = name != "export" && name != "readonly";
            for word in simple.words.iter().skip(1).filter(|word| crate::shell::is_assignment(word)) {
                let text = word.text();
                let Some((name, value)) = text.split_once('=') else { continue };
                let splits = value.is_empty() || self.value_splits(&word.parts);
                let name = name.trim_end_matches('+').to_owned();
                if let Some(hidden) = self.hidden.as_mut().filter(|_| local) {
                    hidden.entry(name.clone()).or_insert(self.values.get(&name).copied());
                }
                self.values.insert(name, splits);
            }
        }
        if name == "let" {
            let names = simple.words.iter().skip(1).map(ast::Word::text);
            let names = names.filter_map(|text| Some(text.split_once('=')?.0.trim().to_owned()));
            self.values.extend(names.map(|name| (name, false)));
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
        self.call(&name);
    }
}

/// Whether the last command of a list ends the script or the function.
fn ends(list: &ast::List) -> bool {
    let Some((ast::Command::Simple(simple), _)) = list.items.last() else { return false };
    matches!(simple.words.first().and_then(ast::Word::bare), Some("exit" | "return"))
}

/// `${x:=y}`, which `:` is there for.
fn is_default(word: &ast::Word) -> bool {
    let [ast::Part { kind: PartKind::Param(param), .. }] = word.parts.as_slice() else { return false };
    param.rest.starts_with('=') || param.rest.starts_with(":=")
}
