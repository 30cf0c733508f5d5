//! What can be wrong with a recipe as a text.
//!
//! Messages are BuildKit's where it has one, so that people find them again. A hint is apart from them.

use crate::instruction::suggest;
use crate::instruction::{FlagKind, Lines, Spec};
use crate::word::{WordError, quote};
use diagnostic::{Applicability, Diagnostic, Fix, TextRange};

/// Which of BuildKit's passes would notice: it reads the whole file in the first before it starts the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Splitting the file into instructions and arguments.
    Parse,
    /// Understanding instructions.
    Instructions,
    /// Looking at the whole recipe.
    Stages,
}

/// An error of the recipe with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeError {
    /// What is wrong.
    pub kind: ErrorKind,
    /// Who notices.
    pub phase: Phase,
    /// The bytes it is about.
    pub range: TextRange,
    /// The lines of the instruction.
    pub lines: Lines,
    /// The line BuildKit names, which for directives and limits is the one before.
    pub buildkit_line: u32,
    /// Another place that has to do with it, and what is there.
    pub related: Option<(TextRange, &'static str)>,
}

impl RecipeError {
    /// BuildKit's whole message, with the line where it adds one.
    pub fn buildkit_message(&self) -> String {
        match (self.phase, &self.kind) {
            (Phase::Instructions, ErrorKind::NoStage) => self.kind.to_string(),
            (Phase::Instructions, kind) => {
                format!("dockerfile parse error on line {}: {kind}", self.buildkit_line)
            }
            (_, kind) => kind.to_string(),
        }
    }

