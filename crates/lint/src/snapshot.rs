//! A recipe as a reviewed text: its stages, what the image will be configured with, and its findings.
//!
//! The text is stable: the same recipe gives the same snapshot everywhere. It is kept beside the recipe as
//! `NAME.snap`.

use crate::context::Context;
use crate::semantics::Base;
use crate::{Options, lint};
use dockerfile::{Command, Healthcheck, Instruction, Parsed};
use std::fmt::Write;

/// The snapshot of a recipe.
pub fn snapshot(parsed: &Parsed, options: &Options) -> String {
    let cx = Context::new(parsed, options);
    let mut out = String::from("# ctrbuild lint snapshot v1\n");
    let _ = writeln!(out, "platform: {}", cx.platform.short());
    let directives = &parsed.recipe.directives;
    for (name, value) in [("syntax", &directives.syntax), ("check", &directives.check)] {
        if let Some(value) = value {
            let _ = writeln!(out, "{name}: {}", value.value);
        }
    }
    for arg in parsed.recipe.meta_args.iter().flat_map(|node| &node.node.args) {
        let _ = writeln!(
            out,
            "arg: {}{}",
            arg.key,
            arg.value.as_ref().map(|value| format!("={value}")).unwrap_or_default()
        );
    }
    for stage in cx.stages() {
        let Some(facts) = cx.facts(stage.index) else { continue };
        let name = stage.name.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
        let base = match &facts.base {
            Base::Stage(index) => format!("stage {index}"),
            Base::Scratch => "scratch".to_owned(),
            Base::Image(image) => image.clone(),
        };
        let _ = writeln!(out, "\nstage {}{name}\n  from: {base}", stage.index);
        if !facts.reads.is_empty() {
            let reads: Vec<String> = facts.reads.iter().map(usize::to_string).collect();
            let _ = writeln!(out, "  reads: stage {}", reads.join(", "));
        }
        for node in &stage.instructions {
            let text = node.code.split_whitespace().collect::<Vec<_>>().join(" ");
            let _ = writeln!(out, "  | {text}");
        }
        let end = &facts.end;
        for (name, value) in &end.image_env.0 {
            let _ = writeln!(out, "  env: {name}={value}");
        }
        for (name, value) in [("workdir", &end.workdir), ("user", &end.user)] {
            if let Some(value) = value {
                let _ = writeln!(out, "  {name}: {value}");
            }
        }
        if let Some(shell) = &end.shell {
            let _ = writeln!(out, "  shell: {shell:?}");
        }
        for node in &stage.instructions {
            let command = match &node.node {
                Instruction::Entrypoint(entrypoint) => &entrypoint.command,
                Instruction::Cmd(cmd) => &cmd.command,
                Instruction::Healthcheck(Healthcheck::Check(check)) => &check.command,
                _ => continue,
            };
            let shown = match command {
                Command::Shell(text) => text.value.clone(),
                Command::Exec(words) => {
                    format!("{:?}", words.iter().map(|word| word.as_str()).collect::<Vec<_>>())
                }
            };
            let _ = writeln!(out, "  {}: {shown}", node.node.name().to_ascii_lowercase());
        }
    }
    let report = lint(parsed, options);
    out.push_str("\nfindings\n");
    for finding in &report.findings {
        let place = parsed.source.position(finding.diagnostic.range.start);
        let diagnostic = &finding.diagnostic;
        let _ = writeln!(
            out,
            "  {}:{} {} {}: {}",
            place.line,
            place.column,
            diagnostic.severity.name(),
            diagnostic.rule,
            diagnostic.message
        );
    }
    out
}
