//! What is known of the thing at a place: a variable with its value there, a stage, an image, an instruction,
//! a flag, a directive, the rule of a finding.

use super::View;
use super::navigate::role_name;
use crate::index::{Found, Place, Role, StageRole, Variable};
use diagnostic::TextRange;
use dockerfile::syntax::{ItemKind, Statement, TokenKind};
use dockerfile::{FlagKind, FlagSpec, KeySpec, Spec};
use lint::semantics::Base;
use oci::Reference;

/// Longest value that is shown.
const MAX_VALUE: usize = 300;

/// Markdown and the range it is about.
pub fn at(view: &View<'_>, offset: u32) -> Option<(String, TextRange)> {
    let mut parts: Vec<String> = Vec::new();
    let mut about: Option<TextRange> = None;
    let mut add = |text: String, range: TextRange| {
        parts.push(text);
        about.get_or_insert(range);
    };
    match view.analysis.index.at(offset) {
        Some(Found::Variable(one)) => add(variable(view, one), one.range),
        Some(Found::Stage(one)) if one.role != StageRole::Comment => add(stage(view, one.stage), one.range),
        _ => {}
    }
    let parsed = &view.analysis.parsed;
    let items = parsed.tree.items();
    let item = items.get(items.partition_point(|item| item.range.end <= offset));
    if let Some(item) = item {
        let tokens = parsed.tree.tokens_of(item);
        let token = tokens.iter().find(|token| token.range.start <= offset && offset < token.range.end);
        match (item.kind, token.map(|token| (token.kind, token.range))) {
            (ItemKind::Directive, Some((TokenKind::Comment, range))) => {
                if let Some(text) = directive(view.slice(range)) {
                    add(text.to_owned(), range);
                }
            }
            (ItemKind::Instruction(number), Some((kind, range))) => {
                if let Some(statement) = parsed.statements.get(number as usize) {
                    of_statement(view, statement, offset, kind, range, &mut add);
                }
            }
            (ItemKind::Broken, Some((TokenKind::Word, range))) => {
                if let Some(spec) = Spec::find(view.slice(range)) {
                    add(instruction(spec), range);
                }
            }
            _ => {}
        }
    }
    for finding in &view.analysis.report().findings {
        let range = finding.diagnostic.range;
        if range.start <= offset
            && offset < range.end.max(range.start + 1)
            && let Some(rule) = finding.rule
        {
            let aliases = if rule.aliases.is_empty() {
                String::new()
            } else {
                format!(" ({})", rule.aliases.join(", "))
            };
            add(format!("**{}**{aliases}: {}.\n\n{}", rule.name, rule.summary, rule.why), range);
        }
    }
    about.map(|range| (parts.join("\n\n---\n\n"), range))
}

fn of_statement(
    view: &View<'_>,
    statement: &Statement,
    offset: u32,
    kind: TokenKind,
    range: TextRange,
    add: &mut impl FnMut(String, TextRange),
) {
    let spec = Spec::find(&statement.keyword.value);
    let sub = statement.sub.as_deref();
    if kind == TokenKind::Keyword
        && let Some(spec) = spec
    {
        add(instruction(spec), range);
    }
    if let Some(sub) = sub
        && sub.keyword.range.contains(offset)
        && let Some(spec) = Spec::find(&sub.keyword.value)
    {
        add(instruction(spec), sub.keyword.range);
    }
    for statement in std::iter::once(statement).chain(sub) {
        let Some(spec) = Spec::find(&statement.keyword.value) else { continue };
        let Some(word) = statement.flags.iter().find(|word| word.range.contains(offset)) else { continue };
        let name = word.value.trim_start_matches('-').split('=').next().unwrap_or_default();
        let Some(known) = spec.flag(name) else { continue };
        match key_at(view, word.range, offset).and_then(|key| find_key(known, key)) {
            Some(key) => add(key_text(known, key), word.range),
            None => add(flag(known), word.range),
        }
    }
    if statement.keyword.value.eq_ignore_ascii_case("from")
        && let Some(base) = statement.args.first()
        && base.range.contains(offset)
        && let Some(stage) =
            view.analysis.parsed.recipe.stages.iter().find(|stage| stage.from.range == statement.range)
        && let Some(Base::Image(image)) =
            view.analysis.semantics.stages.get(stage.index).map(|facts| &facts.base)
    {
        add(self::image(image), base.range);
    }
}

