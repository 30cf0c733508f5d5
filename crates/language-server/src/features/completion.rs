//! What may be written next.
//!
//! The line that is being written is mostly no instruction yet, so it is read from its start to the cursor as
//! text; what is known of the rest of the recipe comes from its analysis.

use super::completion_items::{Item, Kind};
use super::{View, hover};
use crate::scan;
use diagnostic::TextRange;
use dockerfile::syntax::{ItemKind, TokenKind};
use dockerfile::{FlagKind, FlagSpec, INSTRUCTIONS, Spec};
use lint::shell::Mapped;
use serde_json::Value;
use std::collections::BTreeMap;

/// Most proposals.
const MAX_ITEMS: usize = 500;

/// Characters behind which a client should ask.
pub const TRIGGERS: [&str; 8] = ["$", "{", "-", "=", ",", "/", "#", " "];

/// Platforms that base images commonly have.
const PLATFORMS: [&str; 8] = [
    "$BUILDPLATFORM",
    "$TARGETPLATFORM",
    "linux/amd64",
    "linux/arm64",
    "linux/arm/v7",
    "linux/386",
    "linux/ppc64le",
    "linux/riscv64",
];

const SIGNALS: [&str; 8] =
    ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGKILL"];

/// Variables that ARG makes visible in a stage without being declared elsewhere.
const AUTOMATIC: [&str; 11] = [
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETOSVERSION",
    "TARGETSTAGE",
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "BUILDOSVERSION",
];

/// Labels that the OCI names.
const LABELS: [&str; 12] = [
    "authors",
    "created",
    "description",
    "documentation",
    "licenses",
    "ref.name",
    "revision",
    "source",
    "title",
    "url",
    "vendor",
    "version",
];

/// What stands before the cursor.
struct Written<'a> {
    /// Words in front of the one that is being written, without the keyword.
    before: Vec<&'a str>,
    /// The unfinished word.
    word: &'a str,
}

/// What is written around the cursor.
enum Where {
    Heredoc,
    Comment,
    /// The logical line up to the cursor.
    Instruction(String),
}

fn where_is(view: &View<'_>, offset: u32) -> Option<Where> {
    let parsed = &view.analysis.parsed;
    let text = view.text.as_str();
    let line = view.text.line(view.text.position(offset).line);
    let line_text = text.get(line.start as usize..offset as usize)?;
    let items = parsed.tree.items();
    let starts_line = text[..offset as usize].ends_with('\n');
    let mut at =
        items.partition_point(|item| item.range.end < offset || (item.range.end == offset && starts_line));
    let escape = parsed.recipe.directives.escape;
    // Behind a continuation at the end of the text an instruction goes on.
    if at == items.len()
        && let Some(last) = items.last()
        && starts_line
        && matches!(last.kind, ItemKind::Instruction(_) | ItemKind::Broken)
        && text[last.range.as_usize()].trim_end().ends_with(escape.as_char())
    {
        at -= 1;
    }
    let item = items.get(at);
    let in_heredoc = item.is_some_and(|item| {
        parsed.tree.tokens_of(item).iter().any(|token| {
            token.kind == TokenKind::HeredocBody && token.range.start <= offset && offset <= token.range.end
        })
    });
    if in_heredoc {
        return Some(Where::Heredoc);
    }
    if line_text.trim_start().starts_with('#') {
        return Some(Where::Comment);
    }
    Some(Where::Instruction(match item.map(|item| (item.kind, item.range)) {
        Some((ItemKind::Instruction(_) | ItemKind::Broken, range)) if range.start < offset => {
            Mapped::logical(text, TextRange::new(range.start, offset), escape).text
        }
        _ => line_text.to_owned(),
    }))
}

/// The instruction that is being written, up to the cursor.
pub fn written(view: &View<'_>, offset: u32) -> Option<String> {
    match where_is(view, offset)? {
        Where::Instruction(text) => Some(text),
        Where::Heredoc | Where::Comment => None,
    }
}

struct Completer<'a> {
    view: &'a View<'a>,
    offset: u32,
}

/// Proposals at a byte.
pub fn at(view: &View<'_>, offset: u32) -> Vec<Value> {
    let completer = Completer { view, offset };
    let (items, length) = completer.items().unwrap_or_default();
    let line = view.text.line(view.text.position(offset).line);
    let start = offset.saturating_sub(length as u32).max(line.start);
    let range = TextRange::new(start, offset);
    let items = items.into_iter().take(MAX_ITEMS).enumerate();
    items.map(|(order, item)| item.json(view, range, order)).collect()
}