    /// As a finding.
    pub fn to_diagnostic(&self) -> Diagnostic {
        let mut diagnostic = Diagnostic::error(self.kind.code(), self.range, self.kind.to_string());
        if let Some((range, message)) = self.related {
            diagnostic = diagnostic.label(range, message);
        }
        diagnostic.help = self.kind.hint();
        if let ErrorKind::UnknownInstruction { suggestion: Some(name), .. } = &self.kind {
            let title = format!("write {name}");
            diagnostic.fix = Some(Fix::replace(title, Applicability::Unsafe, self.range, name));
        }
        diagnostic
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No byte at all.
    #[error("the Dockerfile cannot be empty")]
    EmptyFile,
    /// Only comments and blank lines.
    #[error("file with no instructions")]
    NoInstructions,
    /// Only ARG.
    #[error("dockerfile contains no stages to build")]
    NoStages,
    /// Bigger than [`crate::syntax::MAX_FILE_BYTES`].
    #[error("dockerfile is larger than the maximum of {max} bytes")]
    FileTooLarge {
        /// The limit.
        max: usize,
    },
    /// A physical line longer than [`crate::syntax::MAX_LINE_BYTES`].
    #[error("dockerfile line greater than max allowed size of {max}")]
    LineTooLong {
        /// The limit.
        max: usize,
    },
    /// A directive twice.
    #[error("only one {name} parser directive can be used")]
    DuplicateDirective {
        /// Its name.
        name: String,
    },
    /// `# escape=` with something odd.
    #[error("invalid escape token '{value}' does not match ` or \\")]
    InvalidEscape {
        /// What was given.
        value: String,
    },
    /// A JSON array with numbers or the like in it.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonNotStrings,
    /// `ENV x`.
    #[error("{instruction} must have two arguments")]
    PairWithoutValue {
        /// ENV or LABEL.
        instruction: &'static str,
    },
    /// `ENV a=1 b`.
    #[error("Syntax error - can't find = in {}. Must be of the form: name=value", quote(.word))]
    PairWithoutEquals {
        /// The word.
        word: String,
    },
    /// A heredoc whose delimiter never comes.
    #[error("unterminated heredoc")]
    UnterminatedHeredoc {
        /// The delimiter.
        name: String,
    },
    /// A heredoc delimiter that can't be read.
    #[error(transparent)]
    HeredocWord(WordError),
    /// No such instruction.
    #[error("unknown instruction: {name}{}", suggest::did_you_mean(.suggestion))]
    UnknownInstruction {
        /// As written.
        name: String,
        /// What may have been meant.
        suggestion: Option<String>,
    },
    /// An instruction before any FROM.
    #[error("no build stage in current context")]
    NoStage,
    /// No such flag.
    #[error("unknown flag: --{name}{}", suggest::did_you_mean(.suggestion))]
    UnknownFlag {
        /// The instruction.
        instruction: &'static str,
        /// Without dashes.
        name: String,
        /// What may have been meant.
        suggestion: Option<String>,
    },
    /// A flag twice.
    #[error("duplicate flag specified: --{name}")]
    DuplicateFlag {
        /// Without dashes.
        name: String,
    },
    /// A flag without its value.
    #[error("missing a value on flag: --{name}")]
    FlagWithoutValue {
        /// Without dashes.
        name: String,
    },
    /// Neither true nor false.
    #[error("expecting boolean value for flag --{name}, not: {value}")]
    FlagNotBoolean {
        /// Without dashes.
        name: String,
        /// What was given.
        value: String,
    },
    /// A word among the flags that is none, by quotes.
    #[error("arg should start with -- : {word}")]
    NotAFlag {
        /// The word.
        word: String,
    },
    /// Nothing behind the keyword.
    #[error("{instruction} requires at least one argument")]
    NoArguments {
        /// The instruction.
        instruction: &'static str,
    },
    /// Not one argument.
    #[error("{instruction} requires exactly one argument")]
    NotOneArgument {
        /// The instruction.
        instruction: &'static str,
    },
    /// COPY or ADD with one argument.
    #[error(
        "{instruction} requires at least two arguments, but only one was provided. Destination could not be determined"
    )]
    NoDestination {
        /// The instruction.
        instruction: &'static str,
    },
    /// COPY or ADD into a heredoc.
    #[error("{instruction} cannot accept a heredoc as a destination")]
    HeredocDestination {
        /// The instruction.
        instruction: &'static str,
    },
    /// `ENV =x`.
    #[error("{instruction} names can not be blank")]
    BlankName {
        /// The instruction.
        instruction: &'static str,
    },
    /// FROM with two or more than three words.
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    /// A stage's name.
    #[error("invalid name for build stage: {}, name can't start with a number or contain symbols", quote(.name))]
    StageName {
        /// As written.
        name: String,
    },
    /// ONBUILD ONBUILD.
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnbuildChain,
    /// ONBUILD FROM or MAINTAINER.
    #[error("{name} isn't allowed as an ONBUILD trigger")]
    OnbuildTrigger {
        /// FROM or MAINTAINER.
        name: String,
    },
    /// HEALTHCHECK NONE with more.
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNone,
    /// HEALTHCHECK CMD without more.
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthcheckNoCommand,
    /// Neither CMD nor NONE.
    #[error("Unknown type {} in HEALTHCHECK (try CMD)", quote(.kind))]
    HealthcheckType {
        /// In capitals.
        kind: String,
    },
    /// A time that is none.
    #[error("{message}")]
    Duration {
        /// Go's words.
        message: String,
    },
    /// Less than a millisecond.
    #[error("Interval {} cannot be less than 1ms", quote(.flag))]
    DurationTooShort {
        /// The flag without dashes.
        flag: &'static str,
    },
    /// `--retries` that is no number.
    #[error("strconv.ParseInt: parsing {}: {reason}", quote(.value))]
    RetriesNotANumber {
        /// What was given.
        value: String,
        /// Go's words.
        reason: &'static str,
    },
    /// `--retries=-1`.
    #[error("--retries cannot be negative ({value})")]
    RetriesNegative {
        /// What was given.
        value: i32,
    },
    /// `VOLUME [""]`.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// SHELL in shell form.
    #[error("SHELL requires the arguments to be in JSON form")]
    ShellNotJson,
    /// `RUN --network`.
    #[error("invalid network mode {}", quote(.value))]
    Network {
        /// What was given.
        value: String,
    },
    /// `RUN --security`.
    #[error("security {} is not valid", quote(.value))]
    Security {
        /// What was given.
        value: String,
    },
    /// `RUN --mount`.
    #[error(transparent)]
    Mount(crate::instruction::MountError),
    /// `RUN --device`.
    #[error(transparent)]
    Device(crate::instruction::MountError),
}

