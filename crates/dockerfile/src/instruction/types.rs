//! The typed recipe: what every instruction says, before any variable is expanded.
//!
//! Invariants: values are exactly what BuildKit's instruction reader would hold (quotes and variables still
//! in place); every [`Word`] knows the bytes of the source it comes from. An argument that continues over
//! several lines has a range from its first to its last byte.

use diagnostic::TextRange;
use std::time::Duration;

/// A value and the place it was written at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it is written.
    pub range: TextRange,
}

/// An unexpanded word of the recipe.
pub type Word = Spanned<String>;

impl<T> Spanned<T> {
    /// A value with its place.
    pub const fn new(value: T, range: TextRange) -> Self {
        Self { value, range }
    }
}

impl Word {
    /// The word's text.
    pub fn as_str(&self) -> &str {
        &self.value
    }
}

/// The first and last line (1-based, both inside) of an instruction, with its heredocs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lines {
    /// First line.
    pub first: u32,
    /// Last line.
    pub last: u32,
}

/// The character that escapes and that continues lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Escape {
    /// `\`, the default.
    #[default]
    Backslash,
    /// `` ` ``, by `` # escape=` ``.
    Backtick,
}

impl Escape {
    /// The character itself.
    pub const fn as_char(self) -> char {
        match self {
            Self::Backslash => '\\',
            Self::Backtick => '`',
        }
    }
}

/// A whole recipe. Where the recipe has errors this holds what could be understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipe {
    /// `# syntax=`, `# escape=`, `# check=`.
    pub directives: Directives,
    /// ARG instructions before the first FROM.
    pub meta_args: Vec<Located<Arg>>,
    /// The stages in order of the file.
    pub stages: Vec<Stage>,
}

/// Directives at the top of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `# syntax=`: the whole value, such as `docker/dockerfile:1`.
    pub syntax: Option<Word>,
    /// `# escape=`.
    pub escape: Escape,
    /// `# check=`: the whole value, such as `skip=all;error=true`.
    pub check: Option<Word>,
}

/// One FROM and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// 0-based position among the stages.
    pub index: usize,
    /// The name after AS in lower case.
    pub name: Option<String>,
    /// The FROM instruction.
    pub from: Located<From>,
    /// What follows FROM.
    pub instructions: Vec<Located<Instruction>>,
}

impl Stage {
    /// The base as written: an image, an earlier stage, or `scratch`; variables unexpanded.
    pub fn base(&self) -> &str {
        &self.from.node.base.value
    }

    /// The value of `--platform`, unexpanded.
    pub fn platform(&self) -> Option<&str> {
        self.from.node.platform.as_ref().map(Word::as_str)
    }

    /// The description in the comment `# name text` above FROM.
    pub fn doc(&self) -> Option<&str> {
        doc_comment(&self.from.comments, self.name.as_deref().unwrap_or_default())
    }

    /// The bytes from FROM to the end of the stage's last instruction.
    pub fn range(&self) -> TextRange {
        self.instructions.last().map_or(self.from.range, |last| self.from.range.cover(last.range))
    }
}

/// The text of the first comment that reads `name text`.
pub fn doc_comment<'a>(comments: &'a [String], name: &str) -> Option<&'a str> {
    if name.is_empty() {
        return None;
    }
    comments.iter().find_map(|comment| comment.strip_prefix(name)?.strip_prefix(' '))
}

/// An instruction with where and how it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// What it says.
    pub node: T,
    /// All its bytes, from the keyword to the end of its last line or heredoc.
    pub range: TextRange,
    /// All its lines.
    pub lines: Lines,
    /// The keyword as written.
    pub keyword: Word,
    /// Flags as written (quotes removed), such as `--link`.
    pub flags: Vec<Word>,
    /// The instruction with continuation lines joined, comments in between dropped and blanks around it
    /// trimmed: BuildKit's `String()`. Heredoc bodies are not part of it.
    pub code: String,
    /// The comment lines straight above, without `#` and outer blanks.
    pub comments: Vec<String>,
}

impl<T> Located<T> {
    /// The same place with something else in it.
    pub fn map<U>(self, with: impl FnOnce(T) -> U) -> Located<U> {
        Located {
            node: with(self.node),
            range: self.range,
            lines: self.lines,
            keyword: self.keyword,
            flags: self.flags,
            code: self.code,
            comments: self.comments,
        }
    }
}