/// Proposals and how many bytes before the cursor they replace.
type Proposals = Option<(Vec<Item>, usize)>;

impl<'a> Completer<'a> {
    fn items(&self) -> Proposals {
        let line = self.view.text.line(self.view.text.position(self.offset).line);
        let line_text = self.view.text.as_str().get(line.start as usize..self.offset as usize)?;
        match where_is(self.view, self.offset)? {
            Where::Heredoc => self.variable_at(line_text),
            Where::Comment => self.comment(line_text.trim_start(), line.start),
            Where::Instruction(prefix) => self.instruction(prefix.trim_start(), true),
        }
    }

    fn instruction(&self, text: &str, outer: bool) -> Proposals {
        let Some((keyword, rest)) = text.split_once(char::is_whitespace) else {
            return Some((keywords(text, outer), text.len()));
        };
        let rest = rest.trim_start();
        let spec = Spec::find(keyword)?;
        if spec.name == "ONBUILD" {
            return self.instruction(rest, false);
        }
        // A heredoc or exec form: the word behind brackets, commas and quotes.
        let start = rest
            .rfind(char::is_whitespace)
            .map_or(0, |at| at + rest[at..].chars().next().map_or(1, char::len_utf8));
        let before: Vec<&str> = rest[..start].split_whitespace().collect();
        let written = Written { before, word: &rest[start..] };
        if written.word.contains('$')
            && let Some(found) = self.variable_at(written.word)
        {
            return Some(found);
        }
        let flags_only = written.before.iter().all(|word| word.starts_with("--"));
        if flags_only && written.word.starts_with('-') {
            return self.flag(spec, &written);
        }
        self.argument(spec, &written)
    }

    fn flag(&self, spec: &'static Spec, written: &Written<'_>) -> Proposals {
        let word = written.word;
        let Some((name, value)) = word.split_once('=') else {
            let given = |flag: &&FlagSpec| {
                flag.kind == FlagKind::List
                    || !written
                        .before
                        .iter()
                        .any(|word| word.trim_start_matches('-').split('=').next() == Some(flag.name))
            };
            let items = spec.flags.iter().filter(given).map(|flag| {
                let name = format!("--{}", flag.name);
                let insert = if flag.kind == FlagKind::Bool { name.clone() } else { format!("{name}=") };
                Item::new(name, Kind::Property)
                    .detail(flag.value)
                    .documentation(hover::flag(flag))
                    .insert(insert)
            });
            return Some((items.collect(), word.len()));
        };
        let flag = spec.flag(name.trim_start_matches('-'))?;
        if !flag.keys.is_empty() {
            return self.keys(flag, value);
        }
        let items: Vec<Item> = match (flag.name, flag.kind) {
            ("from", _) => self.stages(),
            ("platform", _) => PLATFORMS.iter().map(|name| Item::new(*name, Kind::Value)).collect(),
            (_, FlagKind::Bool) => ["true", "false"].map(|name| Item::new(name, Kind::Value)).into(),
            // `default|none|host`
            (_, _) if flag.value.contains('|') && !flag.value.contains('<') => {
                flag.value.split('|').map(|name| Item::new(name, Kind::Value)).collect()
            }
            ("chmod", _) => {
                ["755", "644", "0755", "u=rwX,go=rX"].map(|name| Item::new(name, Kind::Value)).into()
            }
            _ => Vec::new(),
        };
        Some((items, value.len()))
    }

