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
    // Where each setting stands.
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut rest = text.lines().enumerate();
    while let Some((number, raw)) = rest.next() {
        let line = number + 1;
        let fail = |message: &str| MigrateError { line, message: message.to_owned() };
        let mut content = without_comment(raw).to_owned();
        let trimmed = content.trim();
        if trimmed.is_empty() || trimmed == "---" || trimmed == "..." || raw.starts_with('%') {
            continue;
        }
        // A list or map in brackets may go on.
        while is_open(&content)
            && let Some((_, more)) = rest.next()
        {
            content.push(' ');
            content.push_str(without_comment(more).trim());
        }
        let content = content.as_str();
        let trimmed = content.trim();
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
        let (key, value) = key_and_value(trimmed).ok_or_else(|| fail("neither a key nor an item"))?;
        let (key, value) = (word(key), value.trim());
        let full = match path.is_empty() {
            true => key.clone(),
            false => format!("{}.{key}", joined(&path)),
        };
        let named = if path.first().is_some_and(|(_, top)| top == "label-schema") {
            joined(&path)
        } else {
            full.clone()
        };
        places.entry(named).or_insert(line);
        if value.is_empty() {
            path.push((indent, key));
        } else if let Some(inner) = value.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or_else(|| fail("a list must end"))?;
            lists.entry(full).or_default().extend(inner.split(',').map(word).filter(|item| !item.is_empty()));
        } else if let Some(inner) = value.strip_prefix('{') {
            let inner = inner.strip_suffix('}').ok_or_else(|| fail("a map must end"))?;
            for pair in inner.split(',').filter(|pair| !pair.trim().is_empty()) {
                let (key, value) =
                    key_and_value(pair.trim()).ok_or_else(|| fail("a map needs key: value"))?;
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
        "formats",
        "verbose",
        "skip-ignored",
    ];
    let used = lists.keys().chain(scalars.keys()).chain(maps.keys());
    let place = |key: &str| places.get(key).copied().unwrap_or(1);
    if let Some(other) = used.into_iter().find(|key| !known.contains(&key.as_str())) {
        return Err(MigrateError {
            line: place(other),
            message: format!("hadolint has no setting {other:?}"),
        });
    }
    let kinds = ["email", "hash", "rawtext", "text", "rfc3339", "semver", "spdx", "url", ""];
    let mut labels = maps.get("label-schema").into_iter().flatten();
    if let Some((label, kind)) = labels.find(|(_, kind)| !kinds.contains(&kind.as_str())) {
        let message = format!("label {label:?} can't be of type {kind:?}");
        return Err(MigrateError { line: place("label-schema"), message });
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
    if scalars.get("no-fail").is_some_and(|value| value == "true") {
        out.push_str("failure-threshold = \"none\"\n");
    } else if let Some(threshold) = scalars.get("failure-threshold") {
        let threshold = if threshold == "ignore" { "none" } else { threshold };
        let _ = writeln!(out, "failure-threshold = {}", quoted(threshold));
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
    // These are said when it is called.
    for key in ["format", "no-color", "verbose"] {
        if let Some(value) = scalars.get(key).filter(|value| *value != "false") {
            let option = if key == "format" { format!("--format {value}") } else { "NO_COLOR=1".to_owned() };
            let meant = if key == "verbose" { "nothing here" } else { &option };
            let _ = writeln!(out, "# {key}: {value} is {meant}");
        }
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

/// Takes `key: value` apart; the key may be in quotes, and the value is missing where a block follows.
fn key_and_value(text: &str) -> Option<(&str, &str)> {
    let key = match text.chars().next()? {
        quote @ ('"' | '\'') => text[1..].find(quote)? + 2,
        _ => text.match_indices(':').map(|(at, _)| at).find(|at| {
            let rest = &text[at + 1..];
            rest.is_empty() || rest.starts_with([' ', '\t', '[', '{'])
        })?,
    };
    let value = text[key..].trim_start().strip_prefix(':')?;
    Some((&text[..key], value))
}

/// Whether a bracket behind the key is not closed yet.
fn is_open(text: &str) -> bool {
    let mut quote = None;
    let mut depth = 0usize;
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    depth > 0
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
        assert_eq!(migrate("ignored:\n- DL3008\nnonsense: 1\n").map_err(|error| error.line), Err(3));
        assert_eq!(migrate("label-schema:\n  a: colour\n").map_err(|error| error.line), Err(1));
    }

    #[test]
    fn all_ways_to_write_it() {
        let yaml = "%YAML 1.2\n---\nno-fail: true\nfailure-threshold: error\nformat: json\nverbose: true\nignored: [\n  DL3008, # why\n  \"DL3018\",\n]\nlabel-schema:\n  \"a:b\": url\n  'c.d': rawtext\n  e: \"text\"\ntrustedRegistries:\n  - localhost:5000\n  - \"*.gcr.io\"\n";
        let toml = migrate(yaml).unwrap_or_else(|error| error.to_string());
        let mut config = Config::default();
        assert_eq!(config.add(&toml), Ok(()), "{toml}");
        let options = config.options("Dockerfile");
        // It never fails, whatever the threshold.
        assert_eq!(config.failure_threshold(), Some(None), "{toml}");
        assert_eq!(options.labels.keys().collect::<Vec<_>>(), ["a:b", "c.d", "e"]);
        assert_eq!(options.trusted_registries, ["localhost:5000", "*.gcr.io"]);
        assert!(options.levels.iter().any(|(rule, level)| rule.is_called("DL3018") && *level == Level::Off));
        assert!(toml.contains("--format json"), "{toml}");
        assert!(migrate("nonsense: 1\n").is_err());
    }
}