/// The key of `--mount=…` at a byte.
fn key_at<'a>(view: &View<'a>, flag: TextRange, offset: u32) -> Option<&'a str> {
    let text = view.text.as_str().get(flag.as_usize())?;
    let value = text.find('=')? + 1;
    let at = (offset - flag.start) as usize;
    let mut start = value;
    for field in text[value..].split(',') {
        let end = start + field.len();
        if start <= at && at <= end {
            return field.split('=').next();
        }
        start = end + 1;
    }
    None
}

/// The key of that name.
pub fn find_key(flag: &FlagSpec, name: &str) -> Option<&'static KeySpec> {
    let name = name.to_ascii_lowercase();
    flag.keys.iter().find(|key| key.name == name || key.aliases.contains(&name.as_str()))
}

/// About an instruction.
pub fn instruction(spec: &Spec) -> String {
    let mut out = format!("```dockerfile\n{}\n```\n\n{}", spec.usage.join("\n"), spec.doc);
    if !spec.expand {
        out.push_str(" Variables in its arguments do not expand.");
    }
    if !spec.flags.is_empty() {
        out.push('\n');
    }
    for one in spec.flags {
        out.push_str(&format!("\n- `{}`: {}", shape(one), one.doc));
    }
    out
}

fn shape(flag: &FlagSpec) -> String {
    match (flag.kind, flag.value) {
        (FlagKind::Bool, _) => format!("--{}[=true|false]", flag.name),
        (_, "") => format!("--{}=<value>", flag.name),
        (_, value) => format!("--{}={value}", flag.name),
    }
}

/// About a flag.
pub fn flag(flag: &FlagSpec) -> String {
    let mut out = format!("`{}`\n\n{}", shape(flag), flag.doc);
    if !flag.default.is_empty() {
        out.push_str(&format!("\n\nDefault: {}.", flag.default));
    }
    if flag.kind == FlagKind::List {
        out.push_str(" May be given many times.");
    }
    if !flag.expand {
        out.push_str(" Variables do not expand.");
    }
    if !flag.keys.is_empty() {
        out.push('\n');
    }
    for key in flag.keys {
        out.push_str(&format!("\n- `{}`{}: {}", key.name, types(key), key.doc));
    }
    out
}

fn types(key: &KeySpec) -> String {
    if key.types.is_empty() { String::new() } else { format!(" ({})", key.types.join(", ")) }
}

/// About a key of a flag.
pub fn key_text(flag: &FlagSpec, key: &KeySpec) -> String {
    let names: Vec<String> =
        std::iter::once(&key.name).chain(key.aliases).map(|name| format!("`{name}`")).collect();
    let mut out = format!("{} of `--{}`{}\n\n{}", names.join(", "), flag.name, types(key), key.doc);
    if !key.default.is_empty() {
        out.push_str(&format!("\n\nDefault: {}.", key.default));
    }
    out
}

/// About a directive, by its comment.
fn directive(comment: &str) -> Option<&'static str> {
    let key = comment.trim_start_matches('#').split('=').next()?.trim().to_ascii_lowercase();
    directive_doc(&key)
}

/// About a directive.
pub fn directive_doc(key: &str) -> Option<&'static str> {
    Some(match key {
        "syntax" => {
            "`# syntax=<image>`\n\nThe frontend that BuildKit reads the recipe with, such as `docker/dockerfile:1`."
        }
        "escape" => {
            "`# escape=<character>`\n\nThe character that escapes and that continues lines: `\\` (the default) or `` ` ``."
        }
        "check" => {
            "`# check=skip=<rule>,…|all[;error=true]`\n\nBuild checks to leave out, and whether a finding fails the build."
        }
        _ => return None,
    })
}

