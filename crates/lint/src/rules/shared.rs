//! What several rules need.

use crate::LabelType;
use crate::context::{Context, Node, Sink};
use crate::shell::{Call, ast};
use diagnostic::{Applicability, Fix, TextRange};
use dockerfile::{Command, Instruction};

/// A fix that turns the shell form of CMD, ENTRYPOINT or HEALTHCHECK into a JSON array. Only for one plain
/// command without anything that a shell does.
pub(super) fn exec_form(cx: &Context<'_>, node: &Node<'_>) -> Option<Fix> {
    let command = match node.instruction {
        Instruction::Cmd(cmd) => &cmd.command,
        Instruction::Entrypoint(entrypoint) => &entrypoint.command,
        Instruction::Healthcheck(dockerfile::Healthcheck::Check(check)) => &check.command,
        _ => return None,
    };
    let Command::Shell(text) = command else { return None };
    if node.located.lines.first != node.located.lines.last || !node.shell.is_posix() {
        return None;
    }
    let parsed = crate::shell::parser::parse(&text.value);
    let [(ast::Command::Simple(simple), false)] = parsed.list.items.as_slice() else { return None };
    let plain = parsed.error.is_none()
        && parsed.comments.is_empty()
        && simple.assigns.is_empty()
        && simple.redirects.is_empty()
        && !simple.words.is_empty();
    let builtin = simple.words.first().and_then(|word| word.literal());
    let builtin = builtin
        .is_some_and(|name| matches!(name.as_str(), "exec" | "cd" | "." | "source" | "export" | "set"));
    if !plain || builtin || text.value.starts_with('[') || cx.source().slice(text.range) != text.value {
        return None;
    }
    let mut words = Vec::new();
    for word in &simple.words {
        let unquoted = word.bare().unwrap_or_default();
        if unquoted.contains(['*', '?', '[', '~', '{', '#']) {
            return None;
        }
        words.push(word.literal()?);
    }
    let json = serde_json::to_string(&words).ok()?.replace("\",\"", "\", \"");
    Some(Fix::replace("write a JSON array", Applicability::Unsafe, text.range, json))
}

/// Whether a path ends as an archive that ADD unpacks.
pub(super) fn is_archive(path: &str) -> bool {
    let path = path.trim_matches(['"', '\'']);
    [
        ".tar", ".Z", ".bz2", ".gz", ".lz", ".lzma", ".tZ", ".tb2", ".tbz", ".tbz2", ".tgz", ".tlz", ".tpz",
        ".txz", ".xz",
    ]
    .iter()
    .any(|end| path.ends_with(end))
}

/// A fix that writes something behind a part of a command.
pub(super) fn insert_after(node: &Node<'_>, span: ast::Span, text: &str, title: &str) -> Option<Fix> {
    let script = node.script.as_ref().filter(|script| !script.exec)?;
    let end = script.range(span).end;
    Some(Fix::replace(title, Applicability::Safe, TextRange::empty(end), text))
}

