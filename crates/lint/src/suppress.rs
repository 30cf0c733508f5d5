//! Comments that silence rules.
//!
//! Understood are `# check=skip=A,B` (BuildKit: at the top for the file, above an instruction for it),
//! `# hadolint ignore=A,B`, `# hadolint stage ignore=A`, `# hadolint global ignore=A` (above an instruction,
//! a FROM, anywhere), and the own form `# ctrbuild: ignore=A,B because REASON` (above an instruction, or
//! inside of it for the line that follows) and `# ctrbuild: ignore-file=A because REASON`. A comment that
//! silences nothing is reported by the rule `unused-suppression`.

use crate::config::Profile;
use crate::context::{Context, Finding, Origin};
use crate::rule::Group;
use crate::rules;
use crate::shell::Kind;
use diagnostic::{Applicability, Diagnostic, Fix, TextRange};
use dockerfile::Parsed;
use dockerfile::syntax::{ItemKind, TokenKind};

/// Who reads a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Buildkit,
    Hadolint,
    Own,
}

/// Which findings a comment is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    File,
    /// Instructions that start on these lines.
    Instructions(u32, u32),
    /// Findings on this line.
    Line(u32),
}

#[derive(Clone, Debug)]
struct Suppression {
    dialect: Dialect,
    target: Target,
    rules: Vec<String>,
    range: TextRange,
    used: Vec<bool>,
}

/// What `# check=` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// Checks to leave out; `all` is one.
    pub skip: Vec<String>,
    /// Experimental checks to run; `all` is one.
    pub experimental: Vec<String>,
    /// Whether a finding fails the build.
    pub error: bool,
}

/// Reads the value of `# check=`.
///
/// # Errors
/// BuildKit's message.
pub fn check_options(text: &str) -> Result<CheckOptions, String> {
    let mut out = CheckOptions::default();
    let text = text.trim();
    if text.is_empty() {
        return Ok(out);
    }
    for part in text.splitn(3, ';') {
        let Some((key, value)) = part.split_once('=') else {
            return Err(format!("invalid check option {part:?}"));
        };
        let list = || value.trim().split(',').map(|name| name.trim().to_owned()).collect();
        match key.trim() {
            "skip" => out.skip = list(),
            "experimental" => out.experimental = list(),
            "error" => {
                out.error = match value.trim() {
                    "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                    "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                    _ => return Err(format!("failed to parse check option {part:?}")),
                }
            }
            other => return Err(format!("invalid check option {other:?}")),
        }
    }
    Ok(out)
}

/// The options in a comment that reads `check=…`.
fn check_comment(comment: &str) -> Option<CheckOptions> {
    let (key, value) = comment.trim_start().split_once('=')?;
    if key.trim_end() != "check" {
        return None;
    }
    check_options(value.trim().split(' ').next().unwrap_or_default()).ok()
}

/// The `check=` options that hold for an instruction by a comment above it.
pub(crate) fn options_above(statement: &dockerfile::syntax::Statement) -> Option<CheckOptions> {
    statement.comments.iter().find_map(|comment| check_comment(comment))
}

/// Shells that `# hadolint shell=` comments name, with their lines.
pub(crate) fn shell_pragmas(parsed: &Parsed) -> Vec<(u32, Kind)> {
    comments(parsed)
        .filter_map(|(range, text, _)| {
            let rest = text.trim_start().strip_prefix("hadolint")?.trim_start().strip_prefix("shell")?;
            let name = rest.trim_start().strip_prefix('=')?.trim();
            let name = name.split_whitespace().next()?;
            Some((parsed.source.line_of(range.start), Kind::named(name)))
        })
        .collect()
}

/// Comments: place, text behind `#`, and the index of the item they are in.
fn comments(parsed: &Parsed) -> impl Iterator<Item = (TextRange, &str, usize)> {
    let text = parsed.source.text();
    parsed.tree.items().iter().enumerate().flat_map(move |(index, item)| {
        parsed.tree.tokens_of(item).iter().filter(|token| token.kind == TokenKind::Comment).filter_map(
            move |token| {
                let comment = text.get(token.range.as_usize())?;
                Some((token.range, comment.trim_start_matches('#'), index))
            },
        )
    })
}

