//! Arguments of commands that look for images, and of those on base images.

use super::ListFormat;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Clone, Args)]
pub struct SearchArgs {
    /// What to look for on Docker Hub; HOST[:PORT]/TERM looks in that registry, HOST[:PORT]/ lists it
    pub term: String,
    /// Most lines
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..=1000), value_name = "NUMBER")]
    pub limit: u16,
    /// stars=NUMBER, is-official=true|false, is-automated=true|false
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// List the tags of the repository of that name
    #[arg(long)]
    pub list_tags: bool,
    /// Whole descriptions
    #[arg(long)]
    pub no_trunc: bool,
    #[arg(long, value_enum, default_value_t = ListFormat::Table)]
    pub format: ListFormat,
}

#[derive(Debug, Subcommand)]
pub enum OsImage {
    /// Look for base images that can be installed
    Find(FindArgs),
    /// Make a base image from a distribution's packages, such as debian:bookworm, or fetch it from a registry
    Install(InstallArgs),
    /// List installed base images
    Ls(OsListArgs),
    /// Remove base images
    Rm(OsRemoveArgs),
    /// Save a base image for a machine without a network
    Save(OsSaveArgs),
    /// Install base images from an archive, an OCI layout or a Windows image file (WIM)
    Import(OsImportArgs),
}

#[derive(Debug, Clone, Args)]
pub struct FindArgs {
    /// NAME[:VERSION], or a part of NAME
    pub name: Option<String>,
    /// Mirrors and repositories to ask instead of the usual ones: https://mirror/debian, HOST/REPOSITORY
    #[arg(long, env = "CTRBUILD_OS_SOURCES", value_delimiter = ',', value_name = "SOURCE")]
    pub source: Vec<String>,
    /// Mirror of Debian
    #[arg(long, env = "CTRBUILD_MIRROR")]
    pub mirror: Option<String>,
    /// Keyring that releases must be signed with
    #[arg(long)]
    pub keyring: Option<PathBuf>,
    /// Most versions of a repository
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000), value_name = "NUMBER")]
    pub limit: u16,
    #[arg(long, value_enum, default_value_t = ListFormat::Table)]
    pub format: ListFormat,
}

#[derive(Debug, Clone, Args)]
pub struct InstallArgs {
    /// NAME[:VERSION], such as debian:bookworm
    pub name: String,
    /// Mirror of the distribution
    #[arg(long, env = "CTRBUILD_MIRROR")]
    pub mirror: Option<String>,
    /// Further packages
    #[arg(long, value_delimiter = ',')]
    pub include: Vec<String>,
    /// Keyring that the release must be signed with
    #[arg(long)]
    pub keyring: Option<PathBuf>,
    /// Make it anew if it is installed
    #[arg(long)]
    pub force: bool,
    /// Accept a release past its date, as sid's sometimes is
    #[arg(long)]
    pub ignore_expiry: bool,
    #[arg(long)]
    pub platform: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct OsListArgs {
    #[arg(long, value_enum, default_value_t = ListFormat::Table)]
    pub format: ListFormat,
    /// Only names
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Clone, Args)]
pub struct OsRemoveArgs {
    /// NAME:VERSION; without any they are read from standard input, one a line
    pub names: Vec<String>,
    /// Also if a stopped container was made of it
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Debug, Clone, Args)]
pub struct OsSaveArgs {
    #[arg(required = true)]
    pub names: Vec<String>,
    /// An archive; or a folder that is there, or whose name ends with `/`, for an OCI layout
    #[arg(short, long, visible_alias = "destination", value_name = "FILE|DIR")]
    pub output: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub struct OsImportArgs {
    /// OCI layout, OCI archive, docker archive or Windows image file (WIM); `-` is standard input
    pub file: PathBuf,
    /// Name of an image that has none in the archive, or another one: NAME:VERSION
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Which image of a Windows image file: its number, or its name in the file
    #[arg(long, value_name = "N|NAME")]
    pub index: Option<String>,
    /// Install what is installed already, or has the name of another image
    #[arg(long)]
    pub force: bool,
}
