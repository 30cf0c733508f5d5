//! Arguments, in the manner of `docker buildx`. One struct a command.

mod containers;
mod docker;
mod images;
mod os_image;

pub use containers::*;
pub use docker::*;
pub use images::*;
pub use os_image::*;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Build container images from Dockerfiles: no daemon, as root or rootless.
#[derive(Debug, Parser)]
#[command(name = "ctrbuild", version, max_term_width = 100)]
#[command(after_help = "`ctrbuild .` is short for `ctrbuild build .`")]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    pub fn split(self) -> (Global, Command) {
        (self.global, self.command)
    }

    /// The arguments of a process with `build` put in where they name no command: `ctrbuild .` and
    /// `ctrbuild -t NAME .` are builds, with global options before them or not.
    pub fn complete(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
        let mut args: Vec<OsString> = args.into_iter().collect();
        let mut at = 1;
        while let Some(arg) = args.get(at) {
            match &*arg.to_string_lossy() {
                "--root" | "--snapshotter" => at += 2,
                "--debug" => at += 1,
                text if ["--root=", "--snapshotter="].iter().any(|p| text.starts_with(p)) => at += 1,
                "-h" | "--help" | "-V" | "--version" | "help" => break,
                text if Cli::command().find_subcommand(text).is_some() => break,
                _ => {
                    args.insert(at, "build".into());
                    break;
                }
            }
        }
        args
    }
}

#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Folder of the store [default: /var/lib/ctrbuild, or below XDG_DATA_HOME for ordinary users]
    #[arg(long, env = "CTRBUILD_ROOT", global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// How steps get their root file systems [default: overlay, and copies where it is refused]
    #[arg(long, env = "CTRBUILD_SNAPSHOTTER", global = true, value_name = "WAY", hide_short_help = true)]
    pub snapshotter: Option<Snapshotter>,
    /// Say less
    #[arg(long, global = true, hide = true)]
    pub debug: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Snapshotter {
    /// An overlay over the layers below
    Overlay,
    /// A copy of the layers below for each step: slower, works everywhere
    Copy,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an image from a recipe
    Build(Box<BuildArgs>),
    /// Show the build graph without building
    Plan(PlanArgs),
    /// Check recipes
    Lint(LintArgs),
    /// Format recipes
    Fmt(FmtArgs),
    /// Serve editors: the language server, on standard input and output
    Lsp(LspArgs),
    /// List images
    Images(ImagesArgs),
    /// Images: which were made from which
    Image(ImageArgs),
    /// Give an image another name
    Tag { source: String, target: String },
    /// Remove images
    Rmi(RmiArgs),
    /// Show how an image was made
    History(HistoryArgs),
    /// Show configurations of images
    Inspect(InspectArgs),
    /// Fetch an image from a registry
    Pull(PullArgs),
    /// Send an image to a registry
    Push(PushArgs),
    /// Log in to a registry
    Login(LoginArgs),
    /// Forget the credentials of a registry
    Logout(LogoutArgs),
    /// Load images from an archive or OCI layout
    Load(LoadArgs),
    /// Save images to an archive
    Save(SaveArgs),
    /// Make an image from a tar of a root file system
    Import(ImportArgs),
    /// Make a working container of an image; prints its name
    From(FromArgs),
    /// Run a command in a container; what it changes stays there
    Run(RunArgs),
    /// Copy files into a container
    Copy(CopyArgs),
    /// As `copy`; archives are unpacked and URLs fetched
    Add(CopyArgs),
    /// Change what a container is committed with
    Config(Box<ConfigArgs>),
    /// Lay out a container's files in a folder; prints its path
    Mount(MountArgs),
    /// Take in what was changed in the folder of `mount`
    #[command(alias = "unmount")]
    Umount(UmountArgs),
    /// List containers
    Containers(ContainersArgs),
    /// Remove containers
    #[command(alias = "delete")]
    Rm(RmArgs),
    /// Make an image of a container; prints its id
    Commit(CommitArgs),
    /// Look for images on Docker Hub or in a registry
    Search(SearchArgs),
    /// Base operating system images
    #[command(subcommand)]
    OsImage(OsImage),
    /// Space that the store takes
    Df,
    /// Remove what is not used
    Prune(PruneArgs),
    /// Open a shell where a build failed
    Shell(ShellArgs),
    /// Look after the store
    #[command(subcommand)]
    Store(StoreCommand),
    /// Look inside: trees, graphs, keys
    #[command(subcommand)]
    Debug(Debug),
    /// Write what a shell needs to complete command lines, to standard output
    #[command(after_help = "bash: ctrbuild completion bash > /etc/bash_completion.d/ctrbuild\n\
                      zsh:  ctrbuild completion zsh > \"${fpath[1]}/_ctrbuild\"\n\
                      fish: ctrbuild completion fish > ~/.config/fish/completions/ctrbuild.fish")]
    Completion { shell: clap_complete::Shell },
    /// Print version
    Version,
}