/// Names up to something that is none.
fn names(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for part in text.trim_start().split(',') {
        let part = part.trim_start();
        let end =
            part.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').unwrap_or(part.len());
        if end == 0 {
            break;
        }
        out.push(part[..end].to_owned());
        if !part[end..].trim().is_empty() {
            break;
        }
    }
    out
}

fn read(cx: &Context<'_>) -> Vec<Suppression> {
    let parsed = cx.parsed;
    let mut out: Vec<Suppression> = Vec::new();
    let mut add = |dialect, target, rules: Vec<String>, range| {
        let used = vec![false; rules.len()];
        if !rules.is_empty() {
            out.push(Suppression { dialect, target, rules, range, used });
        }
    };
    let profile = cx.options.profile;
    if let Some(check) = &parsed.recipe.directives.check
        && profile != Profile::Hadolint
        && let Ok(options) = check_options(&check.value)
    {
        add(Dialect::Buildkit, Target::File, options.skip, check.range);
    }
    if profile != Profile::Hadolint {
        for statement in &parsed.statements {
            let Some(options) = options_above(statement) else { continue };
            let line = statement.lines.first;
            add(Dialect::Buildkit, Target::Instructions(line, line), options.skip, statement.keyword.range);
        }
    }
    if profile == Profile::Buildkit {
        return out;
    }
    let items = parsed.tree.items();
    for (range, text, index) in comments(parsed) {
        let text = text.trim_start();
        let inside = !matches!(items[index].kind, ItemKind::Comment | ItemKind::Directive);
        let line = parsed.source.line_of(range.start);
        // The instruction below, if only comments are between.
        let below = || {
            let next = items[index + 1..].iter().find(|item| !matches!(item.kind, ItemKind::Comment))?;
            let ItemKind::Instruction(number) = next.kind else { return None };
            parsed.statements.get(number as usize)
        };
        if let Some(rest) = text.strip_prefix("hadolint").filter(|rest| rest.starts_with([' ', '\t'])) {
            let rest = rest.trim_start();
            let (scope, rest) = match (rest.strip_prefix("global"), rest.strip_prefix("stage")) {
                (Some(rest), _) => ("global", rest.trim_start()),
                (_, Some(rest)) => ("stage", rest.trim_start()),
                _ => ("", rest),
            };
            let Some(list) = rest.strip_prefix("ignore").and_then(|rest| rest.trim_start().strip_prefix('='))
            else {
                continue;
            };
            let target = match scope {
                "global" => Some(Target::File),
                "stage" => below().and_then(|statement| {
                    let stage =
                        cx.stages().iter().find(|stage| stage.from.lines.first == statement.lines.first)?;
                    let last =
                        stage.instructions.last().map_or(stage.from.lines.last, |node| node.lines.last);
                    Some(Target::Instructions(stage.from.lines.first, last))
                }),
                _ => below()
                    .filter(|_| !inside)
                    .map(|statement| Target::Instructions(statement.lines.first, statement.lines.first)),
            };
            add(Dialect::Hadolint, target.unwrap_or(Target::Line(0)), names(list), range);
        } else if let Some(rest) = text.strip_prefix("ctrbuild:").filter(|_| profile != Profile::Hadolint) {
            let rest = rest.trim_start();
            if let Some(list) = rest.strip_prefix("ignore-file=") {
                add(Dialect::Own, Target::File, names(list), range);
            } else if let Some(list) = rest.strip_prefix("ignore=") {
                let target = match inside {
                    true => Target::Line(line_below(parsed, line)),
                    false => below().map_or(Target::Line(0), |node| {
                        Target::Instructions(node.lines.first, node.lines.first)
                    }),
                };
                add(Dialect::Own, target, names(list), range);
            }
        }
    }
    out
}

/// The next line that is neither blank nor a comment.
fn line_below(parsed: &Parsed, line: u32) -> u32 {
    let mut at = line + 1;
    while at <= parsed.source.line_count() {
        let text = parsed.source.line_text(at).trim_start();
        if !text.is_empty() && !text.starts_with('#') {
            break;
        }
        at += 1;
    }
    at
}

