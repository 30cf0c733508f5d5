//! Dependencies should be installed before all files are copied.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "copy-before-install",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Info,
    default: Default::On,
    summary: "Dependencies should be installed before all files are copied",
    why: "Any change of any file runs the installation again. Copy the list of dependencies, install, then copy the rest.",
    bad: r#"FROM node:22
WORKDIR /app
COPY . .
RUN npm ci
"#,
    good: r#"FROM node:22
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci
COPY . .
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for stage in cx.stages() {
        let mut all: Option<TextRange> = None;
        for node in cx.of_stage(stage.index).filter(|node| !node.onbuild) {
            match node.instruction {
                Instruction::Copy(copy) if copy.from.is_none() && all.is_none() => {
                    let whole = copy
                        .transfer
                        .sources
                        .iter()
                        .find(|source| matches!(source.as_str(), "." | "./" | "*"));
                    all = whole.map(|source| source.range);
                }
                Instruction::Run(_) => {
                    let Some(copied) = all else { continue };
                    let Some((_, script)) = node.run() else { continue };
                    if let Some(call) = script.calls.iter().find(|call| installs(call)) {
                        out.report(node.place(call.span), "any change of a file runs this again")
                            .label(copied, "everything is copied here");
                        break;
                    }
                }
                _ => {}
            }
        }
    }
}

fn installs(call: &Call) -> bool {
    match call.name.as_str() {
        "npm" => call.has_any(&["ci"]) || (call.has_any(&["install", "i"]) && call.operands(&[]).len() == 1),
        "yarn" => call.args.is_empty() || call.has_any(&["install"]),
        "pnpm" => call.has_any(&["install", "i"]),
        "bundle" | "composer" | "poetry" => call.has_any(&["install"]),
        "go" => call.has_sequence(&["mod", "download"]),
        "cargo" => call.has_any(&["fetch"]),
        "dotnet" => call.has_any(&["restore"]),
        _ => call.is_pip_install() && call.has_any(&["-r", "--requirement"]),
    }
}