    /// `--mount=type=cache,…`
    fn keys(&self, flag: &FlagSpec, value: &str) -> Proposals {
        let field = value.rsplit(',').next().unwrap_or_default();
        let given: Vec<(&str, &str)> =
            value.split(',').map(|field| field.split_once('=').unwrap_or((field, ""))).collect();
        let is_mount = flag.name == "mount";
        let kind = given.iter().find(|(key, _)| *key == "type").map_or("bind", |(_, value)| *value);
        let Some((key, part)) = field.split_once('=') else {
            let fits = |key: &&dockerfile::KeySpec| {
                let is_new = !given.iter().any(|(name, _)| *name == key.name && *name != field);
                is_new && (key.types.is_empty() || key.types.contains(&kind))
            };
            let items = flag.keys.iter().filter(fits).map(|key| {
                let bare = matches!(key.name, "readonly" | "readwrite" | "required" | "name");
                let insert = if bare { key.name.to_owned() } else { format!("{}=", key.name) };
                Item::new(key.name, Kind::Property)
                    .detail(key.default)
                    .documentation(hover::key_text(flag, key))
                    .insert(insert)
            });
            return Some((items.collect(), field.len()));
        };
        let values = |list: &[&str]| list.iter().map(|name| Item::new(*name, Kind::Value)).collect();
        let items: Vec<Item> = match hover::find_key(flag, key)?.name {
            "type" if is_mount => values(&["bind", "cache", "tmpfs", "secret", "ssh"]),
            "sharing" => values(&["shared", "private", "locked"]),
            "from" => self.stages(),
            "readonly" | "readwrite" | "required" => values(&["true", "false"]),
            "target" if kind == "cache" => values(&[
                "/root/.cache/pip",
                "/root/.npm",
                "/var/cache/apt",
                "/var/lib/apt",
                "/root/.cache/go-build",
                "/go/pkg/mod",
                "/usr/local/cargo/registry",
                "/root/.m2",
            ]),
            "source" if kind == "bind" && !given.iter().any(|(key, _)| *key == "from") => {
                return self.paths(part);
            }
            _ => Vec::new(),
        };
        Some((items, part.len()))
    }

    fn argument(&self, spec: &'static Spec, written: &Written<'_>) -> Proposals {
        let args: Vec<&&str> = written.before.iter().filter(|word| !word.starts_with("--")).collect();
        let word = written.word;
        let length = word.len();
        let items: Vec<Item> = match (spec.name, args.len()) {
            ("FROM", 0) => {
                let mut items = self.stages();
                items.push(Item::new("scratch", Kind::Value).documentation("Nothing at all."));
                items
            }
            ("FROM", 1) => vec![Item::new("AS", Kind::Keyword).insert("AS ")],
            ("COPY" | "ADD", _) => {
                let from = written.before.iter().any(|word| word.starts_with("--from="));
                let word = word
                    .trim_start_matches('[')
                    .rsplit(',')
                    .next()
                    .unwrap_or_default()
                    .trim_start_matches('"');
                if from || word.starts_with("<<") {
                    return None;
                }
                return self.paths(word);
            }
            ("ARG", _) if !word.contains('=') => self.arguments(),
            ("LABEL", _) if !word.contains('=') => LABELS
                .iter()
                .map(|name| Item::new(format!("org.opencontainers.image.{name}"), Kind::Property))
                .map(|item| Item { insert: format!("{}=", item.label), ..item })
                .collect(),
            ("HEALTHCHECK", 0) => ["CMD", "NONE"].map(|name| Item::new(name, Kind::Keyword)).into(),
            ("STOPSIGNAL", 0) => SIGNALS.iter().map(|name| Item::new(*name, Kind::Value)).collect(),
            _ => Vec::new(),
        };
        Some((items, length))
    }

    /// The stage that the cursor is in; `None` before the first.
    fn stage(&self) -> Option<usize> {
        let stages = &self.view.analysis.parsed.recipe.stages;
        stages.partition_point(|stage| stage.from.range.start < self.offset).checked_sub(1)
    }

    /// Whether the cursor is in the FROM that starts its stage.
    fn in_from(&self) -> bool {
        let stages = &self.view.analysis.parsed.recipe.stages;
        self.stage()
            .and_then(|stage| stages.get(stage))
            .is_some_and(|stage| self.offset <= stage.from.range.end)
    }

    /// Stages that may be named here: earlier ones.
    fn stages(&self) -> Vec<Item> {
        let recipe = &self.view.analysis.parsed.recipe;
        let text = self.view.text.as_str();
        let line = self.view.text.line(self.view.text.position(self.offset).line);
        // The FROM that is being written may not be a stage yet.
        let is_from = text[line.as_usize()].trim_start().to_ascii_lowercase().starts_with("from");
        let count = match self.stage() {
            Some(stage) if self.in_from() => stage,
            Some(stage) if is_from => stage + 1,
            Some(stage) => stage,
            None => 0,
        };
        let earlier = recipe.stages.iter().take(count).rev();
        earlier
            .filter_map(|stage| {
                let name = stage.name.clone()?;
                Some(
                    Item::new(name, Kind::Class)
                        .detail(format!("FROM {}", stage.base()))
                        .documentation(hover::stage(self.view, stage.index)),
                )
            })
            .collect()
    }

