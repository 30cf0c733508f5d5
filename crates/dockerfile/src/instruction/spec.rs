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
    /// What to write behind `=`; empty where nothing is known of it.
    pub value: &'static str,
    /// What holds where it is not given; may be empty.
    pub default: &'static str,
    /// Whether variables in the value expand.
    pub expand: bool,
    /// One sentence.
    pub doc: &'static str,
    /// Keys of a value that is a list of `key=value`.
    pub keys: &'static [KeySpec],
}

/// One key of a flag's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// As it is best written.
    pub name: &'static str,
    /// Other names of it.
    pub aliases: &'static [&'static str],
    /// Types of mount that have it; all of them where empty.
    pub types: &'static [&'static str],
    /// What holds where it is not given; may be empty.
    pub default: &'static str,
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
    /// Lines of synopsis, one a form.
    pub usage: &'static [&'static str],
    /// Whether variables in arguments expand.
    pub expand: bool,
    /// Whether `<<NAME` opens a heredoc.
    pub heredocs: bool,
    /// Whether ONBUILD may trigger it.
    pub onbuild: bool,
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
        format!("write `{}`", self.usage.first().copied().unwrap_or(self.name))
    }

    /// Its flag of that name.
    pub fn flag(&self, name: &str) -> Option<&'static FlagSpec> {
        self.flags.iter().find(|flag| flag.name == name)
    }
}
