//! Collects the names of a recipe.

use super::{Assigned, Doubt, Index, Place, Role, StageName, StageRole, Variable};
use crate::scan::{self, Rules};
use diagnostic::TextRange;
use dockerfile::syntax::{ItemKind, Statement, TokenKind};
use dockerfile::{ArgPair, Command, Healthcheck, Instruction, Located, Parsed, Transfer, Word};
use lint::Context;
use lint::semantics::Base;
use lint::shell::ast::{self, Span};
use lint::shell::{Kind, Mapped};
use std::collections::{BTreeMap, BTreeSet};

/// Commands of the shell that set variables named by their arguments.
const SETTERS: [&str; 9] =
    ["export", "local", "declare", "typeset", "readonly", "read", "unset", "getopts", "mapfile"];

/// Reads the names of a recipe.
pub fn build(cx: &Context<'_>) -> Index {
    let parsed = cx.parsed;
    let count = parsed.recipe.stages.len();
    let parents = (0..count).map(|stage| cx.parent(stage).filter(|parent| *parent < stage)).collect();
    let mut builder = Builder {
        cx,
        parsed,
        text: parsed.source.text(),
        out: Index { parents, ..Index::default() },
        names: BTreeMap::new(),
        place: Place::Global,
        instruction: None,
        node: TextRange::default(),
        known: BTreeMap::new(),
        trigger: false,
        triggered: BTreeSet::new(),
    };
    builder.run();
    let mut out = builder.out;
    out.variables.sort_by_key(|one| one.range);
    out.stages.sort_by_key(|one| one.range);
    out
}

struct Builder<'a> {
    cx: &'a Context<'a>,
    parsed: &'a Parsed,
    text: &'a str,
    out: Index,
    /// Stages by name; of several the last.
    names: BTreeMap<String, usize>,
    place: Place,
    instruction: Option<usize>,
    node: TextRange,
    /// What is set so far in this scope; `true` where ENV set it.
    known: BTreeMap<String, bool>,
    /// Inside of ONBUILD.
    trigger: bool,
    /// What triggers set.
    triggered: BTreeSet<String>,
}

impl<'a> Builder<'a> {
    fn run(&mut self) {
        let recipe = &self.parsed.recipe;
        for stage in &recipe.stages {
            if let Some(name) = &stage.name {
                self.names.insert(name.clone(), stage.index);
            }
        }
        for located in &recipe.meta_args {
            self.node = located.range;
            self.args(&located.node.args);
        }
        let globals = self.known.clone();
        for stage in &recipe.stages {
            self.place = Place::Global;
            self.instruction = None;
            self.known.clone_from(&globals);
            self.from(stage);
            self.place = Place::Stage(stage.index);
            let parent = self.out.parents.get(stage.index).copied().flatten();
            self.known = parent.and_then(|parent| self.out.ends.get(parent).cloned()).unwrap_or_default();
            self.triggered.clear();
            // A command may use at run time what is set only later in its stage.
            let mut late = self.known.clone();
            for node in &stage.instructions {
                if let Instruction::Env(env) = &node.node {
                    late.extend(env.pairs.iter().map(|pair| (pair.key.clone(), true)));
                }
            }
            for (index, located) in stage.instructions.iter().enumerate() {
                self.instruction = Some(index);
                self.node = located.range;
                self.instruction(&located.node, located, &late);
            }
            let mut end = std::mem::take(&mut self.known);
            end.extend(std::mem::take(&mut self.triggered).into_iter().map(|name| (name, true)));
            self.out.ends.push(end);
        }
    }

    fn from(&mut self, stage: &'a dockerfile::Stage) {
        let from = &stage.from;
        self.node = from.range;
        for word in from.node.platform.iter().chain([&from.node.base]) {
            self.word(word);
        }
        let within = stage.index;
        if let Some(Base::Stage(base)) = self.cx.facts(stage.index).map(|facts| &facts.base) {
            let word = &from.node.base;
            let plain =
                self.text.get(word.range.as_usize()) == Some(&word.value) && !word.value.contains('$');
            self.stage(word.range, *base, StageRole::Base, plain, within);
        }
        if let Some(word) = &from.node.name {
            let plain = self.text.get(word.range.as_usize()) == Some(&word.value);
            self.stage(word.range, stage.index, StageRole::Name, plain, within);
        }
        if let Some(name) = &stage.name
            && let Some(range) = self.comment_about(from.range, name)
        {
            self.stage(range, stage.index, StageRole::Comment, true, within);
        }
    }

    fn stage(&mut self, range: TextRange, stage: usize, role: StageRole, plain: bool, within: usize) {
        self.out.stages.push(StageName { range, stage, role, plain, within, node: self.node });
    }

