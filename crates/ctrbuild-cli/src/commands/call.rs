//! `ctrbuild build --call`: what a recipe offers, without building it.

use crate::args::BuildArgs;
use crate::table;
use ctrbuild::{Error, ErrorKind, Recipe};
use diagnostic::{escape_json, sanitize};
use dockerfile::instruction::{Instruction, Mount, MountType, Stage, doc_comment};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

/// What `--call` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Build,
    Check,
    Outline,
    Targets,
    Describe,
}

impl Call {
    /// `build`, `check`, `outline`, `targets`, `describe` (or `subrequests.describe`), perhaps with
    /// `,format=json`.
    pub fn parse(text: &str) -> Result<(Call, Format), Error> {
        let (name, options) = text.split_once(',').unwrap_or((text, ""));
        let call = match name {
            "build" | "" => Call::Build,
            "check" | "lint" => Call::Check,
            "outline" => Call::Outline,
            "targets" => Call::Targets,
            "describe" | "subrequests.describe" => Call::Describe,
            other => {
                return Err(Error::new(ErrorKind::Recipe, format!("--call {other:?} is not known"))
                    .hint("build, check, outline, targets or describe"));
            }
        };
        let format = match options {
            "" | "format=text" => Format::Text,
            "format=json" => Format::Json,
            other => return Err(Error::new(ErrorKind::Recipe, format!("--call: {other:?} is not known"))),
        };
        Ok((call, format))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

/// Answer everything but `build` and `check`.
pub fn run(call: Call, format: Format, args: &BuildArgs, recipe: &Recipe) -> Result<ExitCode, Error> {
    let parsed = dockerfile::parse(diagnostic::SourceFile::new(recipe.name.clone(), recipe.text.clone()));
    if let Some(e) = parsed.first_error() {
        let mut error = Error::new(ErrorKind::Recipe, e.buildkit_message()).maybe_hint(e.kind.hint());
        error.lines.push(e.lines);
        crate::render::failure(&error, Some(recipe));
        return Ok(ExitCode::FAILURE);
    }
    match call {
        Call::Targets => targets(&parsed.recipe.stages, format),
        Call::Outline => outline(&parsed.recipe, args, format)?,
        _ => describe(format),
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(format: Format) {
    let methods = [
        ("check", "Check the recipe for violations of the build checks"),
        ("outline", "List what the target takes: build arguments, secrets, ssh agents"),
        ("targets", "List the stages that can be built"),
        ("describe", "List what --call can ask for"),
    ];
    match format {
        Format::Json => {
            let list: Vec<_> =
                methods.iter().map(|(n, d)| serde_json::json!({"name": n, "description": d})).collect();
            println!("{:#}", serde_json::Value::Array(list));
        }
        Format::Text => {
            let mut rows = vec![vec!["NAME".to_string(), "DESCRIPTION".to_string()]];
            rows.extend(methods.iter().map(|(n, d)| vec![n.to_string(), d.to_string()]));
            print!("{}", table::render(&rows));
        }
    }
}

fn targets(stages: &[Stage], format: Format) {
    let last = stages.len().saturating_sub(1);
    if format == Format::Json {
        let list: Vec<_> = stages
            .iter()
            .map(|s| {
                serde_json::json!({"name": s.name, "default": s.index == last, "description": s.doc(),
                    "base": s.base(), "platform": s.platform(), "line": s.from.lines.first})
            })
            .collect();
        println!("{}", escape_json(&format!("{:#}", serde_json::json!({"targets": list}))));
        return;
    }
    let mut rows = vec![vec!["TARGET".to_string(), "DESCRIPTION".to_string()]];
    for stage in stages {
        let name = match (&stage.name, stage.index == last) {
            (Some(name), true) => format!("{name} (default)"),
            (Some(name), false) => name.clone(),
            (None, true) => "(default)".to_string(),
            // A stage without a name can't be asked for.
            (None, false) => continue,
        };
        rows.push(vec![name, sanitize(stage.doc().unwrap_or_default()).into_owned()]);
    }
    print!("{}", table::render(&rows));
}

/// The stages that one needs, itself first.
fn needed(stages: &[Stage], target: usize) -> Vec<&Stage> {
    let by_name = |name: &str, before: usize| {
        let found =
            stages.iter().filter(|s| s.name.as_deref() == Some(&*name.to_lowercase())).map(|s| s.index);
        found.rev().find(|i| *i < before).or_else(|| name.parse::<usize>().ok().filter(|i| *i < before))
    };
    let mut seen = BTreeSet::new();
    let mut order = Vec::new();
    let mut todo = vec![target];
    while let Some(index) = todo.pop() {
        if !seen.insert(index) {
            continue;
        }
        let stage = &stages[index];
        order.push(stage);
        todo.extend(by_name(stage.base(), index));
        for i in &stage.instructions {
            match &i.node {
                Instruction::Copy(copy) => {
                    todo.extend(copy.from.as_ref().and_then(|f| by_name(&f.value, stages.len())));
                }
                Instruction::Run(run) => {
                    let from = run.mounts.iter().filter_map(|m| plain_mount(&m.value)).map(|m| m.from);
                    todo.extend(from.filter_map(|f| by_name(&f, stages.len())));
                }
                _ => {}
            }
        }
    }
    order
}

/// A mount whose variables stay as they are written.
fn plain_mount(text: &str) -> Option<Mount> {
    Mount::parse(text, |word| Ok::<_, dockerfile::instruction::MountError>(word.to_string())).ok()
}

fn outline(recipe: &dockerfile::instruction::Recipe, args: &BuildArgs, format: Format) -> Result<(), Error> {
    let stages = &recipe.stages;
    let target = match args.target.as_deref().filter(|t| !t.is_empty()) {
        None => stages.len() - 1,
        Some(name) => {
            stages.iter().rposition(|s| s.name.as_deref() == Some(&*name.to_lowercase())).ok_or_else(
                || Error::new(ErrorKind::Recipe, format!("target stage {name:?} could not be found")),
            )?
        }
    };
    let given = super::build::pairs(&args.build_args, "build-arg")?;
    let mut globals: BTreeMap<&str, (Option<&str>, Option<&str>)> = BTreeMap::new();
    for arg in &recipe.meta_args {
        for pair in &arg.node.args {
            let doc = pair.doc.as_deref().or_else(|| doc_comment(&arg.comments, &pair.key));
            globals.insert(&pair.key, (pair.value.as_deref(), doc));
        }
    }
    let mut build_args: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut secrets: BTreeMap<String, bool> = BTreeMap::new();
    let mut agents: BTreeMap<String, bool> = BTreeMap::new();
    let mut note = |name: &str, value: Option<&str>, doc: Option<&str>| {
        let (global_value, global_doc) = globals.get(name).copied().unwrap_or_default();
        let value = given.get(name).map(String::as_str).or(value).or(global_value).unwrap_or_default();
        let doc = doc.or(global_doc).unwrap_or_default();
        build_args.entry(name.to_string()).or_insert_with(|| (value.to_string(), doc.to_string()));
    };
    for stage in needed(stages, target) {
        for name in globals
            .keys()
            .filter(|n| stage.base().contains(&format!("${n}")) || stage.base().contains(&format!("${{{n}")))
        {
            note(name, None, None);
        }
        for i in &stage.instructions {
            match &i.node {
                Instruction::Arg(arg) => {
                    for pair in &arg.args {
                        let doc = pair.doc.as_deref().or_else(|| doc_comment(&i.comments, &pair.key));
                        note(&pair.key, pair.value.as_deref(), doc);
                    }
                }
                Instruction::Run(run) => {
                    for mount in run.mounts.iter().filter_map(|m| plain_mount(&m.value)) {
                        let id = [&mount.id, &mount.source].into_iter().find(|s| !s.is_empty()).cloned();
                        let base = |path: &str| path.rsplit('/').next().unwrap_or_default().to_string();
                        match mount.kind {
                            MountType::Secret => {
                                *secrets.entry(id.unwrap_or_else(|| base(&mount.target))).or_default() |=
                                    mount.required;
                            }
                            MountType::Ssh => {
                                *agents.entry(id.unwrap_or_else(|| "default".into())).or_default() |=
                                    mount.required;
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
    }
    let stage = &stages[target];
    if format == Format::Json {
        let named = |m: &BTreeMap<String, bool>| {
            m.iter().map(|(n, r)| serde_json::json!({"name": n, "required": r})).collect::<Vec<_>>()
        };
        let list: Vec<_> = build_args
            .iter()
            .map(|(n, (v, d))| serde_json::json!({"name": n, "value": v, "description": d}))
            .collect();
        let value = serde_json::json!({"name": stage.name, "description": stage.doc(), "args": list,
                "secrets": named(&secrets), "ssh": named(&agents)});
        println!("{}", escape_json(&format!("{value:#}")));
        return Ok(());
    }
    println!("TARGET:      {}", stage.name.as_deref().unwrap_or("(default)"));
    if let Some(doc) = stage.doc() {
        println!("DESCRIPTION: {}", sanitize(doc));
    }
    if !build_args.is_empty() {
        let mut rows = vec![["BUILD ARG", "VALUE", "DESCRIPTION"].map(str::to_string).to_vec()];
        rows.extend(
            build_args
                .iter()
                .map(|(n, (v, d))| vec![n.clone(), sanitize(v).into_owned(), sanitize(d).into_owned()]),
        );
        print!("\n{}", table::render(&rows));
    }
    for (title, list) in [("SECRET", &secrets), ("SSH", &agents)] {
        if !list.is_empty() {
            let mut rows = vec![vec![title.to_string(), "REQUIRED".to_string()]];
            rows.extend(
                list.iter().map(|(n, r)| vec![n.clone(), if *r { "true".into() } else { String::new() }]),
            );
            print!("\n{}", table::render(&rows));
        }
    }
    Ok(())
}