/// About an image.
pub fn image(name: &str) -> String {
    let Ok(reference) = Reference::parse(name) else { return format!("Image `{}`.", shorten(name)) };
    let tag = match (reference.tag(), reference.digest()) {
        (_, Some(digest)) => format!("digest `{digest}`"),
        (Some(tag), None) => format!("tag `{tag}`"),
        (None, None) => "tag `latest`, as none is given".to_owned(),
    };
    let link = super::links::page(name).map(|page| format!("\n\n[{page}]({page})")).unwrap_or_default();
    format!("Image `{}` of `{}`, {tag}.{link}", reference.path(), reference.domain())
}

/// About a stage.
pub fn stage(view: &View<'_>, index: usize) -> String {
    let recipe = &view.analysis.parsed.recipe;
    let Some(stage) = recipe.stages.get(index) else { return String::new() };
    let name = stage.name.clone().unwrap_or_else(|| format!("number {index}"));
    let mut out = format!("**stage {name}**");
    if let Some(doc) = stage.doc() {
        out.push_str(&format!(": {doc}"));
    }
    out.push_str(&format!("\n\n```dockerfile\n{}\n```\n", stage.from.code));
    let title = |stage: &dockerfile::Stage| {
        stage.name.clone().map_or_else(|| format!("stage {}", stage.index), |name| format!("`{name}`"))
    };
    match view.analysis.semantics.stages.get(index).map(|facts| &facts.base) {
        Some(Base::Scratch) => out.push_str("\nStarts from nothing."),
        Some(Base::Stage(base)) => {
            let base = recipe.stages.get(*base).map(title).unwrap_or_default();
            out.push_str(&format!("\nStarts from {base}."));
        }
        Some(Base::Image(image)) => out.push_str(&format!("\nStarts from `{}`.", shorten(image))),
        None => {}
    }
    let mut users: Vec<String> = Vec::new();
    for one in view.analysis.index.of_stage(index) {
        let verb = match one.role {
            StageRole::Base => "FROM",
            StageRole::Copy => "COPY",
            StageRole::Mount => "RUN --mount",
            StageRole::Name | StageRole::Comment => continue,
        };
        let line = view.analysis.parsed.source.line_of(one.range.start);
        users.push(format!("line {line} ({verb})"));
    }
    match users.is_empty() {
        true if index + 1 == recipe.stages.len() => out.push_str(" It is what is built."),
        true => out.push_str(" Nothing uses it."),
        false => out.push_str(&format!(" Used on {}.", users.join(", "))),
    }
    out
}

