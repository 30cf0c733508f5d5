//! From `.hadolint.yaml` to `ctrbuild.toml`.
//!
//! Only the YAML that such files are made of is read: maps and lists of plain or quoted words, in block or
//! flow style. Source of the keys: hadolint's README.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Why a file can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct MigrateError {
    /// 1-based.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Reads a `.hadolint.yaml` and writes the same as `ctrbuild.toml`.
///
/// # Errors
/// The text is not of that shape, or has a key that hadolint has not.
pub fn migrate(text: &str) -> Result<String, MigrateError> {
    let mut lists: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut scalars: BTreeMap<String, String> = BTreeMap::new();
    let mut maps: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut path: Vec<(usize, String)> = Vec::new();
    for (number, raw) in text.lines().enumerate() {
        let line = number + 1;
        let fail = |message: &str| MigrateError { line, message: message.to_owned() };
        let content = without_comment(raw);
        let trimmed = content.trim();
        if trimmed.is_empty() || trimmed == "---" || trimmed == "..." {
            continue;
        }
        if content.contains('\t') && content.trim_start_matches(' ').starts_with('\t') {
            return Err(fail("tabs can't indent"));
        }
        let indent = content.len() - content.trim_start().len();
        if let Some(item) = trimmed.strip_prefix('-') {
            let key = joined(&path);
            lists.entry(key).or_default().push(word(item));
            continue;
        }
        while path.last().is_some_and(|(at, _)| *at >= indent) {
            path.pop();
        }
        let (key, value) = trimmed.split_once(':').ok_or_else(|| fail("neither a key nor an item"))?;
        let (key, value) = (word(key), value.trim());
        let full = match path.is_empty() {
            true => key.clone(),
            false => format!("{}.{key}", joined(&path)),
        };
        if value.is_empty() {
            path.push((indent, key));
        } else if let Some(inner) = value.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or_else(|| fail("a list must end on its line"))?;
            lists.entry(full).or_default().extend(inner.split(',').map(word).filter(|item| !item.is_empty()));
        } else if let Some(inner) = value.strip_prefix('{') {
            let inner = inner.strip_suffix('}').ok_or_else(|| fail("a map must end on its line"))?;
            for pair in inner.split(',').filter(|pair| !pair.trim().is_empty()) {
                let (key, value) = pair.split_once(':').ok_or_else(|| fail("a map needs key: value"))?;
                maps.entry(full.clone()).or_default().push((word(key), word(value)));
            }
        } else if path.is_empty() {
            scalars.insert(full, word(value));
        } else {
            maps.entry(joined(&path)).or_default().push((key, word(value)));
        }
    }
    let known = [
        "ignored",
        "trustedRegistries",
        "failure-threshold",
        "format",
        "label-schema",
        "strict-labels",
        "no-color",
        "no-fail",
        "disable-ignore-pragma",
        "override",
        "override.error",
        "override.warning",
        "override.info",
        "override.style",
        "skip-ignored",
    ];
    let used = lists.keys().chain(scalars.keys()).chain(maps.keys());
    if let Some(other) = used.into_iter().find(|key| !known.contains(&key.as_str())) {
        return Err(MigrateError { line: 1, message: format!("hadolint has no setting {other:?}") });
    }
    Ok(toml(&lists, &scalars, &maps))
}

fn toml(
    lists: &BTreeMap<String, Vec<String>>,
    scalars: &BTreeMap<String, String>,
    maps: &BTreeMap<String, Vec<(String, String)>>,
) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut out = String::from("[lint]\n");
    if let Some(threshold) = scalars.get("failure-threshold") {
        let threshold = if threshold == "ignore" { "none" } else { threshold };
        let _ = writeln!(out, "failure-threshold = {}", quoted(threshold));
    } else if scalars.get("no-fail").is_some_and(|value| value == "true") {
        out.push_str("failure-threshold = \"none\"\n");
    }
    if let Some(registries) = lists.get("trustedRegistries") {
        let all: Vec<String> = registries.iter().map(|registry| quoted(registry)).collect();
        let _ = writeln!(out, "trusted-registries = [{}]", all.join(", "));
    }
    if scalars.get("strict-labels").is_some_and(|value| value == "true") {
        out.push_str("strict-labels = true\n");
    }
    if scalars.get("disable-ignore-pragma").is_some_and(|value| value == "true") {
        out.push_str("inline = false\n");
    }
    let mut rules: BTreeMap<&str, &str> = BTreeMap::new();
    for level in ["error", "warning", "info", "style"] {
        let names = lists.get(&format!("override.{level}"));
        rules.extend(names.into_iter().flatten().map(|name| (name.as_str(), level)));
    }
    rules.extend(lists.get("ignored").into_iter().flatten().map(|name| (name.as_str(), "off")));
    let (ours, foreign): (Vec<_>, Vec<_>) = rules
        .into_iter()
        .partition(|(name, _)| crate::find_rule(name).is_some() || crate::shellcheck::code(name).is_some());
    if !ours.is_empty() || !foreign.is_empty() {
        out.push_str("\n[lint.rules]\n");
    }
    for (name, level) in ours {
        let _ = writeln!(out, "{name} = {}", quoted(level));
    }
    for (name, level) in foreign {
        let _ = writeln!(out, "# {name} = {}  # not a rule here", quoted(level));
    }
    if let Some(labels) = maps.get("label-schema") {
        out.push_str("\n[lint.labels]\n");
        for (label, kind) in labels {
            let _ =
                writeln!(out, "{} = {}", quoted(label), quoted(if kind.is_empty() { "text" } else { kind }));
        }
    }
    out
}

fn joined(path: &[(usize, String)]) -> String {
    path.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>().join(".")
}

fn word(text: &str) -> String {
    text.trim().trim_matches(['"', '\'']).to_owned()
}

/// Drops `# …` outside of quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '#') if before.is_whitespace() => return &line[..at],
            _ => {}
        }
        before = c;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Level};

    #[test]
    fn a_whole_file() {
        let yaml = "# c\nfailure-threshold: warning\nignored:\n  - DL3008 # why\n  - DL9999\n  - SC2034\noverride:\n  error: [DL3006, 'DL3007']\n  style:\n    - DL3059\ntrustedRegistries:\n- docker.io\nlabel-schema:\n  author: text\n  url: url\nstrict-labels: true\n";
        let toml = migrate(yaml).unwrap_or_else(|error| error.to_string());
        let mut config = Config::default();
        assert_eq!(config.add(&toml), Ok(()), "{toml}");
        let options = config.options("Dockerfile");
        assert_eq!(options.trusted_registries, ["docker.io"]);
        assert_eq!(options.labels.len(), 2);
        assert!(options.strict_labels && toml.contains("# DL9999") && toml.contains("\nSC2034 = \"off\""));
        assert!(options.levels.iter().any(|(rule, level)| rule.is_called("DL3008") && *level == Level::Off));
        assert_eq!(migrate("a\n").map_err(|error| error.line), Err(1));
        assert!(migrate("nonsense: 1\n").is_err());
    }
}