impl Command {
    /// Whether it makes or reads files of other owners, for which an ordinary user needs a user namespace.
    pub fn needs_ids(&self) -> bool {
        !matches!(
            self,
            Command::Plan(_)
                | Command::Lint(_)
                | Command::Fmt(_)
                | Command::Lsp(_)
                | Command::Images(_)
                | Command::Image(ImageArgs {
                    command: None
                        | Some(
                            ImageCommand::Ls(_)
                                | ImageCommand::Tree(_)
                                | ImageCommand::History(_)
                                | ImageCommand::Inspect(_)
                                | ImageCommand::Tag { .. }
                        ),
                    ..
                })
                | Command::History(_)
                | Command::Inspect(_)
                | Command::Tag { .. }
                | Command::Config(_)
                | Command::Containers(_)
                | Command::Search(_)
                | Command::Debug(_)
                | Command::Completion { .. }
                | Command::Version
                | Command::Login(_)
                | Command::Logout(_)
        )
    }
}

#[derive(Debug, Clone, Args)]
pub struct BuildArgs {
    /// Folder with the files of the build, or `-` for a recipe on standard input
    #[arg(value_name = "CONTEXT")]
    pub context: Option<String>,
    /// Recipe [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Name of the image, NAME[:TAG]; may be given several times
    #[arg(short, long, value_name = "NAME")]
    pub tag: Vec<String>,
    /// Stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Value of an ARG; without `=` it comes from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_args: Vec<String>,
    /// Label of the image
    #[arg(long, value_name = "NAME=VALUE")]
    pub label: Vec<String>,
    /// Annotation of the image: [PLACE:]KEY=VALUE; PLACE is manifest, manifest-descriptor, index or index-descriptor,
    /// and [PLATFORM] behind it names one of several
    #[arg(long, value_name = "ANNOTATION")]
    pub annotation: Vec<String>,
    /// Platforms to build for, such as linux/amd64,linux/arm64
    #[arg(long, value_delimiter = ',', value_name = "PLATFORM")]
    pub platform: Vec<String>,
    /// Execute every step anew
    #[arg(long)]
    pub no_cache: bool,
    /// Execute the steps of these stages anew
    #[arg(long, value_delimiter = ',', value_name = "STAGE")]
    pub no_cache_filter: Vec<String>,
    /// Cache of another machine to use: type=registry,ref=NAME or type=local,src=FOLDER
    #[arg(long, value_name = "CACHE")]
    pub cache_from: Vec<String>,
    /// Where to write the cache: type=registry,ref=NAME or type=local,dest=FOLDER[,mode=min|max]
    #[arg(long, value_name = "CACHE")]
    pub cache_to: Vec<String>,
    /// Ask the registry for newer base images
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "true|false|never")]
    pub pull: Option<String>,
    /// Send the image to the registry of its name
    #[arg(long)]
    pub push: bool,
    /// Keep the image in the local store (the default, if there is no other output)
    #[arg(long)]
    pub load: bool,
    /// Where the result goes: type=oci|docker|tar|local|image|registry[,dest=PATH], or a folder
    #[arg(short, long, value_name = "OUTPUT")]
    pub output: Vec<String>,
    /// Secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=NAME]
    #[arg(long, value_name = "SECRET")]
    pub secret: Vec<String>,
    /// ssh agent for RUN --mount=type=ssh: default, ID, ID=SOCKET or ID=KEY[,KEY…]
    #[arg(long, value_name = "AGENT")]
    pub ssh: Vec<String>,
    /// Further context: NAME=FOLDER, NAME=docker-image://REF or NAME=oci-layout://PATH
    #[arg(long = "build-context", value_name = "NAME=VALUE")]
    pub build_context: Vec<String>,
    /// Network of steps: default (the host's), none, host, or isolated[:pasta|:slirp4netns], one of its own with a way out
    #[arg(long, default_value = "default", value_name = "MODE")]
    pub network: String,
    /// Let steps connect to these places only: HOST[:PORT], *.DOMAIN[:PORT], ADDRESS[:PORT]
    #[arg(long, value_delimiter = ',', value_name = "PLACE")]
    pub allow_net: Vec<String>,
    /// Further line of /etc/hosts in steps
    #[arg(long, value_name = "HOST:ADDRESS")]
    pub add_host: Vec<String>,
    /// Name server of steps
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<String>,
    /// Privileges that the recipe may use: network.host, security.insecure
    #[arg(long, value_delimiter = ',', value_name = "ENTITLEMENT")]
    pub allow: Vec<String>,
    /// Memory limit of a step, such as 512m; 0 is none, here and below
    #[arg(short, long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// Processors that a step may use, such as 1.5
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub cpus: Option<String>,
    /// Most processes and threads of a step
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub pids_limit: Option<String>,
    /// Size of /dev/shm in steps [default: 64m]
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    /// Resource limit of steps, NAME=SOFT[:HARD]
    #[arg(long, value_name = "LIMIT")]
    pub ulimit: Vec<String>,
    /// Cgroup below which steps run
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// Kill a step after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub step_timeout: Option<String>,
    /// Run a failed step up to so many times more, each time on a clean snapshot
    #[arg(long, value_name = "NUMBER")]
    pub step_retries: Option<String>,
    /// Other limits for a stage or one of its steps: stage=NAME[,step=N], then memory, cpus, pids-limit, shm-size,
    /// ulimit, cgroup-parent, timeout, retries
    #[arg(long, value_name = "STEP,LIMITS")]
    pub step_limit: Vec<String>,
    /// Copy the root file system of a failed step to a folder
    #[arg(long, value_name = "DIR")]
    pub on_fail_export: Option<PathBuf>,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto, env = "BUILDKIT_PROGRESS", value_name = "MODE")]
    pub progress: ProgressMode,
    /// Write the image id to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// Write what was built, and what each step took, to a file as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// Print nothing but the image id
    #[arg(short, long)]
    pub quiet: bool,
    /// What to do with the recipe: build, check, outline, targets or describe[,format=json]
    #[arg(long, default_value = "build", value_name = "METHOD")]
    pub call: String,
    /// Short for --call=check
    #[arg(long)]
    pub check: bool,
    /// Steps that may run at once [default: number of processors]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
    #[command(flatten)]
    pub docker: DockerArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    Auto,
    Plain,
    Tty,
    Quiet,
    /// One JSON object a line (also `rawjson`)
    #[value(alias = "rawjson")]
    Json,
}

