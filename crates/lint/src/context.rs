//! What a rule sees: the recipe, its stages with the variables known in them, and the shell text of RUN.

use crate::config::{Options, Profile};
use crate::rule::Rule;
use crate::semantics::{self, Base, Event, Facts, Semantics, StageFacts, State};
use crate::shell::{Call, Kind, Mapped, Script, ast::Span};
use diagnostic::{Diagnostic, Fix, Severity, SourceFile, TextRange};
use dockerfile::word::Lexer;
use dockerfile::{
    Command, From, Instruction, Located, Mount, MountError, MountType, Parsed, Run, Stage, Word,
};

/// Everything that is known about a recipe.
pub struct Context<'a> {
    /// The recipe.
    pub parsed: &'a Parsed,
    /// What to look for.
    pub options: &'a Options,
    /// What the builder will make of it.
    pub semantics: Semantics,
    /// Every instruction behind a FROM, the triggers of ONBUILD too.
    pub nodes: Vec<Node<'a>>,
    /// The platform the recipe is for.
    pub platform: oci::Platform,
    /// Whether another stage starts from a stage, and whether it ends up in the last one.
    stage_uses: Vec<(bool, bool)>,
    /// First bytes and first lines of all instructions.
    starts: Vec<(TextRange, u32)>,
}

/// An instruction in its stage.
pub struct Node<'a> {
    /// Index of the stage.
    pub stage: usize,
    /// Index in the stage.
    pub index: usize,
    /// What it says; for a trigger what ONBUILD triggers.
    pub instruction: &'a Instruction,
    /// The instruction of the stage, ONBUILD for a trigger.
    pub located: &'a Located<Instruction>,
    /// Whether it is a trigger.
    pub onbuild: bool,
    /// The shell that reads its text.
    pub shell: Kind,
    /// The text of RUN.
    pub script: Option<Script>,
}

impl<'a> Node<'a> {
    /// RUN with its script.
    pub fn run(&self) -> Option<(&'a Run, &Script)> {
        match (self.instruction, &self.script) {
            (Instruction::Run(run), Some(script)) => Some((run, script)),
            _ => None,
        }
    }

    /// Whether a cache or tmpfs mount holds a path with `part` in it.
    pub fn has_cache_at(&self, part: &str) -> bool {
        let Instruction::Run(run) = self.instruction else { return false };
        mounts(run).any(|(mount, _)| {
            matches!(mount.kind, MountType::Cache | MountType::Tmpfs) && mount.target.contains(part)
        })
    }

    /// Where a call stands in the recipe; the keyword for exec form.
    pub fn place(&self, span: Span) -> TextRange {
        match &self.script {
            Some(script) if !script.exec => script.range(span),
            _ => self.located.keyword.range,
        }
    }
}

/// Mounts of a RUN that can be read without variables.
pub fn mounts(run: &Run) -> impl Iterator<Item = (Mount, &Word)> {
    run.mounts.iter().filter_map(|word| {
        let mount = Mount::parse::<MountError>(&word.value, |text| Ok(text.to_owned())).ok()?;
        Some((mount, word))
    })
}

impl<'a> Context<'a> {
    /// Walks the recipe and reads all its shell text.
    pub fn new(parsed: &'a Parsed, options: &'a Options) -> Self {
        let platform = options.platform.clone().unwrap_or_else(|| semantics::guess_platform(&parsed.recipe));
        let semantics =
            semantics::walk(parsed, &Facts { platform: &platform, ignore: options.ignore.as_ref() });
        let starts = parsed.statements.iter().map(|node| (node.range, node.lines.first)).collect();
        let mut cx =
            Self { parsed, options, semantics, nodes: Vec::new(), platform, stage_uses: Vec::new(), starts };
        cx.read_uses();
        cx.read_nodes();
        cx
    }

    fn read_uses(&mut self) {
        let mut uses = vec![(false, false); self.stages().len()];
        for stage in 0..uses.len() {
            if let Some(base) = self.parent(stage).and_then(|base| uses.get_mut(base)) {
                base.0 = true;
            }
        }
        let mut at = uses.len().checked_sub(1);
        while let Some(index) = at {
            uses[index].1 = true;
            at = self.parent(index).filter(|parent| *parent < index);
        }
        self.stage_uses = uses;
    }

