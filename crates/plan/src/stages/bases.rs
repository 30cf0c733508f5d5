//! What stages start from: the questions that bases ask, and the state that the answers give.

use super::{Base, NodeId, Planner};
use crate::BaseImage;
use crate::PlanError;
use crate::lower::Lowering;
use crate::request::*;
use crate::state::{DEFAULT_PATH, Env, Root, StageState, empty_image};
use crate::suggest::nearest;
use graph::*;
use oci::{Platform, Reference};
use std::collections::{BTreeMap, BTreeSet};

impl<'a> Planner<'a> {
    /// A named context for `name`, with the key it was given under.
    pub(super) fn context(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Option<(&'a str, &'a NamedContext)> {
        if name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context") {
            return None;
        }
        let name = familiar(name);
        let platform = platform.unwrap_or(&self.target_platform);
        let with_platform = format!("{name}::{}", platform.normalize());
        let find = |wanted: &str| {
            self.request
                .contexts
                .iter()
                .find(|(given, _)| context_key(given) == wanted)
                .map(|(k, v)| (k.as_str(), v))
        };
        find(&with_platform).or_else(|| find(&name))
    }

    pub(super) fn node_platform(&self, id: NodeId) -> Platform {
        self.nodes[id].platform.clone().unwrap_or_else(|| self.target_platform.clone())
    }

    /// The question that a node's base asks; `None` if it needs no answer.
    pub(super) fn question(&self, id: NodeId) -> Result<Option<Question>, PlanError> {
        let platform = self.node_platform(id);
        let (name, context) = match &self.nodes[id].base {
            Base::Scratch | Base::Stage(_) => return Ok(None),
            Base::Image { name } => {
                let full = parse_reference(name)?;
                (full.clone(), self.context(&full, Some(&platform)))
            }
            Base::Context { name } => (name.clone(), self.context(name, self.nodes[id].platform.as_ref())),
        };
        Ok(match context {
            None => Some(Question::Image { reference: name, platform }),
            Some((_, NamedContext::Image(reference))) if reference == "scratch" => None,
            Some((_, NamedContext::Image(reference))) => {
                Some(Question::Image { reference: parse_reference(reference)?, platform })
            }
            Some((_, NamedContext::OciLayout(location))) => {
                Some(Question::OciLayout { location: location.clone(), platform })
            }
            Some((_, NamedContext::Local | NamedContext::Git(_) | NamedContext::Http(_))) => None,
        })
    }

    pub(super) fn open_questions(&self, needed: &BTreeSet<NodeId>) -> Result<BTreeSet<Question>, PlanError> {
        let mut open = BTreeSet::new();
        for &id in needed {
            let node = &self.nodes[id];
            if let Some(q) = self.question(id).map_err(|e| e.at(node.lines))? {
                match self.facts.images.get(&q) {
                    None => {
                        open.insert(q);
                    }
                    Some(Err(e)) => {
                        let name = match &node.base {
                            Base::Image { name } | Base::Context { name } => name.as_str(),
                            _ => "",
                        };
                        let named = parse_reference(name).is_ok_and(|full| e.message.contains(&full));
                        let message = match named {
                            true => e.message.clone(),
                            false => format!("{name}: {}", e.message),
                        };
                        let mut error = PlanError::new(message).at(node.lines);
                        let stages = self.nodes[..self.stage_count].iter().map(|n| n.name.as_str());
                        error.hint = match nearest(name, stages) {
                            Some(near) => Some(format!("did you mean the stage {near}?")),
                            None => e.hint.clone(),
                        };
                        return Err(error);
                    }
                    Some(Ok(_)) => {}
                }
            }
        }
        Ok(open)
    }