impl ErrorKind {
    /// A short name for tools.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::EmptyFile => "empty-file",
            Self::NoInstructions => "no-instructions",
            Self::NoStages => "no-stages",
            Self::FileTooLarge { .. } => "file-too-large",
            Self::LineTooLong { .. } => "line-too-long",
            Self::DuplicateDirective { .. } => "duplicate-directive",
            Self::InvalidEscape { .. } => "invalid-escape",
            Self::JsonNotStrings => "json-not-strings",
            Self::PairWithoutValue { .. } => "pair-without-value",
            Self::PairWithoutEquals { .. } => "pair-without-equals",
            Self::UnterminatedHeredoc { .. } => "unterminated-heredoc",
            Self::HeredocWord(_) => "heredoc-word",
            Self::UnknownInstruction { .. } => "unknown-instruction",
            Self::NoStage => "no-stage",
            Self::UnknownFlag { .. } => "unknown-flag",
            Self::DuplicateFlag { .. } => "duplicate-flag",
            Self::FlagWithoutValue { .. } => "flag-without-value",
            Self::FlagNotBoolean { .. } => "flag-not-boolean",
            Self::NotAFlag { .. } => "not-a-flag",
            Self::NoArguments { .. } => "no-arguments",
            Self::NotOneArgument { .. } => "not-one-argument",
            Self::NoDestination { .. } => "no-destination",
            Self::HeredocDestination { .. } => "heredoc-destination",
            Self::BlankName { .. } => "blank-name",
            Self::FromArguments => "from-arguments",
            Self::StageName { .. } => "stage-name",
            Self::OnbuildChain => "onbuild-chain",
            Self::OnbuildTrigger { .. } => "onbuild-trigger",
            Self::HealthcheckNone | Self::HealthcheckNoCommand | Self::HealthcheckType { .. } => {
                "healthcheck"
            }
            Self::Duration { .. } | Self::DurationTooShort { .. } => "duration",
            Self::RetriesNotANumber { .. } | Self::RetriesNegative { .. } => "retries",
            Self::EmptyVolume => "empty-volume",
            Self::ShellNotJson => "shell-not-json",
            Self::Network { .. } => "network",
            Self::Security { .. } => "security",
            Self::Mount(_) => "mount",
            Self::Device(_) => "device",
        }
    }

    /// What to do about it, where that is not plain from the message.
    pub fn hint(&self) -> Option<String> {
        let advice = |name: &str| Spec::find(name).map(Spec::advice);
        Some(match self {
            Self::EmptyFile | Self::NoInstructions | Self::NoStages => {
                "start the recipe with a base, such as `FROM debian` or `FROM scratch`".into()
            }
            Self::NoStage => "only ARG may stand before the first FROM".into(),
            Self::LineTooLong { .. } => "break the line with continuations or move the data into a file".into(),
            Self::JsonNotStrings => "put every element in double quotes".into(),
            Self::PairWithoutValue { instruction } => format!("write `{instruction} name=value`"),
            Self::PairWithoutEquals { .. } => {
                "put the whole value in double quotes if it holds blanks; one instruction can't mix `name=value` \
                 and `name value`"
                    .into()
            }
            Self::UnterminatedHeredoc { name } => {
                format!("end the heredoc with a line that holds `{name}` and nothing else")
            }
            Self::UnknownInstruction { suggestion: None, .. } => {
                "if this belongs to the line above, end that line with a continuation".into()
            }
            Self::UnknownInstruction { suggestion: Some(name), .. } => advice(name)?,
            Self::NoArguments { instruction } => advice(instruction)?,
            Self::UnknownFlag { instruction, suggestion, .. } => flags_of(instruction, suggestion.as_deref())?,
            Self::FlagNotBoolean { name, .. } => format!("write `--{name}`, `--{name}=true` or `--{name}=false`"),
            Self::FlagWithoutValue { name } => format!("write `--{name}=VALUE`"),
            Self::NoDestination { instruction } => format!("write `{instruction} SOURCE... DESTINATION`"),
            Self::FromArguments => "write `FROM image` or `FROM image AS name`".into(),
            Self::StageName { .. } => "use letters, digits, `-`, `_` and `.`, a letter first".into(),
            Self::ShellNotJson => "write `SHELL [\"executable\", \"parameter\"]`".into(),
            Self::Duration { .. } => "write a number with a unit, such as `30s` or `1m30s`".into(),
            Self::Network { .. } => "use `default`, `none` or `host`".into(),
            Self::Security { .. } => "use `sandbox` or `insecure`".into(),
            Self::HeredocWord(error) => return error.hint(),
            Self::Mount(error) | Self::Device(error) => return error.hint(),
            _ => return None,
        })
    }
}
/// The flag that was meant, else all that the instruction has.
fn flags_of(instruction: &str, meant: Option<&str>) -> Option<String> {
    let spec = Spec::find(instruction)?;
    if let Some(flag) = meant.and_then(|name| spec.flag(name)) {
        return Some(match flag.kind {
            FlagKind::Bool => format!("write `--{}`", flag.name),
            FlagKind::String | FlagKind::List => format!("write `--{}=VALUE`", flag.name),
        });
    }
    let names: Vec<String> = spec.flags.iter().map(|flag| format!("--{}", flag.name)).collect();
    Some(match names.is_empty() {
        true => format!("{instruction} has no flags; {}", spec.advice()),
        false => format!("{instruction} has {}", names.join(", ")),
    })
}