    fn read_nodes(&mut self) {
        let parsed = self.parsed;
        let pragmas = crate::suppress::shell_pragmas(parsed);
        let needs_scripts = self.options.profile != Profile::Buildkit;
        let mut nodes = Vec::new();
        for stage in &parsed.recipe.stages {
            let default = self.default_shell(stage.index);
            for (index, located) in stage.instructions.iter().enumerate() {
                let pragma =
                    pragmas.iter().rev().find(|(line, _)| *line < located.lines.first).map(|(_, kind)| *kind);
                let given =
                    self.state(stage.index, index).and_then(|state| state.shell.as_ref()?.first().cloned());
                let shell = match (given, pragma) {
                    (Some(program), _) => Kind::named(&program),
                    (None, Some(kind)) => kind,
                    (None, None) => default,
                };
                let mut add = |instruction: &'a Instruction, onbuild: bool| {
                    let script = match instruction {
                        Instruction::Run(run) if needs_scripts => Some(self.script(run, shell)),
                        _ => None,
                    };
                    nodes.push(Node {
                        stage: stage.index,
                        index,
                        instruction,
                        located,
                        onbuild,
                        shell,
                        script,
                    });
                };
                match &located.node {
                    Instruction::Onbuild(onbuild) => {
                        add(&located.node, false);
                        if let Some(trigger) = onbuild.trigger.as_deref() {
                            add(trigger, true);
                        }
                    }
                    instruction => add(instruction, false),
                }
            }
        }
        self.nodes = nodes;
    }

    fn script(&self, run: &Run, shell: Kind) -> Script {
        let source = self.parsed.source.text();
        let text = match &run.command {
            Command::Exec(args) => return Script::exec(args),
            Command::Shell(text) => text,
        };
        let reader = match run.heredocs.len() {
            1 => heredoc_reader(&text.value, shell),
            _ => None,
        };
        let shell = reader.unwrap_or(shell);
        let mapped = match (run.heredocs.first(), reader) {
            (Some(heredoc), Some(_)) => Mapped::body(source, heredoc),
            _ => {
                let mut mapped = Mapped::logical(source, text.range, self.parsed.recipe.directives.escape);
                run.heredocs.iter().for_each(|heredoc| mapped.append(source, heredoc));
                mapped
            }
        };
        Script::read(mapped, shell)
    }

    fn default_shell(&self, stage: usize) -> Kind {
        let mut index = stage;
        loop {
            match self.semantics.stages.get(index).map(|facts| &facts.base) {
                Some(Base::Stage(base)) if *base < index => index = *base,
                Some(Base::Image(name)) if semantics::is_windows_name(name) => return Kind::Cmd,
                Some(Base::Image(_)) if self.platform.os == "windows" && self.all_images_unknown() => {
                    return Kind::Cmd;
                }
                _ => return Kind::Sh,
            }
        }
    }

    /// The platform is Windows for another reason than the name of a base image.
    fn all_images_unknown(&self) -> bool {
        !self.parsed.recipe.stages.iter().any(|stage| semantics::is_windows_name(stage.base()))
    }

    /// The text.
    pub fn source(&self) -> &'a SourceFile {
        &self.parsed.source
    }

    /// The stages.
    pub fn stages(&self) -> &'a [Stage] {
        &self.parsed.recipe.stages
    }

    /// What the walk knows of a stage.
    pub fn facts(&self, stage: usize) -> Option<&StageFacts> {
        self.semantics.stages.get(stage)
    }

    /// What is set before an instruction.
    pub fn state(&self, stage: usize, index: usize) -> Option<&State> {
        self.facts(stage)?.before.get(index)
    }

    /// The stage that is built where none is named.
    pub fn is_last(&self, stage: usize) -> bool {
        stage + 1 == self.stages().len()
    }

    /// The earlier stage that a stage starts from.
    pub fn parent(&self, stage: usize) -> Option<usize> {
        match self.facts(stage)?.base {
            Base::Stage(base) => Some(base),
            _ => None,
        }
    }

    /// The image at the bottom of a stage, variables expanded; `None` for scratch.
    pub fn image(&self, stage: usize) -> Option<&str> {
        match &self.facts(stage)?.base {
            Base::Stage(base) if *base < stage => self.image(*base),
            Base::Image(name) => Some(name),
            _ => None,
        }
    }

    /// Whether the last stage starts from this one, or is it.
    pub fn in_result(&self, stage: usize) -> bool {
        self.stage_uses.get(stage).is_some_and(|uses| uses.1)
    }

    /// Whether another stage starts from this one.
    pub fn is_base(&self, stage: usize) -> bool {
        self.stage_uses.get(stage).is_some_and(|uses| uses.0)
    }

    /// Nodes of one stage.
    pub fn of_stage(&self, stage: usize) -> impl Iterator<Item = &Node<'a>> {
        let start = self.nodes.partition_point(|node| node.stage < stage);
        self.nodes[start..].iter().take_while(move |node| node.stage == stage)
    }

    /// The instruction that starts on a line; ONBUILD, not its trigger.
    pub fn node_at(&self, line: u32) -> Option<&Node<'a>> {
        let start = self.nodes.partition_point(|node| node.located.lines.first < line);
        self.nodes.get(start).filter(|node| node.located.lines.first == line)
    }

    /// Every RUN with its script, of shells that rules read.
    pub fn runs(&self) -> impl Iterator<Item = (&Node<'a>, &'a Run, &Script)> {
        self.nodes.iter().filter_map(|node| {
            let (run, script) = node.run()?;
            Some((node, run, script))
        })
    }

    /// Every command of every RUN.
    pub fn calls(&self) -> impl Iterator<Item = (&Node<'a>, &Call)> {
        self.runs().flat_map(|(node, _, script)| script.calls.iter().map(move |call| (node, call)))
    }

    /// Every FROM.
    pub fn froms(&self) -> impl Iterator<Item = (&'a Stage, &'a Located<From>)> {
        self.stages().iter().map(|stage| (stage, &stage.from))
    }

    /// What triggers in front of a trigger set by ENV when they run, the last first.
    pub fn trigger_env(&self, node: &Node<'_>) -> impl Iterator<Item = (&'a str, &'a str)> {
        let count = if node.onbuild { node.index } else { 0 };
        let before = self.stages().get(node.stage).map_or(&[][..], |stage| &stage.instructions[..count]);
        before
            .iter()
            .rev()
            .flat_map(|located| {
                let Instruction::Onbuild(onbuild) = &located.node else { return [].iter() };
                match onbuild.trigger.as_deref() {
                    Some(Instruction::Env(env)) => env.pairs.iter(),
                    _ => [].iter(),
                }
            })
            .map(|pair| (pair.key.as_str(), pair.value.as_str()))
    }

    /// A word with the variables known at a node; as written where it can't be expanded.
    pub fn resolve(&self, node: &Node<'_>, word: &Word) -> String {
        let lexer = Lexer::new(self.parsed.recipe.directives.escape.as_char());
        self.state(node.stage, node.index)
            .and_then(|state| lexer.expand(&word.value, &*state.env).ok())
            .map_or_else(|| word.value.clone(), |expansion| expansion.text)
    }

    /// BuildKit's facts of one kind.
    pub fn events(&self, check: semantics::Check) -> impl Iterator<Item = &Event> {
        let cut = match (self.options.profile, &self.semantics.fatal) {
            (Profile::Buildkit, Some(fatal)) => fatal.events,
            _ => usize::MAX,
        };
        self.semantics.events.iter().take(cut).filter(move |event| event.check == check)
    }

    /// First line of the instruction that holds `offset`; the line itself outside of instructions.
    pub fn instruction_line(&self, offset: u32) -> u32 {
        let index = self.starts.partition_point(|(range, _)| range.start <= offset);
        match index.checked_sub(1).and_then(|index| self.starts.get(index)) {
            Some((range, line)) if offset <= range.end => *line,
            _ => self.source().line_of(offset),
        }
    }
}

