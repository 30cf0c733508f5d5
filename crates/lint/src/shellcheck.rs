//! What ShellCheck finds in the shell text of RUN.
//!
//! Nothing here runs a program: [`snippets`] gives the scripts of a recipe, a [`Checker`] says what ShellCheck
//! finds in them, and [`check`] brings that to its place in the recipe. Rules are called by ShellCheck's ids;
//! where a rule of this project is the same (`SC2086` is `quote-variable`), it has the first word: a finding
//! of ShellCheck at a place where the rule has one is dropped, and the rule's level counts.
//! Source: ShellCheck's format `json1`, whose columns are characters, tabs being one.

use crate::config::{Level, Options, Profile};
use crate::context::{Context, Finding, Node, Origin};
use crate::shell::{Kind, Script, ast::Span};
use diagnostic::{Applicability, Diagnostic, Edit, Fix, Severity, TextRange};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

/// A script as ShellCheck gets it: what stands in front of the text of a RUN, and that text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Snippet(String);

impl Snippet {
    /// The whole script.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Asks ShellCheck.
pub trait Checker: std::fmt::Debug + Send + Sync {
    /// What is found in each snippet, in their order. Nothing, if ShellCheck fails: whoever made the checker
    /// asks it afterwards whether it did.
    fn comments(&self, snippets: &[Snippet]) -> Vec<Arc<[Comment]>>;
}

/// One of ShellCheck's findings. Lines and columns count from 1; the end is behind the last character.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Comment {
    /// The name of the script.
    pub file: String,
    line: u32,
    end_line: u32,
    column: u32,
    end_column: u32,
    level: String,
    code: u32,
    message: String,
    fix: Option<Replacements>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Replacements {
    replacements: Vec<Replacement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Replacement {
    line: u32,
    end_line: u32,
    column: u32,
    end_column: u32,
    replacement: String,
    #[serde(default)]
    insertion_point: String,
}

/// Reads ShellCheck's `--format=json1`.
///
/// # Errors
/// The text is something else; the message says where.
pub fn read(json: &str) -> Result<Vec<Comment>, String> {
    #[derive(Deserialize)]
    struct Output {
        comments: Vec<Comment>,
    }
    serde_json::from_str::<Output>(json).map(|output| output.comments).map_err(|error| error.to_string())
}

/// The number in `SC2086`.
pub(crate) fn code(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("SC").or_else(|| name.strip_prefix("sc"))?;
    (digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// About files that are not there to be read, and about a shell that is taken for dash (as hadolint does).
const NEVER: [u32; 3] = [1090, 1091, 2187];
/// The first line is not the first for ShellCheck.
const SHEBANG: [u32; 2] = [1128, 2096];

/// Variables that the builder defines in every RUN.
const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// The scripts of a recipe: what to ask a [`Checker`] for, before [`crate::lint`] does.
pub fn snippets(cx: &Context<'_>) -> Vec<Snippet> {
    scripts(cx).map(|(node, script)| snippet(cx, node, script).0).collect()
}

fn scripts<'c, 'a>(cx: &'c Context<'a>) -> impl Iterator<Item = (&'c Node<'a>, &'c Script)> {
    let on = cx.options.profile != Profile::Buildkit;
    cx.runs()
        .filter(move |(_, _, script)| on && !script.exec && dialect(script.kind).is_some())
        .map(|(node, _, script)| (node, script))
}

fn dialect(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Sh => Some("sh"),
        Kind::Dash | Kind::Ash => Some("dash"),
        Kind::Bash => Some("bash"),
        Kind::Ksh => Some("ksh"),
        Kind::Zsh | Kind::PowerShell | Kind::Cmd | Kind::Other => None,
    }
}

/// The script of a RUN, and how many lines stand in front of its text.
fn snippet(cx: &Context<'_>, node: &Node<'_>, script: &Script) -> (Snippet, u32) {
    let state = cx.state(node.stage, node.index);
    let mut text = format!("#!/bin/{}", dialect(script.kind).unwrap_or("sh"));
    let words = state.and_then(|state| state.shell.as_deref()).unwrap_or_default();
    let short = |word: &String| word.starts_with('-') && !word.starts_with("--") && word.contains('e');
    if words.iter().skip(1).any(short) {
        text.push_str(" -e");
    }
    text.push('\n');
    let mut names: BTreeSet<&str> = PROXIES.into();
    if let Some(state) = state {
        names.extend(state.env.0.keys().map(String::as_str));
        names.extend(state.args.iter().map(String::as_str));
    }
    // What comes from the recipe goes into the script only where it is a name for the shell.
    for name in names.into_iter().filter(|name| is_name(name) && *name != "PATH") {
        let _ = writeln!(text, "export {name}=1");
    }
    let lines = text.matches('\n').count() as u32;
    text.push_str(&script.mapped.text);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    (Snippet(text), lines)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Adds what ShellCheck finds to the findings of the rules.
pub(crate) fn check(cx: &Context<'_>, checker: &dyn Checker, findings: &mut Vec<Finding>) {
    let scripts: Vec<_> = scripts(cx).map(|(node, script)| (script, snippet(cx, node, script))).collect();
    let snippets: Vec<Snippet> = scripts.iter().map(|(_, (snippet, _))| snippet.clone()).collect();
    let mut found = Vec::new();
    for ((script, (_, lines)), comments) in scripts.iter().zip(checker.comments(&snippets)) {
        let place = Place { script, lines: Lines::new(&script.mapped.text), before: *lines };
        for comment in comments.iter() {
            found.extend(place.finding(cx, comment).filter(|new| !is_known(findings, new)));
        }
    }
    findings.append(&mut found);
}

/// Whether a rule of this project has found the same.
fn is_known(findings: &[Finding], new: &Finding) -> bool {
    let Some(rule) = new.rule else { return false };
    findings.iter().any(|finding| {
        let (a, b) = (finding.diagnostic.range, new.diagnostic.range);
        finding.rule == Some(rule) && a.start <= b.end && b.start <= a.end
    })
}

/// Where the lines of a text begin.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// The byte at a line and column of ShellCheck's; the end of the line for a column behind it.
    fn offset(&self, line: u32, column: u32) -> Option<u32> {
        let start = *self.starts.get((line as usize).checked_sub(1)?)?;
        let rest = &self.text[start..];
        let rest = rest.split('\n').next().unwrap_or(rest);
        let at = rest.char_indices().nth((column as usize).checked_sub(1)?).map_or(rest.len(), |(at, _)| at);
        u32::try_from(start + at).ok()
    }
}

/// The way from a script's text to the recipe.
struct Place<'a> {
    script: &'a Script,
    lines: Lines<'a>,
    before: u32,
}

impl Place<'_> {
    fn span(&self, start: (u32, u32), end: (u32, u32)) -> Option<Span> {
        let offset = |(line, column): (u32, u32)| self.lines.offset(line.checked_sub(self.before)?, column);
        let (start, end) = (offset(start)?, offset(end)?);
        Some(Span { start, end: end.max(start) })
    }

    fn finding(&self, cx: &Context<'_>, comment: &Comment) -> Option<Finding> {
        let shebang = self.script.mapped.text.starts_with("#!") && SHEBANG.contains(&comment.code);
        if NEVER.contains(&comment.code) || shebang {
            return None;
        }
        let name = format!("SC{}", comment.code);
        let rule = crate::find_rule(&name);
        let severity = match rule {
            Some(rule) => cx.options.severity(rule)?,
            None => cx.options.shellcheck_severity(comment.code, severity(&comment.level))?,
        };
        let span = self.span((comment.line, comment.column), (comment.end_line, comment.end_column))?;
        let range = self.script.range(span);
        let mut diagnostic = Diagnostic::new(name, severity, range, message(&comment.message));
        if let Some(rule) = rule {
            diagnostic.rule = rule.name.into();
        }
        diagnostic.url = Some(format!("https://www.shellcheck.net/wiki/SC{}", comment.code).into());
        diagnostic.fix = comment.fix.as_ref().and_then(|fix| self.fix(fix));
        let line = cx.instruction_line(range.start);
        let origin = Origin::Rule;
        Some(Finding { diagnostic, rule, instruction_line: line, scope: Some(line), origin })
    }

    /// The same change in the recipe, where it has the same bytes.
    fn fix(&self, fix: &Replacements) -> Option<Fix> {
        let mut edits = Vec::new();
        for one in &fix.replacements {
            let span = self.span((one.line, one.column), (one.end_line, one.end_column))?;
            let range = match (span.end > span.start, one.insertion_point.as_str()) {
                (true, _) if !self.script.mapped.is_whole(span) => return None,
                (true, _) => self.script.range(span),
                // What closes belongs to the character before it, which may stand on an earlier line.
                (false, "beforeStart") if span.start > 0 => {
                    TextRange::empty(self.script.mapped.offset(span.start - 1) + 1)
                }
                (false, _) => TextRange::empty(self.script.mapped.offset(span.start)),
            };
            edits.push(Edit { range, replacement: one.replacement.clone() });
        }
        edits.sort_by_key(|edit| edit.range);
        let apart = edits.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start);
        let title = "do as ShellCheck says".to_owned();
        (apart && !edits.is_empty()).then_some(Fix { title, applicability: Applicability::Unsafe, edits })
    }
}

fn severity(level: &str) -> Severity {
    match level {
        "error" => Severity::Error,
        "warning" => Severity::Warning,
        "style" => Severity::Style,
        _ => Severity::Info,
    }
}

/// In the manner of this project's messages: lower-case and without a final period.
fn message(text: &str) -> String {
    let text = text.trim();
    let text = text.strip_suffix('.').filter(|rest| !rest.ends_with('.')).unwrap_or(text);
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

impl Options {
    /// The severity of a finding that only ShellCheck knows; `None` where it is off.
    fn shellcheck_severity(&self, code: u32, own: Severity) -> Option<Severity> {
        let said =
            self.shellcheck_levels.iter().rev().find(|(other, _)| *other == code).map(|(_, level)| *level);
        match said {
            Some(Level::Off) => None,
            Some(Level::As(severity)) => Some(severity),
            Some(Level::On) | None => Some(own),
        }
    }
}

#[cfg(test)]
mod tests;
