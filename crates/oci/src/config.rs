//! The image config: OCI image spec, config.md, with the fields that Docker adds.
//!
//! Fields are written in BuildKit's order: the top level sorted by name, `config` in the order of
//! Docker's Go structure; empty values are left out. Unknown fields are kept and written last.

use crate::json::{self, JsonError};
use crate::{Platform, Raw};
use digest::{ChainId, DiffId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A whole config blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ImageConfig {
    #[serde(default, deserialize_with = "json::nullable")]
    pub architecture: String,
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "String::is_empty")]
    pub author: String,
    #[serde(default, deserialize_with = "json::nullable")]
    pub config: ContainerConfig,
    /// RFC 3339; see [`crate::Timestamp`].
    #[serde(default, deserialize_with = "json::non_empty", skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    #[serde(default, deserialize_with = "json::nullable")]
    pub os: String,
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "json::nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    #[serde(
        rename = "os.version",
        default,
        deserialize_with = "json::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    #[serde(default, deserialize_with = "json::nullable")]
    pub rootfs: RootFs,
    #[serde(default, deserialize_with = "json::non_empty", skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Fields that this version does not know (`docker_version`, `container_config`, ...).
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// What a container starts with: the `config` object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `8080/tcp`.
    #[serde(default, with = "set_as_map", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`, in order; no name twice in what ctrbuild writes.
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// `None` is Docker's null (never set), `Some(vec![])` an explicit empty list. In JSON Docker
    /// leaves out both.
    #[serde(default, skip_serializing_if = "none_or_empty")]
    pub entrypoint: Option<Vec<String>>,
    /// As [`ContainerConfig::entrypoint`].
    #[serde(default, skip_serializing_if = "none_or_empty")]
    pub cmd: Option<Vec<String>>,
    #[serde(default, with = "set_as_map", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Windows: the single element of Entrypoint or Cmd is a ready command line.
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// The shell of shell forms; `None` is the platform's default.
    #[serde(default, skip_serializing_if = "none_or_empty")]
    pub shell: Option<Vec<String>>,
    /// Fields that this version does not know (`Hostname`, `Image`, ...).
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// Docker's health check. Durations are nanoseconds; zero means inherit the default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `[]` inherit, `["NONE"]` off, `["CMD", args...]`, `["CMD-SHELL", text]`.
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "is_zero")]
    pub interval: i64,
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "is_zero")]
    pub timeout: i64,
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "is_zero")]
    pub start_period: i64,
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "is_zero")]
    pub retries: i64,
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// One entry of the history, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct History {
    #[serde(default, deserialize_with = "json::non_empty", skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "String::is_empty")]
    pub author: String,
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// True if the step made no layer.
    #[serde(default, deserialize_with = "json::nullable", skip_serializing_if = "is_false")]
    pub empty_layer: bool,
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// The stack of layers, base first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default, deserialize_with = "json::nullable")]
    pub kind: String,
    #[serde(default, deserialize_with = "json::nullable")]
    pub diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        RootFs { kind: "layers".into(), diff_ids: Vec::new() }
    }
}

impl ImageConfig {
    /// The config of `FROM scratch`: no environment, no working directory.
    pub fn scratch(platform: &Platform) -> Self {
        let mut config = ImageConfig::default();
        config.set_platform(platform);
        config
    }
    /// Strict parse of a config blob (duplicate keys and more than [`json::MAX_CONFIG_BYTES`] bytes are
    /// refused). `media_type` is that of the descriptor that led here.
    pub fn parse(bytes: &[u8], media_type: &str) -> Result<Raw<ImageConfig>, JsonError> {
        let value = json::parse(bytes, json::MAX_CONFIG_BYTES)?;
        Ok(Raw {
            bytes: Arc::from(bytes),
            digest: digest::Digest::of(bytes),
            media_type: media_type.to_string(),
            value,
        })
    }
    /// The bytes that are stored, compact JSON.
    pub fn to_json(&self) -> Vec<u8> {
        json::compact(self)
    }
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            variant: self.variant.clone(),
        }
    }
    pub fn set_platform(&mut self, platform: &Platform) {
        self.architecture = platform.architecture.clone();
        self.os = platform.os.clone();
        self.os_version = platform.os_version.clone();
        self.os_features = platform.os_features.clone();
        self.variant = platform.variant.clone();
    }
    /// The chain id of the whole stack; `None` without layers.
    pub fn chain_id(&self) -> Option<ChainId> {
        ChainId::of(&self.rootfs.diff_ids)
    }
}

