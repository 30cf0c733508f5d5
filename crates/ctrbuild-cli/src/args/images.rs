//! Arguments of commands that list images.

use super::{HistoryArgs, RmiArgs};
use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Clone, Args)]
pub struct ImagesArgs {
    /// Only these repositories
    pub names: Vec<String>,
    /// Whole digests
    #[arg(long)]
    pub no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Show digests
    #[arg(long)]
    pub digests: bool,
    /// Also parents, and the sizes that images share and have to themselves
    #[arg(short, long)]
    pub verbose: bool,
    /// kind=base, kind=derived, dangling=true, reference=TEXT
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// table, json, or a template as docker's: '{{.Repository}}:{{.Tag}} {{.Parent}}', 'table {{.ID}}\t{{.Kind}}'
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    pub format: String,
}

#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ImageArgs {
    #[command(subcommand)]
    pub command: Option<ImageCommand>,
    #[command(flatten)]
    pub list: ImagesArgs,
}

#[derive(Debug, Clone, Subcommand)]
pub enum ImageCommand {
    /// List images, as `ctrbuild images`
    Ls(ImagesArgs),
    /// Show which images were made from which
    Tree(TreeArgs),
    /// Remove images, as `ctrbuild rmi`
    Rm(RmiArgs),
    /// Show how an image was made, as `ctrbuild history`
    History(HistoryArgs),
    /// Show configurations of images, as `ctrbuild inspect`
    Inspect(InspectArgs),
    /// Give an image another name, as `ctrbuild tag`
    Tag { source: String, target: String },
}

#[derive(Debug, Clone, Args)]
pub struct TreeArgs {
    /// Only these, with what was made from them
    pub names: Vec<String>,
    /// Whole digests
    #[arg(long)]
    pub no_trunc: bool,
    #[arg(long, value_enum, default_value_t = ListFormat::Table)]
    pub format: ListFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    Table,
    Json,
}

#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// Names, ids or digests
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// `json`, or a text with values: '{{.Id}} {{json .Config.Env}}'
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
}