    /// Variables behind `$` or `${`.
    fn variable_at(&self, word: &str) -> Proposals {
        let dollar = word.rfind('$')?;
        if word[..dollar].ends_with(['\\', '`', '$']) && !word[..dollar].ends_with("\\\\") {
            return None;
        }
        let tail = &word[dollar + 1..];
        let (braced, part) = tail.strip_prefix('{').map_or((false, tail), |rest| (true, rest));
        if scan::name_length(part) != part.len() {
            return None;
        }
        // An editor may have closed the brace already.
        let closed = self.view.text.as_str()[self.offset as usize..].starts_with('}');
        let items = self.variables().into_iter().map(|(name, value)| {
            let insert = if braced && !closed { format!("{name}}}") } else { name.clone() };
            let doc = hover::predefined(&name).unwrap_or_default();
            Item::new(name, Kind::Variable)
                .detail(value.unwrap_or_default())
                .documentation(doc)
                .insert(insert)
        });
        Some((items.collect(), part.len()))
    }

    /// What is set at the cursor, the recipe's own first.
    fn variables(&self) -> Vec<(String, Option<String>)> {
        let analysis = self.view.analysis;
        let semantics = &analysis.semantics;
        let mut known: BTreeMap<String, Option<String>> = BTreeMap::new();
        match self.stage().filter(|_| !self.in_from()) {
            Some(stage) => {
                let Some(facts) = semantics.stages.get(stage) else { return Vec::new() };
                let instructions = analysis.parsed.recipe.stages.get(stage).map(|stage| &stage.instructions);
                let next =
                    instructions.map_or(0, |list| list.partition_point(|node| node.range.end < self.offset));
                let state = facts.before.get(next).unwrap_or(&facts.end);
                known.extend(state.args.iter().map(|name| (name.clone(), None)));
                known.extend(state.env.0.iter().map(|(name, value)| (name.clone(), Some(value.clone()))));
            }
            None => {
                let args =
                    analysis.parsed.recipe.meta_args.iter().filter(|node| node.range.end < self.offset);
                known.extend(args.flat_map(|node| &node.node.args).map(|arg| (arg.key.clone(), None)));
                let globals = semantics.globals.0.iter();
                let visible = globals.filter(|(name, _)| {
                    AUTOMATIC.contains(&name.as_str()) || known.contains_key(name.as_str())
                });
                let visible: Vec<_> =
                    visible.map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
                known.extend(visible);
            }
        }
        let (late, own): (Vec<_>, Vec<_>) =
            known.into_iter().partition(|(name, _)| name == "PATH" || AUTOMATIC.contains(&name.as_str()));
        own.into_iter().chain(late).collect()
    }

    /// What ARG may ask for: global ARGs, and the platform.
    fn arguments(&self) -> Vec<Item> {
        let globals = self.view.analysis.parsed.recipe.meta_args.iter().flat_map(|node| &node.node.args);
        let globals = globals.filter(|_| self.stage().is_some()).map(|arg| {
            Item::new(arg.key.clone(), Kind::Variable)
                .detail(arg.value.clone().unwrap_or_default())
                .documentation(arg.doc.clone().unwrap_or_default())
        });
        let automatic = AUTOMATIC.iter().filter(|_| self.stage().is_some()).map(|name| {
            Item::new(*name, Kind::Variable).documentation(hover::predefined(name).unwrap_or_default())
        });
        globals.chain(automatic).collect()
    }

