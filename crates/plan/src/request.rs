//! What a build asks for, and the facts a planner needs.

use crate::limits::StepSelector;
use graph::{GitSource, StepLimits};
use oci::{Descriptor, ImageConfig, Platform};
use std::collections::{BTreeMap, BTreeSet};

/// Everything outside the recipe that shapes a plan.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The platform of the image; `None` means the builder's own, and the base image's is kept.
    pub platform: Option<Platform>,
    /// The platform that steps run on natively.
    pub build_platform: Platform,
    /// Whether the build is for several platforms (names in progress then say which).
    pub multi_platform: bool,
    /// Stage to build; `None` is the last.
    pub target: Option<String>,
    pub build_args: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// Named contexts, by name as given (`name` or `name::platform`).
    pub contexts: BTreeMap<String, NamedContext>,
    /// Network of RUN without `--network`.
    pub network: NetworkDefault,
    /// Host name in steps.
    pub hostname: Option<String>,
    /// Name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// Of every step.
    pub limits: StepLimits,
    /// Of certain steps, over those of all; a later one over an earlier one.
    pub step_limits: Vec<(StepSelector, StepLimits)>,
    pub no_cache: NoCache,
    pub allow: BTreeSet<Entitlement>,
}

/// The build argument that names steps' host.
const HOSTNAME_ARG: &str = "BUILDKIT_SANDBOX_HOSTNAME";

impl Request {
    /// The same with the platform in its normal form (`linux/arm` is `linux/arm/v7`) and the host name that
    /// the build arguments may ask for.
    pub(crate) fn settled(&self) -> Self {
        let mut settled = self.clone();
        settled.platform = self.platform.as_ref().map(Platform::normalize);
        if let Some(name) = self.build_args.get(HOSTNAME_ARG).filter(|name| !name.is_empty()) {
            settled.hostname = Some(name.clone());
        }
        settled
    }
}

/// What `--network` sets for steps that do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkDefault {
    /// The builder's own default.
    #[default]
    Default,
    None,
    Host,
}

/// Which stages must be executed anew.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NoCache {
    #[default]
    UseCache,
    All,
    /// Stages by name.
    Stages(BTreeSet<String>),
}

/// Privileges that a recipe may use only if the caller allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entitlement {
    NetworkHost,
    SecurityInsecure,
    Device,
}

impl Entitlement {
    pub fn name(self) -> &'static str {
        match self {
            Entitlement::NetworkHost => "network.host",
            Entitlement::SecurityInsecure => "security.insecure",
            Entitlement::Device => "device",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        [Entitlement::NetworkHost, Entitlement::SecurityInsecure, Entitlement::Device]
            .into_iter()
            .find(|e| e.name() == text)
    }
}

/// Where a named context's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// `docker-image://REF`; `scratch` is empty.
    Image(String),
    /// `oci-layout://PATH[:TAG|@DIGEST]`.
    OciLayout(String),
    /// A folder; the caller knows its path by the context's name.
    Local,
    Git(GitSource),
    Http(String),
}

/// Something the planner must know about the world.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// Digest and configuration of an image, for a platform.
    Image { reference: String, platform: Platform },
    /// The same of an image in a local OCI layout.
    OciLayout { location: String, platform: Platform },
}

/// The answer to an image question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFact {
    /// The reference that was asked for, in full.
    pub reference: String,
    /// The manifest for the platform.
    pub manifest: Descriptor,
    pub config: ImageConfig,
    pub origin: graph::ImageOrigin,
}

/// Answers so far. A failed look-up is an answer too: its text becomes an error with the right lines.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub images: BTreeMap<Question, Result<ImageFact, LookupError>>,
}

/// Why an image could not be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupError {
    pub message: String,
    pub hint: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platform_and_host_name() {
        let host = Platform::new("linux", "amd64");
        for (text, want) in
            [("linux/arm", "linux/arm/v7"), ("linux/arm64/v8", "linux/arm64"), ("linux/386", "linux/386")]
        {
            let platform = Some(Platform::parse(text, &host).unwrap());
            let settled = Request { platform, ..Request::default() }.settled();
            assert_eq!(settled.platform.unwrap().short(), want);
        }
        let with = |name: &str| Request {
            hostname: Some("flag".into()),
            build_args: BTreeMap::from([(HOSTNAME_ARG.to_string(), name.to_string())]),
            ..Request::default()
        };
        assert_eq!(with("box").settled().hostname.as_deref(), Some("box"));
        assert_eq!(with("").settled().hostname.as_deref(), Some("flag"));
    }
}