#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub build: BuildArgs,
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    pub format: PlanFormat,
    /// Compare with the reviewed RECIPE.plan.snap, or make it; with --check a missing one is a failure
    #[arg(long)]
    pub snapshot: bool,
    /// Renew the snapshot
    #[arg(long, requires = "snapshot", conflicts_with = "check")]
    pub accept: bool,
    /// Look base images up for the snapshot, which then has their digests and configuration
    #[arg(long, requires = "snapshot")]
    pub resolve: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    Text,
    Json,
    Dot,
}

#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct LintArgs {
    #[command(subcommand)]
    pub command: Option<LintCommand>,
    /// Recipes, or folders to search for them; `-` is standard input [default: this folder]
    pub paths: Vec<PathBuf>,
    #[arg(long, value_enum, default_value_t = LintFormat::Text)]
    pub format: LintFormat,
    /// Write findings to this file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Rules to start with
    #[arg(long, value_enum)]
    pub profile: Option<LintProfile>,
    /// Rules to run, by any of their names
    #[arg(long, value_name = "RULE")]
    pub enable: Vec<String>,
    /// Rules to leave out
    #[arg(long, value_name = "RULE")]
    pub ignore: Vec<String>,
    /// Fail from this severity on: error, warning, info, style, hint, none [default: warning]
    #[arg(long, value_name = "SEVERITY")]
    pub failure_threshold: Option<String>,
    /// Configuration instead of the ctrbuild.toml of the folders
    #[arg(long, value_name = "FILE", conflicts_with = "no_config")]
    pub config: Option<PathBuf>,
    /// Read no configuration
    #[arg(long)]
    pub no_config: bool,
    /// Comments in recipes silence nothing
    #[arg(long)]
    pub no_inline: bool,
    /// Platform the recipes are for [default: told by the recipe]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// Registry that images may come from; may be given several times
    #[arg(long, value_name = "HOST")]
    pub trusted_registry: Vec<String>,
    /// ShellCheck's program, to look at the shell text of RUN too; `off` for none
    #[arg(long, value_name = "PROGRAM")]
    pub shellcheck: Option<std::ffi::OsString>,
    /// Name of the recipe on standard input
    #[arg(long, value_name = "NAME")]
    pub stdin_filename: Option<String>,
    /// Repair what can be repaired without changing the meaning
    #[arg(long)]
    pub fix: bool,
    /// Repair all that can be repaired
    #[arg(long)]
    pub unsafe_fixes: bool,
    /// Show what would be repaired
    #[arg(long)]
    pub diff: bool,
    /// Leave out the findings of this file
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Write all findings to the baseline
    #[arg(long)]
    pub write_baseline: bool,
    /// Only instructions that changed since a revision of git
    #[arg(long, value_name = "REV")]
    pub since: Option<String>,
    /// Compare with the reviewed RECIPE.snap, or make it
    #[arg(long)]
    pub snapshot: bool,
    /// Renew snapshots
    #[arg(long, requires = "snapshot")]
    pub accept: bool,
    /// A missing snapshot is a failure
    #[arg(long, requires = "snapshot", conflicts_with = "accept")]
    pub check: bool,
}