/// FROM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// The base.
    pub base: Word,
    /// The word `AS` as written.
    pub as_keyword: Option<Word>,
    /// The name as written.
    pub name: Option<Word>,
    /// `--platform`.
    pub platform: Option<Word>,
}

/// Every instruction that may stand in a stage after FROM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// ARG
    Arg(Arg),
    /// ENV
    Env(Env),
    /// LABEL
    Label(Label),
    /// MAINTAINER
    Maintainer(Maintainer),
    /// ADD
    Add(Add),
    /// COPY
    Copy(Copy),
    /// RUN
    Run(Run),
    /// CMD
    Cmd(Cmd),
    /// ENTRYPOINT
    Entrypoint(Entrypoint),
    /// HEALTHCHECK
    Healthcheck(Healthcheck),
    /// EXPOSE
    Expose(Expose),
    /// USER
    User(User),
    /// VOLUME
    Volume(Volume),
    /// WORKDIR
    Workdir(Workdir),
    /// STOPSIGNAL
    StopSignal(StopSignal),
    /// SHELL
    Shell(Shell),
    /// ONBUILD
    Onbuild(Onbuild),
}

impl Instruction {
    /// The keyword in capitals.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Arg(_) => "ARG",
            Self::Env(_) => "ENV",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Add(_) => "ADD",
            Self::Copy(_) => "COPY",
            Self::Run(_) => "RUN",
            Self::Cmd(_) => "CMD",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Expose(_) => "EXPOSE",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::Shell(_) => "SHELL",
            Self::Onbuild(_) => "ONBUILD",
        }
    }
}

/// ARG: any number of names, each with or without a default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// In order of writing.
    pub args: Vec<ArgPair>,
}

/// One name of an ARG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgPair {
    /// The name, unexpanded.
    pub key: String,
    /// The default, unexpanded; `None` without `=`.
    pub value: Option<String>,
    /// The description in the comment `# key text` above ARG.
    pub doc: Option<String>,
    /// The whole word.
    pub range: TextRange,
}

/// One pair of ENV or LABEL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The name, unexpanded.
    pub key: String,
    /// The value, unexpanded, quotes in place.
    pub value: String,
    /// Which form it was written in.
    pub form: PairForm,
    /// The whole pair.
    pub range: TextRange,
}

/// How a pair was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PairForm {
    /// `key=value`.
    Equals,
    /// `key rest of line`, the legacy form.
    Blank,
}

/// ENV.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Env {
    /// At least one.
    pub pairs: Vec<Pair>,
}

/// LABEL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// At least one.
    pub pairs: Vec<Pair>,
}

/// MAINTAINER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintainer {
    /// Never expanded.
    pub name: Word,
}

/// A heredoc that is a source of COPY or ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceContent {
    /// Name of the file that is made: the delimiter without quotes.
    pub name: String,
    /// The body; leading tabs are gone for `<<-`.
    pub body: String,
    /// Whether variables in the body expand.
    pub expand: bool,
    /// Where `<<NAME` stands.
    pub range: TextRange,
}

/// Sources and destination of COPY and ADD. BuildKit copies `contents` after `sources`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Paths, wildcards or (ADD) URLs.
    pub sources: Vec<Word>,
    /// Heredocs.
    pub contents: Vec<SourceContent>,
    /// The last argument.
    pub dest: Word,
    /// Whether the arguments were a JSON array.
    pub json: bool,
}

/// COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// What goes where.
    pub transfer: Transfer,
    /// `--from`: a stage, an index, a named context or an image; never expanded.
    pub from: Option<Word>,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`, never expanded.
    pub excludes: Vec<Word>,
}

/// ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// What goes where.
    pub transfer: Transfer,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--keep-git-dir`; `None` where it is not given.
    pub keep_git_dir: Option<bool>,
    /// `--checksum`.
    pub checksum: Option<Word>,
    /// `--unpack`; `None` where it is not given: local archives are unpacked, remote ones are not.
    pub unpack: Option<bool>,
    /// `--exclude`, never expanded.
    pub excludes: Vec<Word>,
}

/// A heredoc as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes.
    pub name: String,
    /// The number before `<<`; 0 without one.
    pub fd: u64,
    /// Whether variables may expand: no part of the delimiter was quoted.
    pub expand: bool,
    /// `<<-`: leading tabs are stripped.
    pub chomp: bool,
    /// The lines between, as they stand, with line endings.
    pub body: String,
    /// Where the body stands.
    pub body_range: TextRange,
}

