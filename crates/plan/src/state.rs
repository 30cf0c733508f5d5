//! What a stage has come to while its instructions are lowered.

use graph::VertexRef;
use oci::{History, ImageConfig, Platform};

/// Environment of expansion and of RUN: ordered, every name once. Setting a name moves it to the end, as
/// in LLB.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env(Vec<(String, String)>);

impl Env {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(n, _)| n != name);
        self.0.push((name.to_string(), value.to_string()));
    }
    pub fn to_vec(&self) -> Vec<(String, String)> {
        self.0.clone()
    }
}

/// An ARG seen so far in a stage or its parents, for the history of RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredArg {
    pub name: String,
    pub value: Option<String>,
}

/// Where the root file system of a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// Nothing in it and no layer.
    Empty,
    Vertex(VertexRef),
    /// A local folder: usable as a source, made into a layer when it is a root.
    Local(VertexRef),
}

/// The value of a stage: what a child stage inherits.
#[derive(Debug, Clone)]
pub struct StageState {
    pub root: Root,
    pub image: ImageConfig,
    pub platform: Platform,
    pub env: Env,
    pub args: Vec<DeclaredArg>,
    pub base: Option<crate::BaseImage>,
    /// CMD was set in this very stage.
    pub cmd_set: bool,
}

/// The folder that layers for a platform have the files in.
pub fn drive(platform: &Platform) -> &'static str {
    if platform.os == "windows" { oci::windows::FILES } else { "" }
}

/// The comment of history entries that a recipe makes.
pub const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";

/// Whether a history entry stands for a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MakesLayer {
    Yes,
    No,
}

impl StageState {
    /// What paths of the recipe are below, in the files of this stage: layers of Windows images have drive C in a
    /// folder. A local folder has no such layers yet.
    pub fn drive(&self) -> &'static str {
        match self.root {
            Root::Local(_) => "",
            Root::Empty | Root::Vertex(_) => drive(&self.platform),
        }
    }

    pub fn commit(&mut self, created_by: String, layer: MakesLayer) {
        self.image.history.push(History {
            created_by,
            comment: HISTORY_COMMENT.to_string(),
            empty_layer: layer == MakesLayer::No,
            ..History::default()
        });
    }
    /// The working directory; `/` if none was set.
    pub fn workdir(&self) -> &str {
        match self.image.config.working_dir.as_str() {
            "" => "/",
            dir => dir,
        }
    }
    /// The shell that shell forms run in.
    pub fn shell(&self) -> Vec<String> {
        match &self.image.config.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ if self.image.os == "windows" => vec!["cmd".into(), "/S".into(), "/C".into()],
            _ => vec!["/bin/sh".into(), "-c".into()],
        }
    }
    /// `shell… text`.
    pub fn with_shell(&self, text: &str) -> Vec<String> {
        let mut args = self.shell();
        args.push(text.to_string());
        args
    }
}

/// The PATH of a step whose image has none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration of `FROM scratch`.
pub fn empty_image(platform: &Platform) -> ImageConfig {
    let mut image = ImageConfig::scratch(platform);
    image.config.working_dir = "/".into();
    if platform.os != "windows" {
        image.config.env = vec![format!("PATH={DEFAULT_PATH}")];
    }
    image
}