    /// Files of the context, taken to be the recipe's folder.
    fn paths(&self, word: &str) -> Proposals {
        let folder = self.view.path?.parent()?;
        let (inner, part) = word.rsplit_once('/').unwrap_or(("", word));
        let relative = inner.trim_start_matches("./").trim_start_matches('/');
        // A source can't leave the context.
        if relative.split('/').any(|piece| piece == "..") || word.contains(['*', '?', '$']) {
            return None;
        }
        let ignore = self.view.analysis.options.ignore.as_ref();
        let mut entries = self.view.host.list(&folder.join(relative));
        entries.sort_by(|a, b| (!a.folder, &a.name).cmp(&(!b.folder, &b.name)));
        let items = entries.into_iter().filter_map(|entry| {
            let path =
                if relative.is_empty() { entry.name.clone() } else { format!("{relative}/{}", entry.name) };
            let hidden = ignore
                .is_some_and(|ignore| ignore.leaves_out(&path) && !(entry.folder && ignore.has_exceptions()));
            if hidden || entry.name == ".git" || entry.name.contains(char::is_whitespace) {
                return None;
            }
            Some(match entry.folder {
                true => Item::new(format!("{}/", entry.name), Kind::Folder),
                false => Item::new(entry.name, Kind::File),
            })
        });
        Some((items.collect(), part.len()))
    }

    /// Directives at the top, and comments that silence rules.
    fn comment(&self, text: &str, line_start: u32) -> Proposals {
        let body = text.trim_start_matches('#').trim_start();
        let lists = [
            "check=skip=",
            "ctrbuild: ignore=",
            "ctrbuild: ignore-file=",
            "hadolint ignore=",
            "hadolint global ignore=",
        ];
        if let Some(start) = lists.iter().find(|start| body.starts_with(**start)) {
            let names = &body[start.len()..];
            let part = names.rsplit(',').next().unwrap_or_default();
            if part.contains(char::is_whitespace) {
                return None;
            }
            let buildkit = start.starts_with("check");
            let hadolint = start.starts_with("hadolint");
            let rules = lint::RULES.iter().filter(|rule| !buildkit || rule.group == lint::Group::Buildkit);
            let mut items: Vec<Item> = rules
                .filter_map(|rule| {
                    let name = match hadolint {
                        true => *rule
                            .aliases
                            .iter()
                            .find(|name| name.starts_with("DL") || name.starts_with("SC"))?,
                        false => rule.name,
                    };
                    Some(Item::new(name, Kind::Value).detail(rule.summary).documentation(rule.why))
                })
                .collect();
            if !hadolint {
                items.insert(0, Item::new("all", Kind::Value));
            }
            return Some((items, part.len()));
        }
        if let Some(part) = body.strip_prefix("syntax=") {
            let items =
                ["docker/dockerfile:1", "docker/dockerfile:1-labs"].map(|name| Item::new(name, Kind::Value));
            return Some((items.into(), part.len()));
        }
        if let Some(part) = body.strip_prefix("escape=") {
            return Some((["\\", "`"].map(|name| Item::new(name, Kind::Value)).into(), part.len()));
        }
        if let Some(part) = body.strip_prefix("check=") {
            let items = ["skip=", "error=true"].map(|name| Item::new(name, Kind::Value));
            return Some((items.into(), part.len()));
        }
        let directives = &self.view.analysis.parsed.recipe.directives;
        let items = self.view.analysis.parsed.tree.items();
        let top = items
            .iter()
            .take_while(|item| item.range.end <= line_start)
            .all(|item| matches!(item.kind, ItemKind::Directive | ItemKind::Bom));
        let mut out = Vec::new();
        let mut directive = |name: &str, value: &str| {
            let doc = hover::directive_doc(name).unwrap_or_default();
            out.push(Item::new(format!("{name}={value}"), Kind::Keyword).documentation(doc));
        };
        if top && directives.syntax.is_none() {
            directive("syntax", "docker/dockerfile:1");
        }
        if top {
            directive("escape", "`");
        }
        directive("check", "skip=");
        out.extend(
            ["ctrbuild: ignore=", "ctrbuild: ignore-file=", "hadolint ignore="]
                .map(|name| Item::new(name, Kind::Keyword)),
        );
        Some((out, body.len()))
    }
}

/// Instructions, in the case of what is written.
fn keywords(written: &str, outer: bool) -> Vec<Item> {
    let lower = written.starts_with(|c: char| c.is_ascii_lowercase());
    let case = |name: &str| if lower { name.to_ascii_lowercase() } else { name.to_owned() };
    let fits = |spec: &&Spec| outer || spec.onbuild;
    let items = INSTRUCTIONS.iter().filter(fits).map(|spec| {
        Item::new(case(spec.name), Kind::Keyword)
            .detail(spec.doc)
            .documentation(hover::instruction(spec))
            .insert(format!("{} ", case(spec.name)))
    });
    items.collect()
}