impl Heredoc {
    /// The body, without leading tabs where `<<-` asks for it.
    pub fn text(&self) -> String {
        match self.chomp {
            true => strip_leading_tabs(&self.body),
            false => self.body.clone(),
        }
    }
}

/// Drops the tabs that start each line.
pub fn strip_leading_tabs(text: &str) -> String {
    text.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// Shell or exec form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A text for the current shell; empty where nothing was written.
    Shell(Word),
    /// A JSON array.
    Exec(Vec<Word>),
}

/// RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What to run. With heredocs it is always shell form.
    pub command: Command,
    /// Bodies that belong to the command.
    pub heredocs: Vec<Heredoc>,
    /// Each `--mount`, unexpanded; read one with [`super::Mount::parse`].
    pub mounts: Vec<Word>,
    /// `--network`.
    pub network: Network,
    /// `--security`.
    pub security: Security,
    /// Each `--device`.
    pub devices: Vec<Device>,
}

/// What a RUN gives to the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// A text for the shell: `[shell…, text]`.
    Shell(String),
    /// Arguments as they are.
    Exec(Vec<String>),
    /// A heredoc that starts with `#!`: a file of mode 0755. BuildKit mounts it read-only as
    /// `/dev/pipes/NAME` and runs `[shell…, /dev/pipes/NAME]`, which is also what history shows.
    File {
        /// The file's name: the delimiter.
        name: String,
        /// The file's bytes.
        body: String,
    },
}

impl Run {
    /// What to give to the process, by BuildKit's rules: a command that is nothing but a heredoc runs the
    /// body, as a file where it starts with `#!`; with other text around, text and bodies go to the shell.
    pub fn script(&self) -> Script {
        let text = match &self.command {
            Command::Exec(args) => return Script::Exec(args.iter().map(|arg| arg.value.clone()).collect()),
            Command::Shell(text) => &text.value,
        };
        let Some(first) = self.heredocs.first() else { return Script::Shell(text.clone()) };
        if super::heredoc_word(text).is_some() {
            let body = first.text();
            return match body.starts_with("#!") {
                true => Script::File { name: first.name.clone(), body },
                false => Script::Shell(body),
            };
        }
        let mut script = text.clone();
        for heredoc in &self.heredocs {
            script.push('\n');
            script.push_str(&heredoc.body);
            script.push_str(&heredoc.name);
        }
        Script::Shell(script)
    }
}

/// `RUN --network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Network {
    /// The builder's usual network.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's network; needs an entitlement.
    Host,
}

/// `RUN --security`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Security {
    /// The usual sandbox.
    #[default]
    Sandbox,
    /// All capabilities; needs an entitlement.
    Insecure,
}

/// `RUN --device=name[,required]`: a CDI device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The qualified name.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// Where it is written.
    pub range: TextRange,
}

/// CMD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cmd {
    /// What to run.
    pub command: Command,
}

/// ENTRYPOINT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrypoint {
    /// What to run.
    pub command: Command,
}

/// HEALTHCHECK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// `NONE`: drop an inherited check.
    None,
    /// `CMD …`.
    Check(HealthcheckCmd),
}

/// What HEALTHCHECK CMD says. A zero duration or count means: not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthcheckCmd {
    /// Shell form becomes `CMD-SHELL text`, exec form `CMD args…`.
    pub command: Command,
    /// `--interval`.
    pub interval: Duration,
    /// `--timeout`.
    pub timeout: Duration,
    /// `--start-period`.
    pub start_period: Duration,
    /// `--start-interval`.
    pub start_interval: Duration,
    /// `--retries`, not negative.
    pub retries: i32,
}

/// EXPOSE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expose {
    /// Unexpanded words, sorted by bytes as BuildKit sorts them; one may expand to several.
    pub ports: Vec<Word>,
}

/// USER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// `user[:group]`.
    pub user: Word,
}

/// VOLUME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// None is empty.
    pub volumes: Vec<Word>,
    /// Whether the arguments were a JSON array.
    pub json: bool,
}

/// WORKDIR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workdir {
    /// May be relative.
    pub path: Word,
}

/// STOPSIGNAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopSignal {
    /// A name or a number, not yet checked.
    pub signal: Word,
}

/// SHELL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shell {
    /// At least one.
    pub shell: Vec<Word>,
}

/// ONBUILD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onbuild {
    /// The text that goes into the image's configuration, heredocs included.
    pub expression: String,
    /// The trigger, read; its ranges are those of this file. `None` where the trigger has an error that
    /// shows only once it fires.
    pub trigger: Option<Box<Instruction>>,
}
