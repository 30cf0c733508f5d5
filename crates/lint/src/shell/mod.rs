//! The shell text of RUN: which shell reads it, its tree, and its commands as rules see them.
//!
//! Facts about shells are POSIX's and bash's. Not here: PowerShell and cmd, which are recognised and then
//! left alone.

pub mod ast;
mod map;
pub mod parser;

pub use map::Mapped;

use ast::{Command, Part, PartKind, Simple, Span, Visitor, Word};
use diagnostic::TextRange;

/// Which shell reads a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `/bin/sh` of unknown make.
    Sh,
    /// dash.
    Dash,
    /// busybox.
    Ash,
    /// bash.
    Bash,
    /// ksh.
    Ksh,
    /// zsh.
    Zsh,
    /// PowerShell.
    PowerShell,
    /// cmd.exe.
    Cmd,
    /// Anything else.
    Other,
}

impl Kind {
    /// The shell that a SHELL instruction, `#!` line or comment names.
    pub fn named(program: &str) -> Self {
        let name = program.rsplit(['/', '\\']).next().unwrap_or(program).to_ascii_lowercase();
        match name.strip_suffix(".exe").unwrap_or(&name) {
            "sh" => Self::Sh,
            "dash" => Self::Dash,
            "ash" | "busybox" => Self::Ash,
            "bash" => Self::Bash,
            "ksh" | "mksh" => Self::Ksh,
            "zsh" => Self::Zsh,
            "pwsh" | "powershell" => Self::PowerShell,
            "cmd" => Self::Cmd,
            _ => Self::Other,
        }
    }

    /// Whether the text is read by rules at all.
    pub const fn is_posix(self) -> bool {
        !matches!(self, Self::PowerShell | Self::Cmd | Self::Other)
    }

    /// Whether only what POSIX has may be used.
    pub const fn is_strict(self) -> bool {
        matches!(self, Self::Sh | Self::Dash | Self::Ash)
    }
}

/// A command as rules see it.
#[derive(Clone, Debug)]
pub struct Call {
    /// The name, without `command`, `exec` and the like in front.
    pub name: String,
    /// Where the name stands.
    pub name_span: Span,
    /// Arguments behind the first word.
    pub args: Vec<Arg>,
    /// All of it.
    pub span: Span,
}

/// An argument of a command.
#[derive(Clone, Debug)]
pub struct Arg {
    /// Without quotes, expansions as `${name}`.
    pub text: String,
    /// Where.
    pub span: Span,
}

impl Arg {
    /// The flags the argument stands for: `--name=x` is `name`, `-abc` is `a`, `b`, `c`.
    pub fn flags(&self) -> Vec<&str> {
        match self.text.as_str() {
            "-" | "--" => Vec::new(),
            text => match (text.strip_prefix("--"), text.strip_prefix('-')) {
                (Some(long), _) => vec![long.split('=').next().unwrap_or(long)],
                (None, Some(short)) => {
                    short.char_indices().map(|(at, c)| &short[at..at + c.len_utf8()]).collect()
                }
                _ => Vec::new(),
            },
        }
    }
}

impl Call {
    /// The command as rules see it; `None` where its name is not written out.
    pub fn of(simple: &Simple) -> Option<Self> {
        let first = simple.words.first()?;
        let mut name = first.literal()?;
        let mut name_word = first;
        let next = match name.as_str() {
            "busybox" | "builtin" => simple.words.get(1),
            "command" => simple.words.get(1).filter(|word| !word.text().starts_with('-')),
            "exec" => {
                let mut words = simple.words.iter().skip(1);
                let mut next = words.next();
                while let Some(flag) = next.map(Word::text).filter(|text| text.starts_with('-')) {
                    // `-a` gives the program another name.
                    next = if flag.ends_with('a') { words.nth(1) } else { words.next() };
                }
                next
            }
            _ => None,
        };
        if let Some(word) = next
            && let Some(text) = word.literal()
        {
            (name, name_word) = (text, word);
        }
        let args = simple.words[1..].iter().map(|word| Arg { text: word.text(), span: word.span }).collect();
        Some(Self { name, name_span: name_word.span, args, span: simple.span })
    }