    pub(super) fn image_fact(&self, id: NodeId) -> Option<&'a ImageFact> {
        let question = self.question(id).ok().flatten()?;
        self.facts.images.get(&question)?.as_ref().ok()
    }

    /// What a stage starts with.
    pub(super) fn initial_state(
        &self,
        id: NodeId,
        states: &BTreeMap<NodeId, StageState>,
        lowering: &mut Lowering,
    ) -> Result<StageState, PlanError> {
        let node = &self.nodes[id];
        let platform = self.node_platform(id);
        let mut state = match &node.base {
            Base::Stage(base) => {
                let mut state = states
                    .get(base)
                    .cloned()
                    .ok_or_else(|| PlanError::new("internal error: base stage not lowered"))?;
                state.image.config.on_build.clear();
                state.cmd_set = false;
                return Ok(state);
            }
            // The image is for the target, whatever platform the flag names.
            Base::Scratch => blank(empty_image(&self.target_platform), self.target_platform.clone()),
            Base::Image { name } => {
                let full = parse_reference(name)?;
                match self.context(&full, Some(&platform)) {
                    Some((key, context)) => self.context_state(id, key, context, platform, lowering)?,
                    None => self.image_state(id, &full, platform, lowering)?,
                }
            }
            Base::Context { name } => match self.context(name, node.platform.as_ref()) {
                Some((key, context)) => self.context_state(id, key, context, platform, lowering)?,
                None => return Err(PlanError::new("internal error: context vanished")),
            },
        };
        state.image.config.on_build.clear();
        if state.image.config.env("PATH").is_none() && state.platform.os != "windows" && !node.foreign {
            state.image.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        for entry in &state.image.config.env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            state.env.set(name, value);
        }
        if !state.image.config.working_dir.is_empty() && !node.foreign {
            let style = crate::path::PathStyle::of(&state.platform.os);
            state.image.config.working_dir = crate::path::workdir("", &state.image.config.working_dir, style)
                .map_err(|e| PlanError::new(format!("working directory of the base image: {e}")))?;
        }
        Ok(state)
    }

    pub(super) fn image_state(
        &self,
        id: NodeId,
        shown: &str,
        platform: Platform,
        lowering: &mut Lowering,
    ) -> Result<StageState, PlanError> {
        let node = &self.nodes[id];
        let fact = self.image_fact(id).ok_or_else(|| PlanError::new("internal error: image not resolved"))?;
        let mut image = fact.config.clone();
        image.created = None;
        // Without an explicit platform, the base says what it is for.
        let platform = if node.platform.is_none()
            && self.request.platform.is_none()
            && self.request.build_platform.os == image.os
            && self.request.build_platform.architecture == image.architecture
        {
            self.request.build_platform.clone()
        } else {
            platform
        };
        // An image that is no list may be for anything; what its layers are like is not up to who asks.
        let platform = match (image.os == "windows") == (platform.os == "windows") {
            true => platform,
            false => image.platform().normalize(),
        };
        let base = BaseImage { reference: fact.reference.clone(), digest: fact.manifest.digest };
        let diff_ids = image.rootfs.diff_ids.clone();
        image.rootfs.diff_ids.clear();
        let mut state = blank(image, platform.clone());
        state.base = Some(base);
        if !diff_ids.is_empty() {
            let source = ImageSource {
                reference: fact.reference.clone(),
                manifest: fact.manifest.clone(),
                diff_ids,
                origin: fact.origin.clone(),
            };
            let vertex = lowering.source(
                SourceOp::Image(source),
                platform,
                format!("FROM {shown}@{}", fact.manifest.digest),
                node.lines,
            );
            state.root = Root::Vertex(vertex);
        }
        Ok(state)
    }

    pub(super) fn context_state(
        &self,
        id: NodeId,
        key: &str,
        context: &NamedContext,
        platform: Platform,
        lowering: &mut Lowering,
    ) -> Result<StageState, PlanError> {
        let lines = self.nodes[id].lines;
        let source = match context {
            NamedContext::Image(reference) if reference == "scratch" => {
                return Ok(blank(empty_image(&platform), platform));
            }
            NamedContext::Image(_) | NamedContext::OciLayout(_) => {
                return self.image_state(id, key, platform, lowering);
            }
            NamedContext::Local => SourceOp::Local(LocalSource { name: key.to_string() }),
            NamedContext::Git(git) => SourceOp::Git(git.clone()),
            NamedContext::Http(url) => SourceOp::Http(HttpSource {
                url: url.clone(),
                filename: "context".into(),
                checksum: None,
                mode: None,
                uid: 0,
                gid: 0,
            }),
        };
        // What no image is has no drive C either, and becomes a layer as a local folder does.
        let local = matches!(source, SourceOp::Local(_)) || platform.os == "windows";
        let vertex = lowering.source(source, platform.clone(), format!("[context {key}] load"), lines);
        let mut state = blank(empty_image(&platform), platform);
        state.root = if local { Root::Local(vertex) } else { Root::Vertex(vertex) };
        Ok(state)
    }
}

fn blank(image: oci::ImageConfig, platform: Platform) -> StageState {
    StageState {
        root: Root::Empty,
        image,
        platform,
        env: Env::default(),
        args: Vec::new(),
        base: None,
        cmd_set: false,
    }
}

fn parse_reference(name: &str) -> Result<String, PlanError> {
    let reference: Reference = name.parse().map_err(|e: oci::ParseReferenceError| {
        PlanError::new(format!("failed to parse stage name {name:?}: invalid reference format: {e}"))
    })?;
    Ok(reference.with_default_tag().to_string())
}

/// The name under which a context is looked up: the familiar form, without `:latest`.
fn familiar(name: &str) -> String {
    match name.parse::<Reference>() {
        Ok(r) => {
            let text = r.familiar();
            text.strip_suffix(":latest").map(str::to_string).unwrap_or(text)
        }
        Err(_) => name.to_string(),
    }
}

fn context_key(given: &str) -> String {
    match given.split_once("::") {
        Some((name, platform)) => format!("{}::{platform}", familiar(name)),
        None => familiar(given),
    }
}
