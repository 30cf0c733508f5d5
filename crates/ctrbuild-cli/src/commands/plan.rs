//! `ctrbuild plan`: the build graph, without building.

use super::reviewed::{Review, settle};
use crate::args::{Global, PlanArgs, PlanFormat, ProgressMode};
use crate::{machine, progress, render};
use ctrbuild::Error;
use diagnostic::{escape_json, sanitize_lines};
use plan::snapshot::{Bases, snapshot};
use std::process::ExitCode;

/// Of snapshots whose caller names no platform: one and the same on every machine.
const SNAPSHOT_PLATFORM: (&str, &str) = ("linux", "amd64");

pub fn run(global: &Global, args: &PlanArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let mut request = super::build::request(&session, &args.build)?;
    let bases = if args.snapshot && !args.resolve { Bases::ByName } else { Bases::Resolved };
    if args.snapshot {
        let platform = oci::Platform::new(SNAPSHOT_PLATFORM.0, SNAPSHOT_PLATFORM.1);
        if request.platforms.is_empty() {
            request.platforms.push(platform.clone());
        }
        request.plan.build_platform = platform;
    }
    let observer = progress::observer(ProgressMode::Quiet);
    let planned = match super::wait(ctrbuild::plan_only(&session, &request, bases, &*observer)) {
        Ok(Ok(planned)) => planned,
        Ok(Err(code)) => return Ok(code),
        Err(e) => {
            render::failure(&e, Some(&request.recipe));
            return Ok(ExitCode::FAILURE);
        }
    };
    if args.snapshot {
        let source = diagnostic::SourceFile::new(request.recipe.name.clone(), request.recipe.text.clone());
        let recipe = dockerfile::parse(source).recipe;
        let mut text = String::from("# ctrbuild plan snapshot v1\n");
        for plan in &planned.plans {
            text.push('\n');
            text.push_str(&snapshot(&recipe, plan, bases));
        }
        let Some(path) = &request.recipe.path else {
            print!("{text}");
            return Ok(ExitCode::SUCCESS);
        };
        let drifted = settle(path, "plan.snap", &text, Review::of(args.accept, args.build.check))?;
        return Ok(if drifted { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    for plan in &planned.plans {
        match args.format {
            PlanFormat::Text => {
                if planned.plans.len() > 1 {
                    println!("{}:", plan.platform);
                }
                print!("{}", sanitize_lines(&graph::to_text(&plan.graph, plan.result)));
            }
            PlanFormat::Dot => print!("{}", sanitize_lines(&graph::to_dot(&plan.graph, plan.result))),
            PlanFormat::Json => {
                let value = serde_json::json!({
                    "platform": plan.platform.to_string(),
                    "target": plan.result,
                    "graph": plan.graph,
                    "ids": plan.graph.ids(),
                    "config": plan.config,
                });
                println!("{}", escape_json(&format!("{value:#}")));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