/// The shell that reads the one heredoc of a RUN, where nothing else is run: that of the stage for `<<EOF`, bash
/// for `<<EOF bash -e` and `bash <<EOF`.
fn heredoc_reader(text: &str, shell: Kind) -> Option<Kind> {
    let is_heredoc = |word: &&str| word.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with("<<");
    let (heredocs, words): (Vec<&str>, Vec<&str>) = text.split_whitespace().partition(is_heredoc);
    // `<< EOF` is two words: left to the shell.
    if heredocs.len() != 1
        || matches!(heredocs[0].trim_start_matches(|c: char| c.is_ascii_digit()), "<<" | "<<-")
    {
        return None;
    }
    let Some((program, flags)) = words.split_first() else { return Some(shell) };
    let kind = Kind::named(program);
    let option =
        |flag: &str| (flag.starts_with('-') && !flag.contains('c')) || matches!(flag, "pipefail" | "errexit");
    let plain = flags.iter().all(|flag| option(flag)) && shell.is_posix();
    (kind.is_posix() && plain).then_some(kind)
}

/// One finding with what tools need to know of it.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What is wrong.
    pub diagnostic: Diagnostic,
    /// The rule; `None` for errors of the parser and rules of users.
    pub rule: Option<&'static Rule>,
    /// First line of the instruction it is in.
    pub instruction_line: u32,
    /// The instruction whose comments may silence it.
    pub scope: Option<u32>,
    /// Who says it.
    pub origin: Origin,
}

