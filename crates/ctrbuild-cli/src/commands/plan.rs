//! `ctrbuild plan`: the build graph, without building.

use crate::args::{Global, PlanArgs, PlanFormat, ProgressMode};
use crate::{machine, progress, render};
use ctrbuild::Error;
use std::process::ExitCode;

pub fn run(global: &Global, args: &PlanArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let request = super::build::request(&session, &args.build)?;
    let observer = progress::observer(ProgressMode::Quiet);
    let planned = match super::wait(ctrbuild::plan_only(&session, &request, &*observer)) {
        Ok(Ok(planned)) => planned,
        Ok(Err(code)) => return Ok(code),
        Err(e) => {
            render::failure(&e, Some(&request.recipe));
            return Ok(ExitCode::FAILURE);
        }
    };
    for plan in &planned.plans {
        match args.format {
            PlanFormat::Text => {
                if planned.plans.len() > 1 {
                    println!("{}:", plan.platform);
                }
                print!("{}", graph::to_text(&plan.graph, plan.result));
            }
            PlanFormat::Dot => print!("{}", graph::to_dot(&plan.graph, plan.result)),
            PlanFormat::Json => {
                let value = serde_json::json!({
                    "platform": plan.platform.to_string(),
                    "target": plan.result,
                    "graph": plan.graph,
                    "ids": plan.graph.ids(),
                    "config": plan.config,
                });
                println!("{value:#}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