impl Suppression {
    /// Index of the name that silences a finding.
    fn silences(&self, cx: &Context<'_>, finding: &Finding) -> Option<usize> {
        let buildkit = finding.rule.is_some_and(|rule| rule.group == Group::Buildkit);
        let hit = match self.target {
            Target::File => true,
            Target::Instructions(first, last) => match cx.options.profile {
                Profile::Buildkit => finding.scope == Some(first),
                _ => {
                    let line = finding.scope.unwrap_or(finding.instruction_line);
                    first <= line && line <= last
                }
            },
            Target::Line(line) => cx.source().line_of(finding.diagnostic.range.start) == line,
        };
        if !hit {
            return None;
        }
        self.rules.iter().position(|name| match (name.as_str(), self.dialect) {
            ("all", Dialect::Buildkit) => buildkit,
            ("all", Dialect::Own) => true,
            (name, _) => finding.is_called(name),
        })
    }
}

/// Drops silenced findings; gives the rest and how many went.
pub(crate) fn apply(cx: &Context<'_>, findings: Vec<Finding>) -> (Vec<Finding>, usize) {
    if !cx.options.inline {
        return (findings, 0);
    }
    let mut list = read(cx);
    let before = findings.len();
    let mut kept = Vec::with_capacity(before);
    for finding in findings {
        let mut silenced = false;
        // Errors of the recipe stay: silencing them builds nothing.
        if finding.origin == Origin::Rule || !finding.diagnostic.is_error() {
            for suppression in &mut list {
                if let Some(index) = suppression.silences(cx, &finding) {
                    suppression.used[index] = true;
                    silenced = true;
                }
            }
        }
        if !silenced {
            kept.push(finding);
        }
    }
    let silenced = before - kept.len();
    unused(cx, &list, &mut kept);
    (kept, silenced)
}

fn unused(cx: &Context<'_>, list: &[Suppression], kept: &mut Vec<Finding>) {
    let Some(rule) = rules::find_rule("unused-suppression") else { return };
    let Some(severity) = cx.options.severity(rule) else { return };
    for suppression in list.iter().filter(|one| one.dialect != Dialect::Buildkit) {
        for (name, used) in suppression.rules.iter().zip(&suppression.used) {
            if *used {
                continue;
            }
            let known = rules::find_rule(name);
            // A rule that is off, or that another tool has, may well be needed there.
            let message = match known {
                Some(rule) if cx.options.severity(rule).is_none() => continue,
                Some(_) => format!("{name} finds nothing here: the comment is not needed"),
                None if cx.options.custom.iter().any(|rule| rule.name() == name && !rule.is_on()) => continue,
                None if cx.options.custom.iter().any(|rule| rule.name() == name) => {
                    format!("{name} finds nothing here: the comment is not needed")
                }
                None if is_foreign(name) => continue,
                None => format!("there is no rule {name}"),
            };
            let mut diagnostic = Diagnostic::new(rule.name, severity, suppression.range, message);
            if suppression.rules.len() == 1 {
                let line = cx.source().line_of(suppression.range.start);
                let range = cx.source().full_line_range(line);
                diagnostic.fix = Some(Fix::replace("drop the comment", Applicability::Unsafe, range, ""));
            }
            let line = cx.source().line_of(suppression.range.start);
            let origin = Origin::Rule;
            kept.push(Finding { diagnostic, rule: Some(rule), instruction_line: line, scope: None, origin });
        }
    }
}

/// `DL1234`, `SC1234`: of hadolint or ShellCheck, though not of this project.
fn is_foreign(name: &str) -> bool {
    let rest = name.strip_prefix("DL").or_else(|| name.strip_prefix("SC"));
    rest.is_some_and(|digits| digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let options = check_options("skip=A, B;error=true").unwrap_or_default();
        assert_eq!((options.skip, options.error), (vec!["A".to_owned(), "B".to_owned()], true));
        assert!(check_options("x").is_err() && check_options("error=maybe").is_err());
        assert_eq!(names("A,B because C"), ["A", "B"]);
        assert_eq!(names(" DL3008 # why"), ["DL3008"]);
        assert!(check_comment("check = skip=all").is_some());
        assert!(check_comment("a check=skip=all").is_none());
    }
}
