//! The tree of a shell text. Spans are offsets in the text that was parsed.

/// A half-open range of bytes of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Behind the last byte.
    pub end: u32,
}

impl Span {
    /// A span from `usize` offsets.
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }
}

/// A word: what becomes zero or more arguments.
#[derive(Clone, Debug, Default)]
pub struct Word {
    /// Its pieces.
    pub parts: Vec<Part>,
    /// All of it.
    pub span: Span,
}

/// A piece of a word.
#[derive(Clone, Debug)]
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// Where it is, with its quotes.
    pub span: Span,
}

/// What a piece of a word is.
#[derive(Clone, Debug)]
pub enum PartKind {
    /// Plain text.
    Literal(String),
    /// `\c`.
    Escaped(char),
    /// `'…'`.
    Single(String),
    /// `$'…'`.
    DollarSingle(String),
    /// `"…"`.
    Double(Vec<Part>),
    /// `$v`, `${v…}`.
    Param(Param),
    /// `$(…)` or `` `…` ``.
    Command {
        /// The text inside.
        list: List,
        /// Whether backticks were used.
        backtick: bool,
    },
    /// `$((…))`, with the words for variables in it.
    Arith(String),
    /// `<(…)` or `>(…)`.
    Process(List),
}

/// An expansion of a parameter.
#[derive(Clone, Debug, Default)]
pub struct Param {
    /// The name; `@`, `?`, `1` and the like too.
    pub name: String,
    /// What follows the name inside of braces, such as `:-x` or `//a/b`.
    pub rest: String,
    /// `${…}` and not `$v`.
    pub braced: bool,
    /// `${#v}`.
    pub length: bool,
    /// `${!v}`.
    pub indirect: bool,
    /// `[…]` behind the name.
    pub index: Option<String>,
}

/// A redirection.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// Such as `>`, `<<<`, `&>`.
    pub op: String,
    /// The number in front.
    pub fd: Option<String>,
    /// The target or the delimiter.
    pub target: Word,
    /// All of it.
    pub span: Span,
}

/// `NAME=value` in front of a command or alone.
#[derive(Clone, Debug)]
pub struct Assign {
    /// The name.
    pub name: String,
    /// The value.
    pub value: Word,
    /// `+=`.
    pub append: bool,
    /// `NAME=(…)` or `NAME[…]=…`.
    pub array: bool,
    /// All of it.
    pub span: Span,
}

/// A command with its arguments.
#[derive(Clone, Debug, Default)]
pub struct Simple {
    /// Assignments in front.
    pub assigns: Vec<Assign>,
    /// Name and arguments.
    pub words: Vec<Word>,
    /// The words inside of `NAME=(…)`, in front or behind a word that declares.
    pub elements: Vec<Word>,
    /// Redirections.
    pub redirects: Vec<Redirect>,
    /// All of it.
    pub span: Span,
}

/// `&&` or `||`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// `&&`
    And,
    /// `||`
    Or,
}

/// A sequence of commands.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// In order; `true` where `&` follows.
    pub items: Vec<(Command, bool)>,
}

/// An arm of `case`.
#[derive(Clone, Debug)]
pub struct Arm {
    /// Its patterns.
    pub patterns: Vec<Word>,
    /// What it runs.
    pub body: List,
}

/// Any command.
#[derive(Clone, Debug)]
pub enum Command {
    /// Name and arguments.
    Simple(Simple),
    /// `a | b`; of at least two.
    Pipeline(Vec<Command>),
    /// `! a`.
    Not(Box<Command>, Span),
    /// `a && b || c`.
    AndOr(Box<Command>, Vec<(Link, Command)>),
    /// `{ …; }` with redirections; a compound command with redirections too.
    Block(List, Vec<Redirect>),
    /// `( … )` with redirections.
    Subshell(List, Vec<Redirect>),
    /// `if`: conditions and bodies, and else.
    If(Vec<(List, List)>, Option<List>),
    /// `while` and `until`.
    Loop(List, List),
    /// `for v in words`.
    For {
        /// The variable; empty for `for ((…))`.
        name: String,
        /// The words; `None` for the arguments.
        words: Option<Vec<Word>>,
        /// What it runs.
        body: List,
    },
    /// `case`.
    Case(Word, Vec<Arm>),
    /// A function.
    Function(String, Box<Command>),
    /// `[[ … ]]`.
    Test(Vec<Word>, Span),
    /// `(( … ))`.
    Arith(Span),
}

/// Something that looks at every command and word, in order of the text.
pub trait Visitor {
    /// Before a command's parts.
    fn command(&mut self, _command: &Command) {}
    /// A simple command, before its words.
    fn simple(&mut self, _simple: &Simple) {}
    /// A pipeline, before its commands.
    fn pipeline(&mut self, _commands: &[Command]) {}
    /// A word of any kind.
    fn word(&mut self, _word: &Word) {}
}

impl List {
    /// Walks everything inside.
    pub fn visit(&self, visitor: &mut dyn Visitor) {
        for (command, _) in &self.items {
            command.visit(visitor);
        }
    }
}