fn shorten(text: &str) -> String {
    let text = text.replace('`', "'").replace('\n', " ");
    match text.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The value of a variable where it is used.
pub fn value(view: &View<'_>, one: &Variable) -> Option<String> {
    let semantics = &view.analysis.semantics;
    let Place::Stage(stage) = one.place else { return semantics.globals.0.get(&one.name).cloned() };
    let facts = semantics.stages.get(stage)?;
    let next = one.instruction? + 1;
    let state = match one.role {
        Role::Runtime => return facts.end.image_env.0.get(&one.name).cloned(),
        // What a declaration sets shows behind it.
        role if role.declares() => facts.before.get(next).unwrap_or(&facts.end),
        _ => facts.before.get(next - 1)?,
    };
    state.env.0.get(&one.name).cloned()
}

fn variable(view: &View<'_>, one: &Variable) -> String {
    let name = &one.name;
    if one.doubt == Some(crate::index::Doubt::Assigned) {
        return format!("`${name}` is a variable of the shell text.");
    }
    let declaration = view.analysis.index.declaration(one);
    let Some(declaration) = declaration else {
        let predefined = predefined(name);
        let declared = |place: Place| {
            let mut all = view.analysis.index.variables.iter();
            all.any(|other| other.name == *name && other.role.declares() && other.place == place)
        };
        if one.role == Role::Runtime && declared(one.place) {
            return format!("`${name}` is an ARG, which is not there when the image runs: set it with ENV.");
        }
        if one.place != Place::Global && declared(Place::Global) {
            return format!(
                "`${name}` is an ARG before the first FROM, which this stage does not see: ask for it with `ARG {name}`."
            );
        }
        return match (predefined, value(view, one)) {
            (Some(doc), _) => format!("`${name}`: {doc}"),
            (None, Some(value)) => format!("`${name}` = `{}`", shorten(&value)),
            (None, None) => format!("`${name}` is not set in this recipe; the base image may set it."),
        };
    };
    let line = view.analysis.parsed.source.line_of(declaration.range.start);
    let mut out = format!("**{} {name}**", role_name(declaration.role));
    if let Some(doc) = predefined(name) {
        out.push_str(&format!(": {doc}"));
    }
    if let Some(doc) = described(view, declaration) {
        out.push_str(&format!(": {doc}"));
    }
    match value(view, one) {
        Some(value) if value.is_empty() => out.push_str("\n\nEmpty here"),
        Some(value) => out.push_str(&format!("\n\nHere: `{}`", shorten(&value))),
        None => out.push_str("\n\nWithout a value here"),
    }
    if declaration.range != one.range {
        out.push_str(&format!(", from line {line}"));
    }
    out.push_str(match declaration.role {
        Role::Env => ". Stays in the image.",
        _ => ". `--build-arg` may set it; not in the image.",
    });
    out
}

fn described(view: &View<'_>, declaration: &Variable) -> Option<String> {
    let recipe = &view.analysis.parsed.recipe;
    let in_stages =
        recipe.stages.iter().flat_map(|stage| &stage.instructions).filter_map(|node| match &node.node {
            dockerfile::Instruction::Arg(arg) => Some(&arg.args),
            _ => None,
        });
    let mut args = recipe.meta_args.iter().map(|node| &node.node.args).chain(in_stages).flatten();
    args.find(|arg| arg.range.contains_range(declaration.range))?.doc.clone()
}

/// About a variable that exists without being declared.
pub fn predefined(name: &str) -> Option<&'static str> {
    let (side, rest) = match (name.strip_prefix("TARGET"), name.strip_prefix("BUILD")) {
        (Some(rest), _) => (0, rest),
        (_, Some(rest)) => (1, rest),
        _ => return proxy(name),
    };
    Some(match (side, rest) {
        (0, "PLATFORM") => "the platform that is built for, such as `linux/arm64`.",
        (0, "OS") => "the operating system that is built for.",
        (0, "OSVERSION") => "the version of the operating system that is built for.",
        (0, "ARCH") => "the architecture that is built for, such as `arm64`.",
        (0, "VARIANT") => "the variant of the architecture that is built for, such as `v7`.",
        (0, "STAGE") => "the name of the stage that is built.",
        (_, "PLATFORM") => "the platform that builds, such as `linux/amd64`.",
        (_, "OS") => "the operating system that builds.",
        (_, "OSVERSION") => "the version of the operating system that builds.",
        (_, "ARCH") => "the architecture that builds.",
        (_, "VARIANT") => "the variant of the architecture that builds.",
        _ => return None,
    })
}

fn proxy(name: &str) -> Option<&'static str> {
    match name.to_ascii_uppercase().as_str() {
        "HTTP_PROXY" | "HTTPS_PROXY" | "FTP_PROXY" | "ALL_PROXY" | "NO_PROXY" => {
            Some("a proxy, which reaches RUN without being declared and is no part of the cache key.")
        }
        "SOURCE_DATE_EPOCH" => Some("the time, in seconds since 1970, that files and history are to bear."),
        _ => None,
    }
}