    /// The name in a comment straight above that reads `# name text`: the first such comment.
    fn comment_about(&self, node: TextRange, name: &str) -> Option<TextRange> {
        let items = self.parsed.tree.items();
        let at = items.partition_point(|item| item.range.end <= node.start);
        let above = items.get(..at)?.iter().rev().take_while(|item| item.kind == ItemKind::Comment);
        let mut found = None;
        for item in above {
            for token in
                self.parsed.tree.tokens_of(item).iter().filter(|token| token.kind == TokenKind::Comment)
            {
                let text = self.text.get(token.range.as_usize())?;
                let body = text.trim_start_matches('#').trim_start();
                if body.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')) {
                    let start = token.range.end - body.len() as u32;
                    found = Some(TextRange::new(start, start + name.len() as u32));
                }
            }
        }
        found
    }

    fn variable(&mut self, range: TextRange, name: String, role: Role, known: bool, doubt: Option<Doubt>) {
        self.out.variables.push(Variable {
            range,
            name,
            place: self.place,
            role,
            known,
            doubt,
            instruction: self.instruction,
            node: self.node,
        });
    }

    fn is_known(&self, name: &str) -> bool {
        self.known.contains_key(name) || (self.trigger && self.triggered.contains(name))
    }

    fn declare(&mut self, name: &str, env: bool) {
        match self.trigger {
            true => drop(self.triggered.insert(name.to_owned())),
            // What ENV set stays set.
            false => *self.known.entry(name.to_owned()).or_default() |= env,
        }
    }

    /// The name at the start of a word, if the word is written plainly.
    fn key(&mut self, range: TextRange, name: &str, role: Role) {
        let own = TextRange::new(range.start, range.start + name.len() as u32);
        let plain = self.text.get(own.as_usize()) == Some(name) && scan::name_length(name) == name.len();
        let doubt = (!plain).then_some(Doubt::Split);
        let own = if plain { own } else { range };
        self.variable(own, name.to_owned(), role, true, doubt);
    }

    fn args(&mut self, args: &[ArgPair]) {
        for arg in args {
            let role = if arg.value.is_some() { Role::Arg } else { Role::Import };
            self.key(arg.range, &arg.key, role);
            let rest = TextRange::new(arg.range.start + arg.key.len() as u32, arg.range.end);
            if arg.value.is_some() {
                self.expanded(rest);
            }
            self.declare(&arg.key, false);
            if arg.doc.is_some()
                && !self.trigger
                && let Some(range) = self.comment_about(self.node, &arg.key)
            {
                self.variable(range, arg.key.clone(), Role::Comment, true, None);
            }
        }
    }

    fn word(&mut self, word: &Word) {
        self.expanded(word.range);
    }

    /// What the builder expands in a range of the recipe.
    fn expanded(&mut self, range: TextRange) {
        let Some(text) = self.text.get(range.as_usize()) else { return };
        if !text.contains('$') {
            return;
        }
        let escape = self.parsed.recipe.directives.escape;
        let mapped = Mapped::logical(self.text, range, escape);
        self.uses(&mapped, Rules::Word(escape.as_char()), Role::Use, &BTreeSet::new());
    }

    fn uses(&mut self, mapped: &Mapped, rules: Rules, role: Role, assigned: &BTreeSet<String>) {
        for one in scan::uses(&mapped.text, rules) {
            let range = mapped.range(one.span);
            let doubt = match () {
                () if one.quoted => Some(Doubt::Quoted),
                () if assigned.contains(&one.name) => Some(Doubt::Assigned),
                () if !mapped.is_whole(one.span) => Some(Doubt::Split),
                () => None,
            };
            // What the builder does not expand is no use at all, unless something else reads it.
            if doubt == Some(Doubt::Quoted) && role == Role::Use {
                continue;
            }
            let known = self.is_known(&one.name);
            self.variable(range, one.name, role, known, doubt);
        }
    }

    fn instruction(
        &mut self,
        instruction: &'a Instruction,
        located: &'a Located<Instruction>,
        late: &BTreeMap<String, bool>,
    ) {
        match instruction {
            Instruction::Arg(arg) => self.args(&arg.args),
            Instruction::Env(env) => {
                for pair in &env.pairs {
                    if pair.key.contains('$') {
                        self.expanded(pair.range);
                        continue;
                    }
                    self.key(pair.range, &pair.key, Role::Env);
                    self.expanded(TextRange::new(pair.range.start + pair.key.len() as u32, pair.range.end));
                }
                // Values see what was set before the instruction.
                env.pairs.iter().for_each(|pair| self.declare(&pair.key, true));
            }
            Instruction::Label(label) => label.pairs.iter().for_each(|pair| self.expanded(pair.range)),
            Instruction::Add(add) => {
                add.chown.iter().chain(&add.chmod).chain(&add.checksum).for_each(|word| self.word(word));
                self.transfer(&add.transfer, located);
            }
            Instruction::Copy(copy) => {
                copy.chown.iter().chain(&copy.chmod).for_each(|word| self.word(word));
                self.transfer(&copy.transfer, located);
                if let Some(from) = &copy.from {
                    self.copy_from(from);
                }
            }
            Instruction::Run(run) => {
                for mount in &run.mounts {
                    self.word(mount);
                    self.mount_from(mount);
                }
                self.run_text(located);
            }
            Instruction::Cmd(cmd) => self.command(&cmd.command, late),
            Instruction::Entrypoint(entrypoint) => self.command(&entrypoint.command, late),
            Instruction::Healthcheck(Healthcheck::Check(check)) => self.command(&check.command, late),
            Instruction::Expose(expose) => expose.ports.iter().for_each(|word| self.word(word)),
            Instruction::User(user) => self.word(&user.user),
            Instruction::Volume(volume) => volume.volumes.iter().for_each(|word| self.word(word)),
            Instruction::Workdir(workdir) => self.word(&workdir.path),
            Instruction::StopSignal(stop) => self.word(&stop.signal),
            Instruction::Onbuild(onbuild) => {
                if let Some(trigger) = onbuild.trigger.as_deref() {
                    self.trigger = true;
                    self.instruction(trigger, located, late);
                    self.trigger = false;
                }
            }
            Instruction::Healthcheck(Healthcheck::None)
            | Instruction::Maintainer(_)
            | Instruction::Shell(_) => {}
        }
    }

    fn statement(&self, located: &Located<Instruction>) -> Option<&'a Statement> {
        let statements = &self.parsed.statements;
        let at = statements.partition_point(|one| one.range.start < located.range.start);
        statements.get(at).filter(|one| one.range.start == located.range.start)
    }

    fn transfer(&mut self, transfer: &Transfer, located: &Located<Instruction>) {
        for word in transfer.sources.iter().chain([&transfer.dest]) {
            self.word(word);
        }
        if transfer.contents.is_empty() {
            return;
        }
        let heredocs =
            self.statement(located).map(|statement| statement.heredocs.as_slice()).unwrap_or_default();
        for heredoc in heredocs.iter().filter(|heredoc| heredoc.expand) {
            let mapped = Mapped::body(self.text, heredoc);
            self.uses(&mapped, Rules::Body, Role::Use, &BTreeSet::new());
        }
    }

    fn within(&self) -> usize {
        match self.place {
            Place::Stage(stage) => stage,
            Place::Global => 0,
        }
    }

    fn copy_from(&mut self, word: &Word) {
        // The range may start early where the flag has quotes in it.
        let range = match self.text.get(word.range.as_usize()) {
            Some(text) if text != word.value => text.rfind(&word.value).map_or(word.range, |at| {
                let start = word.range.start + at as u32;
                TextRange::new(start, start + word.value.len() as u32)
            }),
            _ => word.range,
        };
        if let Ok(number) = word.value.parse::<usize>() {
            if number < self.parsed.recipe.stages.len() {
                self.stage(range, number, StageRole::Copy, false, self.within());
            }
        } else if let Some(stage) = self.names.get(&word.value.to_lowercase()).copied() {
            let plain = self.text.get(range.as_usize()) == Some(&word.value);
            self.stage(range, stage, StageRole::Copy, plain, self.within());
        }
    }

    fn mount_from(&mut self, word: &Word) {
        let Some(text) = self.text.get(word.range.as_usize()) else { return };
        let mut at = word.range.start;
        for field in text.split(',') {
            let start = at;
            at += field.len() as u32 + 1;
            let Some((key, value)) = field.split_once('=') else { continue };
            if !key.trim().trim_start_matches('"').eq_ignore_ascii_case("from") {
                continue;
            }
            let value_start = start + key.len() as u32 + 1;
            let name = value.trim_end_matches('"');
            if let Some(stage) = self.names.get(&name.to_lowercase()).copied() {
                let range = TextRange::new(value_start, value_start + name.len() as u32);
                self.stage(range, stage, StageRole::Mount, true, self.within());
            }
        }
    }

    fn run_text(&mut self, located: &Located<Instruction>) {
        let trigger = self.trigger;
        let Some(node) = self
            .cx
            .node_at(located.lines.first)
            .into_iter()
            .chain(self.cx.of_stage(self.within()).filter(|node| node.onbuild && trigger))
            .find(|node| node.located.range == located.range && node.onbuild == trigger)
        else {
            return;
        };
        let Some((run, script)) = node.run() else { return };
        if let Command::Exec(words) = &run.command {
            return self.exec(words, Role::Shell);
        }
        if !script.kind.is_posix() {
            return self.foreign();
        }
        let mut setters = Setters::default();
        script.visit(&mut setters);
        let names = setters.names;
        self.uses(&script.mapped, Rules::Shell, Role::Shell, &names);
        // Other heredocs than the one that is the script feed commands; the shell expands those too.
        if !names.is_empty() {
            self.out.assigned.push(Assigned { node: self.node, stage: self.within(), names });
        }
    }

    /// Exec form: only a shell expands variables.
    fn exec(&mut self, words: &[Word], role: Role) {
        let is_shell = words.first().is_some_and(|word| Kind::named(&word.value).is_posix());
        for word in words.iter().skip(1).filter(|_| is_shell) {
            let mapped = Mapped::logical(self.text, word.range, self.parsed.recipe.directives.escape);
            // The string's own quotes are JSON's.
            for one in scan::uses(&word.value, Rules::Shell) {
                let hits = mapped.text.matches(&one.name).count();
                let known = self.is_known(&one.name);
                let at = mapped.text.find(&one.name);
                let (range, doubt) = match (at, hits, one.quoted) {
                    (Some(at), 1, false) => (mapped.range(Span::new(at, at + one.name.len())), None),
                    (_, _, true) => (word.range, Some(Doubt::Quoted)),
                    _ => (word.range, Some(Doubt::Split)),
                };
                self.variable(range, one.name, role, known, doubt);
            }
        }
    }

    /// A shell that is not understood: names that stand in its text are in doubt.
    fn foreign(&mut self) {
        let Some(text) = self.text.get(self.node.as_usize()) else { return };
        let names: Vec<String> = self.known.keys().cloned().collect();
        for name in names.into_iter().filter(|name| !name.is_empty()) {
            let is_word =
                |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let found = text.match_indices(name.as_str()).find(|(at, _)| {
                let before = at.checked_sub(1).and_then(|at| text.as_bytes().get(at).copied());
                !is_word(before) && !is_word(text.as_bytes().get(at + name.len()).copied())
            });
            if let Some((at, _)) = found {
                let start = self.node.start + at as u32;
                let range = TextRange::new(start, start + name.len() as u32);
                self.variable(range, name, Role::Shell, true, Some(Doubt::Foreign));
            }
        }
    }

    /// CMD and the like: variables are those of the image, when it runs.
    fn command(&mut self, command: &Command, late: &BTreeMap<String, bool>) {
        let image: BTreeMap<String, bool> =
            late.iter().filter(|(_, env)| **env).map(|(name, env)| (name.clone(), *env)).collect();
        let known = std::mem::replace(&mut self.known, image);
        match command {
            Command::Exec(words) => self.exec(words, Role::Runtime),
            Command::Shell(text) => {
                let shell = self.shell();
                let mapped = Mapped::logical(self.text, text.range, self.parsed.recipe.directives.escape);
                match shell.is_posix() {
                    true => {
                        let mut setters = Setters::default();
                        lint::shell::parser::parse(&mapped.text).list.visit(&mut setters);
                        self.uses(&mapped, Rules::Shell, Role::Runtime, &setters.names);
                    }
                    false => self.foreign(),
                }
            }
        }
        self.known = known;
    }

    fn shell(&self) -> Kind {
        let (Place::Stage(stage), Some(index)) = (self.place, self.instruction) else { return Kind::Sh };
        let mut nodes = self.cx.of_stage(stage);
        nodes.find(|node| node.index == index).map_or(Kind::Sh, |node| node.shell)
    }
}

/// Names that a shell text sets.
#[derive(Default)]
struct Setters {
    names: BTreeSet<String>,
}

impl ast::Visitor for Setters {
    fn command(&mut self, command: &ast::Command) {
        if let ast::Command::For { name, .. } = command {
            self.names.insert(name.clone());
        }
    }

    fn simple(&mut self, simple: &ast::Simple) {
        // `A=1 command $A` sets A for the command alone; the shell's own A stays.
        if simple.words.is_empty() {
            self.names.extend(simple.assigns.iter().map(|assign| assign.name.clone()));
        }
        let first = simple.words.first().and_then(ast::Word::literal);
        if first.is_some_and(|first| SETTERS.contains(&first.as_str())) {
            for word in &simple.words[1..] {
                let text = word.text();
                let name = text.split(['=', '+']).next().unwrap_or_default();
                if scan::name_length(name) == name.len() && !name.is_empty() {
                    // `export A` alone changes nothing.
                    let changes = text.contains('=') || simple.words[0].text() != "export";
                    if changes {
                        self.names.insert(name.to_owned());
                    }
                }
            }
        }
    }
}