/// Who says something about a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A rule, of this project, of the user or of ShellCheck: it can be silenced.
    Rule,
    /// The parser.
    Parser,
}

impl Finding {
    /// An error of the parser.
    pub fn of_recipe(cx: &Context<'_>, diagnostic: Diagnostic) -> Self {
        let line = cx.instruction_line(diagnostic.range.start);
        Self { diagnostic, rule: None, instruction_line: line, scope: Some(line), origin: Origin::Parser }
    }

    /// Adds a fix.
    pub fn fix(&mut self, fix: Fix) -> &mut Self {
        self.diagnostic.fix = Some(fix);
        self
    }

    /// Adds a hint.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.diagnostic.help = Some(help.into());
        self
    }

    /// Adds another place.
    pub fn label(&mut self, range: TextRange, message: impl Into<String>) -> &mut Self {
        self.diagnostic.labels.push(diagnostic::Label { range, message: message.into() });
        self
    }

    /// Names of the rule in other tools.
    pub fn aliases(&self) -> &'static [&'static str] {
        self.rule.map_or(&[], |rule| rule.aliases)
    }

    /// Whether the finding answers to a rule's name.
    pub fn is_called(&self, name: &str) -> bool {
        self.diagnostic.rule.eq_ignore_ascii_case(name) || self.rule.is_some_and(|rule| rule.is_called(name))
    }
}

/// Takes what one rule finds.
pub struct Sink<'a> {
    cx: &'a Context<'a>,
    rule: &'static Rule,
    severity: Severity,
    findings: Vec<Finding>,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(cx: &'a Context<'a>, rule: &'static Rule, severity: Severity) -> Self {
        Self { cx, rule, severity, findings: Vec::new() }
    }

    /// Reports a place.
    pub fn report(&mut self, range: TextRange, message: impl Into<String>) -> &mut Finding {
        let line = self.cx.instruction_line(range.start);
        let diagnostic = Diagnostic::new(self.rule.name, self.severity, range, message);
        self.findings.push(Finding {
            diagnostic,
            rule: Some(self.rule),
            instruction_line: line,
            scope: Some(line),
            origin: Origin::Rule,
        });
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    /// Reports all facts of one kind.
    pub fn events(&mut self, check: semantics::Check) {
        let cx = self.cx;
        for event in cx.events(check) {
            let finding = self.report(event.range, event.message.clone());
            finding.instruction_line = event.line;
            finding.scope = event.scope;
            if let Some(detail) = event.detail {
                finding.label(detail, "here");
            }
        }
    }

    /// As [`Sink::events`], with something more for each.
    pub fn events_with(&mut self, check: semantics::Check, mut more: impl FnMut(&Event, &mut Finding)) {
        let before = self.findings.len();
        self.events(check);
        let cx = self.cx;
        for (event, finding) in cx.events(check).zip(&mut self.findings[before..]) {
            more(event, finding);
        }
    }

    pub(crate) fn finish(self) -> Vec<Finding> {
        self.findings
    }
}