/// Reports every call that `wrong` says is, at its name.
pub(super) fn report_calls(
    cx: &Context<'_>,
    out: &mut Sink<'_>,
    message: &str,
    wrong: impl Fn(&Node<'_>, &Call) -> bool,
) {
    for (node, call) in cx.calls() {
        if wrong(node, call) {
            out.report(node.place(call.span), message);
        }
    }
}

/// As [`report_calls`], with a flag that should stand behind `word`.
pub(super) fn report_missing_flag(
    cx: &Context<'_>,
    out: &mut Sink<'_>,
    message: &str,
    (words, flag): (&[&str], &str),
    wrong: impl Fn(&Node<'_>, &Call) -> bool,
) {
    for (node, call) in cx.calls() {
        if !wrong(node, call) {
            continue;
        }
        let finding = out.report(node.place(call.span), message);
        let behind = match words.is_empty() {
            true => Some(call.name_span),
            false => call.args.iter().find(|arg| words.contains(&arg.text.as_str())).map(|arg| arg.span),
        };
        if let Some(fix) =
            behind.and_then(|span| insert_after(node, span, &format!(" {flag}"), &format!("add {flag}")))
        {
            finding.fix(fix);
        }
    }
}

/// Whether the first call that installs is not followed by one that cleans.
pub(super) fn forgets_to_clean(
    calls: &[Call],
    install: impl Fn(&Call) -> bool,
    clean: impl Fn(&Call) -> bool,
) -> Option<&Call> {
    let first = calls.iter().position(install)?;
    let cleaned = calls.iter().position(clean).is_some_and(|at| at > first);
    (!cleaned).then(|| &calls[first])
}

/// The first package that an install by dnf or yum names without a version, or module without a stream.
pub(super) fn report_unpinned_rpm(cx: &Context<'_>, node: &Node<'_>, call: &Call, out: &mut Sink<'_>) {
    let module = call.has_any(&["module"]);
    let fixed = |text: &str| match module {
        true => text.contains(':'),
        false => is_rpm_pinned(cx, node, text),
    };
    let operands = call.operands(&[]);
    if let Some(arg) =
        operands.iter().find(|arg| !["install", "module"].contains(&arg.text.as_str()) && !fixed(&arg.text))
    {
        out.report(node.place(arg.span), format!("{} has no version", arg.text));
    }
}

/// Whether an rpm package's name ends with a version, or a variable says it.
fn is_rpm_pinned(cx: &Context<'_>, node: &Node<'_>, package: &str) -> bool {
    if package.contains('$') {
        let says = |name: &str| package.contains(&format!("${{{name}}}"));
        let known = cx.state(node.stage, node.index);
        let known =
            known.is_some_and(|state| state.env.0.keys().chain(state.args.iter()).any(|name| says(name)));
        return known || cx.trigger_env(node).any(|(name, _)| says(name));
    }
    let mut parts = package.split('-').skip(1).peekable();
    let valid = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || ".~^_:+".contains(c));
    let mut digit = false;
    package.ends_with(".rpm")
        || (parts.peek().is_some()
            && parts.all(|part| {
                digit |= part.starts_with(|c: char| c.is_ascii_digit());
                valid(part)
            })
            && digit)
}

/// An image's name, its tag and its digest, as far as they are written out.
pub(super) struct ImageParts<'a> {
    /// Registry and path.
    pub name: &'a str,
    /// Behind `:`.
    pub tag: Option<&'a str>,
    /// Whether there is one.
    pub digest: bool,
}

/// Takes a base apart; `:` and `/` inside of `${…}` do not count.
pub(super) fn image_parts(text: &str) -> ImageParts<'_> {
    let (mut depth, mut slash, mut colon, mut at) = (0usize, None, None, None);
    for (index, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '/' if depth == 0 => (slash, colon) = (Some(index), None),
            ':' if depth == 0 && colon.is_none() => colon = Some(index),
            '@' if depth == 0 => {
                at = Some(index);
                break;
            }
            _ => {}
        }
    }
    let _ = slash;
    let end = at.unwrap_or(text.len());
    let name = &text[..colon.unwrap_or(end)];
    ImageParts { name, tag: colon.and_then(|colon| text.get(colon + 1..end)), digest: at.is_some() }
}

/// Reports labels of the schema whose value is not of their type.
pub(super) fn report_labels(
    cx: &Context<'_>,
    out: &mut Sink<'_>,
    kind: LabelType,
    words: &str,
    valid: impl Fn(&str) -> bool,
) {
    for node in &cx.nodes {
        let Instruction::Label(label) = node.instruction else { continue };
        for pair in &label.pairs {
            let value = pair.value.trim_matches(['"', '\'']);
            let key = pair.key.trim_matches(['"', '\'']);
            if cx.options.labels.get(key) == Some(&kind) && !value.contains('$') && !valid(value) {
                out.report(pair.range, format!("label {key} is {words}"));
            }
        }
    }
}
