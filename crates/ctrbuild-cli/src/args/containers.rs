//! Arguments of commands on working containers, in the manner of `buildah`.

use super::ListFormat;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Clone, Args)]
pub struct FromArgs {
    /// Name of the container [default: that of the image with `-working-container` behind it]
    #[arg(long)]
    pub name: Option<String>,
    /// Ask the registry for a newer image
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "true|false|never")]
    pub pull: Option<String>,
    #[arg(long)]
    pub platform: Option<String>,
    /// Say nothing of fetching
    #[arg(short, long)]
    pub quiet: bool,
    /// Image to start from, or `scratch`
    pub image: String,
}

#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// A terminal for the command [default: if there is one on both ends]
    #[arg(short, long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "true|false")]
    pub tty: Option<bool>,
    /// Nothing: standard input is the command's in any case. For `-it`, as one types it elsewhere
    #[arg(short, long)]
    pub interactive: bool,
    /// User to run it as, USER[:GROUP]
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Variable for this command; without `=` it comes from the environment
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Folder to run it in
    #[arg(short, long, visible_alias = "workingdir", value_name = "DIR")]
    pub workdir: Option<String>,
    /// default (the host's), none, host, or isolated[:pasta|:slirp4netns]
    #[arg(long, default_value = "default", value_name = "MODE")]
    pub network: String,
    /// As in a recipe: type=bind|cache|tmpfs,…
    #[arg(long, value_name = "MOUNT")]
    pub mount: Vec<String>,
    /// Folder that bind mounts without `from` read [default: this folder]
    #[arg(long, value_name = "DIR")]
    pub contextdir: Option<PathBuf>,
    /// Name, id, or the start of one
    pub container: String,
    /// Program and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub command: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub struct CopyArgs {
    /// Owner of what is copied, USER[:GROUP]
    #[arg(long, value_name = "OWNER")]
    pub chown: Option<String>,
    /// Permissions of what is copied: 0755, u=rwX,go=rX
    #[arg(long, value_name = "MODE")]
    pub chmod: Option<String>,
    /// Leave out what matches
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Paths are in this folder, and lead nowhere else
    #[arg(long, value_name = "DIR")]
    pub contextdir: Option<PathBuf>,
    #[command(flatten)]
    pub from: CopyFrom,
    /// Name, id, or the start of one
    pub container: String,
    /// What to copy, and where to; without a second path, to the working directory
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<String>,
}

/// Where files come from.
#[derive(Debug, Clone, Args)]
pub struct CopyFrom {
    /// Container or image that the files are in
    #[arg(long = "from", value_name = "NAME", conflicts_with = "contextdir")]
    pub name: Option<String>,
}

#[derive(Debug, Clone, Args)]
#[command(
    after_help = "A `-` behind a name takes it away: --env NAME-, --label NAME-, --port 80-, --volume /data-; \
    so does an empty value: --cmd '', --entrypoint '', --user '', --healthcheck none."
)]
pub struct ConfigArgs {
    /// Variable; the value may name others of the container
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Default command: words, or a list in JSON
    #[arg(long, allow_hyphen_values = true, value_name = "CMD")]
    pub cmd: Option<String>,
    /// Entry point: a list in JSON, or text for the shell
    #[arg(long, allow_hyphen_values = true, value_name = "CMD")]
    pub entrypoint: Option<String>,
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub label: Vec<String>,
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Working directory
    #[arg(long, visible_alias = "workdir", value_name = "DIR")]
    pub workingdir: Option<String>,
    /// Port to expose: 80, 53/udp, 8000-8010
    #[arg(short, long, value_name = "PORT")]
    pub port: Vec<String>,
    #[arg(short, long, value_name = "PATH")]
    pub volume: Vec<String>,
    #[arg(short, long)]
    pub author: Option<String>,
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Shell of shell forms: words, or a list in JSON
    #[arg(long, value_name = "SHELL")]
    pub shell: Option<String>,
    /// `none`, `CMD command` for the shell, or `CMD ["a","list"]`
    #[arg(long, value_name = "CMD")]
    pub healthcheck: Option<String>,
    #[arg(long, value_name = "DURATION", requires = "healthcheck")]
    pub healthcheck_interval: Option<String>,
    #[arg(long, value_name = "DURATION", requires = "healthcheck")]
    pub healthcheck_timeout: Option<String>,
    #[arg(long, value_name = "DURATION", requires = "healthcheck")]
    pub healthcheck_start_period: Option<String>,
    #[arg(long, value_name = "NUMBER", requires = "healthcheck")]
    pub healthcheck_retries: Option<String>,
    /// Instruction for images that are built on this one
    #[arg(long, value_name = "INSTRUCTION")]
    pub onbuild: Vec<String>,
    /// Annotation of the manifest
    #[arg(long, value_name = "NAME=VALUE")]
    pub annotation: Vec<String>,
    /// Architecture, such as arm64 or arm/v7
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<String>,
    #[arg(long, value_name = "OS")]
    pub os: Option<String>,
    /// What the history says instead of what was done
    #[arg(long, value_name = "TEXT")]
    pub created_by: Option<String>,
    /// Name, id, or the start of one
    pub container: String,
}

#[derive(Debug, Clone, Args)]
pub struct MountArgs {
    /// Name, id, or the start of one; without it, those that are mounted are listed
    pub container: Option<String>,
    /// Instead of a copy that stays: run this program of the host, which finds the files in the folder $CTRBUILD_MOUNT
    #[arg(last = true, requires = "container", value_name = "CMD")]
    pub command: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub struct UmountArgs {
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub containers: Vec<String>,
    /// All that are mounted
    #[arg(short, long)]
    pub all: bool,
}

#[derive(Debug, Clone, Args)]
pub struct ContainersArgs {
    /// Whole ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// No line of headings
    #[arg(short, long)]
    pub noheading: bool,
    #[arg(long, value_enum, default_value_t = ListFormat::Table)]
    pub format: ListFormat,
    /// Short for --format json
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct RmArgs {
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub containers: Vec<String>,
    /// All of them
    #[arg(short, long)]
    pub all: bool,
}

#[derive(Debug, Clone, Args)]
pub struct CommitArgs {
    #[arg(short, long)]
    pub author: Option<String>,
    /// Who publishes it (label org.opencontainers.image.vendor)
    #[arg(long)]
    pub publisher: Option<String>,
    /// Its version (label org.opencontainers.image.version)
    #[arg(long = "version", value_name = "VERSION")]
    pub image_version: Option<String>,
    /// Instruction of a recipe that changes the configuration: CMD, ENV, LABEL, USER, …
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// Text for the history
    #[arg(short, long)]
    pub message: Option<String>,
    /// No file of the new layer is younger than SOURCE_DATE_EPOCH
    #[arg(long)]
    pub rewrite_timestamp: bool,
    /// Write the id to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// Remove the container afterwards
    #[arg(long)]
    pub rm: bool,
    /// Name, id, or the start of one
    pub container: String,
    /// NAME[:TAG]
    pub name: Option<String>,
}