    /// The last element of the name's path.
    pub fn base(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }

    /// Whether any argument is one of `words`.
    pub fn has_any(&self, words: &[&str]) -> bool {
        self.args.iter().any(|arg| words.contains(&arg.text.as_str()))
    }

    /// Whether it is called `name` and has an argument of `words`.
    pub fn is(&self, name: &str, words: &[&str]) -> bool {
        self.name == name && self.has_any(words)
    }

    /// Whether a flag of that name is given.
    pub fn flag(&self, names: &[&str]) -> bool {
        self.args.iter().any(|arg| arg.flags().iter().any(|flag| names.contains(flag)))
    }

    /// How often a flag is given.
    pub fn count(&self, name: &str) -> usize {
        self.args.iter().map(|arg| arg.flags().iter().filter(|flag| **flag == name).count()).sum()
    }

    /// Arguments that are no flags and no values of `with_value` flags.
    pub fn operands(&self, with_value: &[&str]) -> Vec<&Arg> {
        let mut out = Vec::new();
        let mut skip = false;
        for arg in &self.args {
            let flags = arg.flags();
            if std::mem::take(&mut skip) {
                if !flags.is_empty() && flags.iter().any(|flag| with_value.contains(flag)) {
                    skip = !arg.text.contains('=');
                }
                continue;
            }
            if flags.is_empty() {
                out.push(arg);
            } else if flags.iter().any(|flag| with_value.contains(flag)) && !arg.text.contains('=') {
                skip = true;
            }
        }
        out
    }

    /// The argument behind a flag.
    pub fn value_of(&self, flag: &str) -> Option<&Arg> {
        let at = self.args.iter().position(|arg| arg.flags().contains(&flag))?;
        self.args.get(at + 1)
    }

    /// Whether the arguments hold this sequence.
    pub fn has_sequence(&self, words: &[&str]) -> bool {
        self.args
            .windows(words.len())
            .any(|window| window.iter().zip(words).all(|(arg, word)| arg.text == *word))
    }

    /// `pip install`, `python -m pip install`.
    pub fn is_pip_install(&self) -> bool {
        let pip =
            self.name.starts_with("pip") && !self.name.starts_with("pipenv") && self.has_any(&["install"]);
        pip || (self.name.starts_with("python") && self.has_sequence(&["-m", "pip", "install"]))
    }
}

/// The text of one RUN, read.
#[derive(Clone, Debug)]
pub struct Script {
    /// The text and the way back.
    pub mapped: Mapped,
    /// Which shell reads it.
    pub kind: Kind,
    /// The tree.
    pub tree: parser::Parsed,
    /// Every command with a name, in order of the text.
    pub calls: Vec<Call>,
    /// How many pipes there are.
    pub pipes: usize,
    /// Whether it is exec form: no shell reads it.
    pub exec: bool,
}

struct Collect {
    calls: Vec<Call>,
    pipes: usize,
}

impl Visitor for Collect {
    fn simple(&mut self, simple: &Simple) {
        self.calls.extend(Call::of(simple));
    }

    fn pipeline(&mut self, commands: &[Command]) {
        self.pipes += commands.len() - 1;
    }
}

impl Script {
    /// Reads a text.
    pub fn read(mapped: Mapped, kind: Kind) -> Self {
        let kind = match mapped.text.strip_prefix("#!") {
            Some(line) => {
                let line = line.lines().next().unwrap_or_default();
                let mut words = line.split_whitespace();
                let first = words.next().unwrap_or_default();
                let program = if first.ends_with("/env") {
                    words.find(|word| !word.starts_with('-'))
                } else {
                    Some(first)
                };
                Kind::named(program.unwrap_or_default())
            }
            None => kind,
        };
        let tree = if kind.is_posix() { parser::parse(&mapped.text) } else { parser::Parsed::default() };
        let mut collect = Collect { calls: Vec::new(), pipes: 0 };
        tree.list.visit(&mut collect);
        Self { mapped, kind, tree, calls: collect.calls, pipes: collect.pipes, exec: false }
    }

