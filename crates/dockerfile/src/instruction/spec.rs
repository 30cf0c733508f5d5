//! What the table of instructions is made of. The table itself is generated.

/// How the arguments of an instruction are split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// At blanks.
    Words,
    /// The rest of the line as one.
    Line,
    /// JSON array, or the rest of the line.
    Command,
    /// JSON array, or at blanks.
    List,
    /// Quoted words, each `name` or `name=value`.
    Names,
    /// Quoted `name=value`, or `name rest of line`.
    Pairs,
    /// A word, then a command.
    Healthcheck,
    /// An instruction.
    Instruction,
}

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlagKind {
    /// Nothing, `=true` or `=false`.
    Bool,
    /// One value.
    String,
    /// A value; may be given many times.
    List,
}

/// One flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlagSpec {
    /// Without dashes.
    pub name: &'static str,
    /// What it takes.
    pub kind: FlagKind,
    /// Whether variables in the value expand.
    pub expand: bool,
    /// One sentence.
    pub doc: &'static str,
}

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// In capitals.
    pub name: &'static str,
    /// How arguments are split.
    pub form: Form,
    /// Whether `<<NAME` opens a heredoc.
    pub heredocs: bool,
    /// Whether ONBUILD may trigger it.
    pub onbuild: bool,
    /// How it is written, the first of its forms.
    pub usage: &'static str,
    /// One sentence.
    pub doc: &'static str,
    /// Its flags.
    pub flags: &'static [FlagSpec],
}

impl Spec {
    /// The instruction of that name, in any case.
    pub fn find(name: &str) -> Option<&'static Self> {
        super::table::INSTRUCTIONS.iter().find(|spec| spec.name.eq_ignore_ascii_case(name))
    }

    /// What to write, for people who did not know.
    pub fn advice(&self) -> String {
        format!("write `{}`", self.usage)
    }

    /// Its flag of that name.
    pub fn flag(&self, name: &str) -> Option<&'static FlagSpec> {
        self.flags.iter().find(|flag| flag.name == name)
    }
}