impl Command {
    /// Walks everything inside.
    pub fn visit(&self, visitor: &mut dyn Visitor) {
        visitor.command(self);
        match self {
            Self::Simple(simple) => {
                visitor.simple(simple);
                simple.assigns.iter().for_each(|assign| assign.value.visit(visitor));
                simple.elements.iter().for_each(|word| word.visit(visitor));
                simple.words.iter().for_each(|word| word.visit(visitor));
                simple.redirects.iter().for_each(|redirect| redirect.target.visit(visitor));
            }
            Self::Pipeline(commands) => {
                visitor.pipeline(commands);
                commands.iter().for_each(|command| command.visit(visitor));
            }
            Self::Not(command, _) | Self::Function(_, command) => command.visit(visitor),
            Self::AndOr(first, rest) => {
                first.visit(visitor);
                rest.iter().for_each(|(_, command)| command.visit(visitor));
            }
            Self::Block(list, redirects) | Self::Subshell(list, redirects) => {
                list.visit(visitor);
                redirects.iter().for_each(|redirect| redirect.target.visit(visitor));
            }
            Self::If(arms, otherwise) => {
                for (condition, body) in arms {
                    condition.visit(visitor);
                    body.visit(visitor);
                }
                otherwise.iter().for_each(|list| list.visit(visitor));
            }
            Self::Loop(condition, body) => {
                condition.visit(visitor);
                body.visit(visitor);
            }
            Self::For { words, body, .. } => {
                words.iter().flatten().for_each(|word| word.visit(visitor));
                body.visit(visitor);
            }
            Self::Case(word, arms) => {
                word.visit(visitor);
                for arm in arms {
                    arm.patterns.iter().for_each(|word| word.visit(visitor));
                    arm.body.visit(visitor);
                }
            }
            Self::Test(words, _) => words.iter().for_each(|word| word.visit(visitor)),
            Self::Arith(_) => {}
        }
    }
}

impl Redirect {
    /// Whether it starts a heredoc, whose target is a delimiter that nothing expands.
    pub fn is_heredoc(&self) -> bool {
        matches!(self.op.as_str(), "<<" | "<<-")
    }
}

impl Command {
    /// The words that belong to the command itself and are no arguments: what `case` and `for` look at,
    /// `[[ … ]]`, and the targets of redirections behind a compound command.
    pub fn own_words(&self) -> Vec<&Word> {
        match self {
            Self::Block(_, redirects) | Self::Subshell(_, redirects) => targets(redirects).collect(),
            Self::For { words, .. } => words.iter().flatten().collect(),
            Self::Case(word, arms) => {
                std::iter::once(word).chain(arms.iter().flat_map(|arm| &arm.patterns)).collect()
            }
            Self::Test(words, _) => words.iter().collect(),
            _ => Vec::new(),
        }
    }
}

impl Simple {
    /// What is redirected to or from.
    pub fn targets(&self) -> impl Iterator<Item = &Word> {
        targets(&self.redirects)
    }
}

fn targets(redirects: &[Redirect]) -> impl Iterator<Item = &Word> {
    redirects.iter().filter(|redirect| !redirect.is_heredoc()).map(|redirect| &redirect.target)
}

impl Word {
    /// Walks the commands inside.
    pub fn visit(&self, visitor: &mut dyn Visitor) {
        visitor.word(self);
        visit_parts(&self.parts, visitor);
    }

    /// The text without quotes, if nothing in it expands.
    pub fn literal(&self) -> Option<String> {
        let mut out = String::new();
        literal(&self.parts, &mut out).then_some(out)
    }

    /// The text without quotes, expansions shown as `${name}`.
    pub fn text(&self) -> String {
        let mut out = String::new();
        text(&self.parts, &mut out);
        out
    }

    /// The text where the word is one unquoted literal.
    pub fn bare(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part { kind: PartKind::Literal(text), .. }] => Some(text),
            _ => None,
        }
    }
}

fn visit_parts(parts: &[Part], visitor: &mut dyn Visitor) {
    for part in parts {
        match &part.kind {
            PartKind::Double(parts) => visit_parts(parts, visitor),
            PartKind::Command { list, .. } | PartKind::Process(list) => list.visit(visitor),
            _ => {}
        }
    }
}

fn literal(parts: &[Part], out: &mut String) -> bool {
    parts.iter().all(|part| match &part.kind {
        PartKind::Literal(text) | PartKind::Single(text) | PartKind::DollarSingle(text) => {
            out.push_str(text);
            true
        }
        PartKind::Escaped(c) => {
            out.push(*c);
            true
        }
        PartKind::Double(parts) => literal(parts, out),
        _ => false,
    })
}

fn text(parts: &[Part], out: &mut String) {
    for part in parts {
        match &part.kind {
            PartKind::Literal(text) | PartKind::Single(text) | PartKind::DollarSingle(text) => {
                out.push_str(text)
            }
            PartKind::Escaped(c) => out.push(*c),
            PartKind::Double(parts) => text(parts, out),
            PartKind::Param(param) => {
                out.push_str("${");
                out.push_str(&param.name);
                out.push_str(&param.rest);
                out.push('}');
            }
            PartKind::Command { .. } | PartKind::Arith(_) => out.push_str("${VAR}"),
            PartKind::Process(_) => {}
        }
    }
}