    /// The one command of an exec form.
    pub fn exec(args: &[dockerfile::Word]) -> Self {
        let mut mapped = Mapped::default();
        let call = args.first().map(|name| Call {
            name: name.value.clone(),
            name_span: Span::default(),
            args: args[1..]
                .iter()
                .map(|arg| Arg { text: arg.value.clone(), span: Span::default() })
                .collect(),
            span: Span::default(),
        });
        if let Some(first) = args.first() {
            mapped = Mapped::logical("", first.range, dockerfile::Escape::Backslash);
        }
        let calls = call.into_iter().collect();
        Self { mapped, kind: Kind::Other, tree: parser::Parsed::default(), calls, pipes: 0, exec: true }
    }

    /// Where a span of the text stands in the recipe.
    pub fn range(&self, span: Span) -> TextRange {
        self.mapped.range(span)
    }

    /// Walks the tree.
    pub fn visit(&self, visitor: &mut dyn Visitor) {
        self.tree.list.visit(visitor);
    }
}

/// The words of a command that the shell takes apart where they are not quoted: arguments, and a name that is
/// made of several pieces. A name that is one expansion is meant to be words.
pub fn split_words(simple: &Simple) -> impl Iterator<Item = &Word> {
    let name = simple.words.first().and_then(Word::bare);
    let runs_next = matches!(name, Some("exec" | "command" | "builtin"));
    let words = if name == Some("let") { &[] } else { simple.words.as_slice() };
    words
        .iter()
        .enumerate()
        .filter(move |(at, word)| word.parts.len() > 1 || !(*at == 0 || (*at == 1 && runs_next)))
        .map(|(_, word)| word)
}

/// Whether the word is an assignment where `export`, `local` and the like read it.
pub fn is_assignment(word: &Word) -> bool {
    let Some(Part { kind: PartKind::Literal(text), .. }) = word.parts.first() else { return false };
    let Some((name, _)) = text.split_once('=') else { return false };
    let name = name.strip_suffix('+').unwrap_or(name);
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

/// The words that declare variables.
pub fn declares(simple: &Simple) -> bool {
    let name = simple.words.first().and_then(Word::bare);
    matches!(name, Some("export" | "declare" | "local" | "readonly" | "typeset"))
}

/// The brace expansions of a word, `{…,…}` and `{a..b}`, the outer before those in it.
pub fn braces(word: &Word) -> Vec<Span> {
    // Where each open brace stands, and whether what follows makes it an expansion.
    let mut open: Vec<(u32, bool)> = Vec::new();
    let mut found = Vec::new();
    for part in &word.parts {
        let PartKind::Literal(text) = &part.kind else { continue };
        let bytes = text.as_bytes();
        for (at, c) in bytes.iter().enumerate() {
            let place = part.span.start + at as u32;
            match c {
                b'{' => open.push((place, false)),
                b',' => open.last_mut().into_iter().for_each(|brace| brace.1 = true),
                b'.' if bytes.get(at + 1) == Some(&b'.') => {
                    open.last_mut().into_iter().for_each(|brace| brace.1 = true)
                }
                b'}' => {
                    let expands = open.pop().filter(|(_, expands)| *expands);
                    found.extend(expands.map(|(start, _)| Span { start, end: place + 1 }));
                }
                _ => {}
            }
        }
    }
    found.sort_unstable_by_key(|span| span.start);
    found
}

/// Every part of a word, those inside of double quotes too; `true` where quoted.
pub fn parts(word: &Word) -> Vec<(&Part, bool)> {
    let mut out = Vec::new();
    for part in &word.parts {
        match &part.kind {
            PartKind::Double(inner) => {
                out.push((part, false));
                out.extend(inner.iter().map(|part| (part, true)));
            }
            _ => out.push((part, false)),
        }
    }
    out
}