impl ContainerConfig {
    /// The value of an environment variable, exact name.
    pub fn env(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find_map(|e| e.split_once('=').filter(|(n, _)| *n == name).map(|(_, v)| v))
    }
    /// Set a variable: an existing one keeps its place, a new one goes to the end. Names compare
    /// without case where `os` is Windows.
    pub fn set_env(&mut self, name: &str, value: &str, os: &str) {
        let same = |e: &String| {
            let n = e.split('=').next().unwrap_or_default();
            if os == "windows" { n.eq_ignore_ascii_case(name) } else { n == name }
        };
        let entry = format!("{name}={value}");
        match self.env.iter_mut().find(|e| same(e)) {
            Some(e) => *e = entry,
            None => self.env.push(entry),
        }
    }
}

fn none_or_empty(v: &Option<Vec<String>>) -> bool {
    v.as_ref().is_none_or(Vec::is_empty)
}
fn is_false(b: &bool) -> bool {
    !*b
}
fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// Go's `map[string]struct{}`: an object whose values say nothing.
mod set_as_map {
    use serde::ser::SerializeMap;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::collections::{BTreeMap, BTreeSet};

    #[derive(serde::Serialize)]
    struct Empty {}

    pub fn serialize<S: Serializer>(set: &BTreeSet<String>, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(set.len()))?;
        for key in set {
            map.serialize_entry(key, &Empty {})?;
        }
        map.end()
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeSet<String>, D::Error> {
        let map = Option::<BTreeMap<String, serde::de::IgnoredAny>>::deserialize(d)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_docker_config_with_nulls() {
        let text = r#"{"architecture":"amd64","config":{"Hostname":"","User":"","ExposedPorts":null,"Env":["A=1"],
            "Cmd":["sh"],"Volumes":{"/v":{}},"Entrypoint":null,"OnBuild":null,"Labels":null,"Image":"sha256:ab"},
            "container_config":{"Cmd":null},"docker_version":"1.10","created":"2016-01-01T00:00:00Z",
            "history":null,"os":"linux","rootfs":{"type":"layers","diff_ids":null}}"#;
        let raw = ImageConfig::parse(text.as_bytes(), crate::media::DOCKER_CONFIG).unwrap();
        let c = &raw.value;
        assert_eq!(
            (c.config.entrypoint.as_ref(), c.config.cmd.as_deref()),
            (None, Some(&["sh".to_string()][..]))
        );
        assert!(c.config.volumes.contains("/v"));
        assert!(c.extra.contains_key("docker_version") && c.config.extra.contains_key("Image"));
        let again = ImageConfig::parse(&c.to_json(), "").unwrap();
        assert_eq!(&again.value, c);
    }

    #[test]
    fn field_order_is_buildkits() {
        let mut c = ImageConfig::scratch(&Platform::new("linux", "amd64"));
        c.created = Some("1970-01-01T00:00:00Z".into());
        c.config = ContainerConfig {
            user: "u".into(),
            exposed_ports: ["1/tcp".to_string()].into(),
            env: vec!["A=b".into()],
            entrypoint: Some(vec!["e".into()]),
            cmd: Some(vec![]),
            working_dir: "/".into(),
            healthcheck: Some(Healthcheck {
                test: vec!["NONE".into()],
                retries: 3,
                ..Healthcheck::default()
            }),
            shell: Some(vec!["sh".into()]),
            ..ContainerConfig::default()
        };
        c.history.push(History { created_by: "x".into(), empty_layer: true, ..History::default() });
        assert_eq!(
            String::from_utf8(c.to_json()).unwrap(),
            concat!(
                r#"{"architecture":"amd64","config":{"User":"u","ExposedPorts":{"1/tcp":{}},"Env":["A=b"],"#,
                r#""Entrypoint":["e"],"WorkingDir":"/","Healthcheck":{"Test":["NONE"],"Retries":3},"Shell":["sh"]},"#,
                r#""created":"1970-01-01T00:00:00Z","history":[{"created_by":"x","empty_layer":true}],"os":"linux","#,
                r#""rootfs":{"type":"layers","diff_ids":[]}}"#
            )
        );
    }

    #[test]
    fn env_keeps_its_place() {
        let mut c = ContainerConfig { env: vec!["A=1".into(), "B=2".into()], ..Default::default() };
        c.set_env("A", "3", "linux");
        c.set_env("C", "=", "linux");
        c.set_env("b", "9", "windows");
        assert_eq!(c.env, ["A=3", "b=9", "C=="]);
        assert_eq!(c.env("C"), Some("="));
        assert_eq!(c.env("D"), None);
    }
}