#[derive(Debug, Clone, Subcommand)]
pub enum LintCommand {
    /// Tell about a rule, or list all
    Explain {
        /// Any of its names
        rule: Option<String>,
    },
    /// Turn a .hadolint.yaml into a ctrbuild.toml
    Migrate {
        #[arg(default_value = ".hadolint.yaml")]
        file: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LintProfile {
    Default,
    Buildkit,
    Hadolint,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LintFormat {
    Text,
    Json,
    Sarif,
    Checkstyle,
    Codeclimate,
    Gitlab,
    Junit,
    Gnu,
    Sonarqube,
    Github,
}

#[derive(Debug, Clone, Args)]
pub struct LspArgs {
    /// Taken and ignored: some editors always give it
    #[arg(long)]
    pub stdio: bool,
}

#[derive(Debug, Clone, Args)]
pub struct FmtArgs {
    /// Recipes, or folders to search for them; `-` is standard input [default: this folder]
    pub paths: Vec<PathBuf>,
    /// Change nothing; fail if something would change
    #[arg(long)]
    pub check: bool,
    /// Show what would change
    #[arg(long)]
    pub diff: bool,
    /// Name of the recipe on standard input
    #[arg(long, value_name = "NAME")]
    pub stdin_filename: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct RmiArgs {
    #[arg(required_unless_present = "collect")]
    pub names: Vec<String>,
    /// Also if it has several names
    #[arg(short, long)]
    pub force: bool,
    /// Only give space back: what `rmi` starts in the background
    #[arg(long, hide = true, conflicts_with = "names")]
    pub collect: bool,
}

#[derive(Debug, Clone, Args)]
pub struct HistoryArgs {
    /// Only the ids
    #[arg(short, long, conflicts_with = "format")]
    pub quiet: bool,
    pub name: String,
    #[arg(long)]
    pub no_trunc: bool,
    #[arg(long, value_enum, default_value_t = ListFormat::Table)]
    pub format: ListFormat,
}

#[derive(Debug, Clone, Args)]
pub struct PullArgs {
    pub name: String,
    #[arg(long)]
    pub platform: Option<String>,
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Clone, Args)]
pub struct PushArgs {
    pub name: String,
    /// Push under another name
    pub destination: Option<String>,
    #[command(flatten)]
    pub compression: CompressionArgs,
    #[arg(short, long)]
    pub quiet: bool,
}

/// How layers are written.
#[derive(Debug, Clone, Args)]
pub struct CompressionArgs {
    /// Write all layers as gzip, zstd or uncompressed [default: each as it is, and gzip where it is not packed]
    #[arg(long, value_name = "KIND")]
    pub compression: Option<String>,
    /// gzip: 0 to 12, zstd: 1 to 22
    #[arg(long, value_name = "LEVEL", requires = "compression")]
    pub compression_level: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct LoginArgs {
    /// HOST[:PORT] [default: docker.io]
    pub registry: Option<String>,
    #[arg(short, long)]
    pub username: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub password_stdin: bool,
}

#[derive(Debug, Clone, Args)]
pub struct LogoutArgs {
    /// HOST[:PORT] [default: docker.io]
    pub registry: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// Archive or folder [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Move names that mean other images
    #[arg(long)]
    pub force: bool,
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Clone, Args)]
pub struct SaveArgs {
    #[arg(required = true)]
    pub names: Vec<String>,
    /// File [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// `oci` (docker and podman load it too) or `docker`
    #[arg(long, default_value = "oci")]
    pub format: String,
    #[command(flatten)]
    pub compression: CompressionArgs,
}

#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// Tar of a root file system, packed or not; `-` is standard input
    pub file: PathBuf,
    pub name: String,
    #[arg(long)]
    pub platform: Option<String>,
    /// Text for the history
    #[arg(short, long)]
    pub message: Option<String>,
    /// Instruction of a recipe that changes the configuration: CMD, ENV, LABEL, USER, …
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub struct PruneArgs {
    /// Also cache that was used lately
    #[arg(short, long)]
    pub all: bool,
    /// Also cache that was not used for so long: 90m, 36h, 7d; a plain number is hours
    #[arg(long, value_name = "DURATION")]
    pub unused_for: Option<String>,
    /// Also cache that was made so long ago
    #[arg(long, value_name = "DURATION")]
    pub older_than: Option<String>,
    /// Also cache for which this holds: until=DURATION|TIME, unused-for=DURATION,
    /// kind=cache|layer|mount|download
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Remove cache, the longest unused first, until the store takes no more than this: 20g
    #[arg(long, value_name = "BYTES", alias = "max-used-space")]
    pub keep_storage: Option<String>,
    /// Remove cache, the longest unused first, until so much is free on its disk
    #[arg(long, value_name = "BYTES")]
    pub min_free_space: Option<String>,
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Debug, Clone, Args)]
pub struct ShellArgs {
    /// In what the last failed step left, with its environment, user and working directory
    #[arg(long, required = true)]
    pub failed: bool,
    /// Program to run instead of a shell
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Check every blob, record and reference. Exit code 1: damaged, 2: others may have changed it
    Verify {
        /// Set aside what is damaged, put together and fetch again what can be, and say what can't
        #[arg(long)]
        repair: bool,
    },
    /// Keep files once that are equal in several layers. `prune` does this too
    Dedup,
    /// Move the store to a folder that does not exist yet; the old one then leads there
    Move {
        /// On any file system that can hold a store
        #[arg(value_name = "PATH")]
        path: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum Debug {
    /// Recipes as BuildKit's parser sees them
    Parse {
        #[arg(long, default_value = "json")]
        format: String,
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// The syntax tree of a recipe
    Tree { file: PathBuf },
    /// The build graph
    Graph(PlanArgs),
    /// Cache keys of the build graph
    Key(BuildArgs),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_is_the_command_where_none_is_named() {
        let complete = |line: &str| {
            let args = Cli::complete(line.split(' ').map(OsString::from));
            args.into_iter().map(|a| a.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        for (line, whole) in [
            ("ctrbuild .", "ctrbuild build ."),
            ("ctrbuild -t a .", "ctrbuild build -t a ."),
            ("ctrbuild --root images .", "ctrbuild --root images build ."),
            ("ctrbuild --root=x -", "ctrbuild --root=x build -"),
            ("ctrbuild --root x images", "ctrbuild --root x images"),
            ("ctrbuild build images", "ctrbuild build images"),
            ("ctrbuild --help", "ctrbuild --help"),
            ("ctrbuild help build", "ctrbuild help build"),
            ("ctrbuild", "ctrbuild"),
            ("ctrbuild --root", "ctrbuild --root"),
        ] {
            assert_eq!(complete(line), whole);
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
