//! `ctrbuild config`: what a working container is committed with.

use super::{build, working};
use crate::args::{ConfigArgs, Global};
use crate::machine;
use ctrbuild::Error;
use ctrbuild::containers::{self, ConfigChange};
use std::process::ExitCode;

pub fn run(global: &Global, args: &ConfigArgs) -> Result<ExitCode, Error> {
    let changes = changes(args)?;
    if changes.is_empty() {
        return Err(
            build::usage("there is nothing to change").hint("`ctrbuild help config` lists what can be")
        );
    }
    let session = machine::session(global)?;
    let observer = working::observer();
    super::wait_or_exit(async {
        let mut container = containers::open(&session, &args.container, &*observer).await?;
        containers::configure(&session, &mut container, &changes).await?;
        Ok(ExitCode::SUCCESS)
    })
}

fn changes(args: &ConfigArgs) -> Result<Vec<ConfigChange>, Error> {
    use ConfigChange::*;
    let mut out = Vec::new();
    let pair = |text: &str, what: &str| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_string(), value.to_string())),
        None => Err(build::usage(format!("--{what} {text:?} is not NAME=VALUE"))
            .hint(format!("`--{what} {text}-` takes it away"))),
    };
    for text in &args.env {
        match without(text).filter(|name| !name.contains('=')) {
            Some(name) => out.push(NoEnv(name)),
            None => out.push(pair(text, "env").map(|(n, v)| Env(n, v))?),
        }
    }
    for text in &args.label {
        match without(text).filter(|name| !name.contains('=')) {
            Some(name) => out.push(NoLabel(name)),
            None => out.push(pair(text, "label").map(|(n, v)| Label(n, v))?),
        }
    }
    for text in &args.annotation {
        match without(text).filter(|name| !name.contains('=')) {
            Some(name) => out.push(NoAnnotation(name)),
            None => out.push(pair(text, "annotation").map(|(n, v)| Annotation(n, v))?),
        }
    }
    out.extend(args.os.clone().map(Os));
    out.extend(args.arch.clone().map(Arch));
    out.extend(args.created_by.clone().map(CreatedBy));
    for port in &args.port {
        out.push(match without(port) {
            Some(port) => NoPort(port),
            None => Instruction(format!("EXPOSE {}", one_line("port", port)?)),
        });
    }
    out.extend(args.volume.iter().map(|path| without(path).map_or_else(|| Volume(path.clone()), NoVolume)));
    out.extend(args.author.clone().map(Author));
    out.extend(args.user.clone().map(User));
    out.extend(args.workingdir.clone().map(WorkingDir));
    if let Some(shell) = &args.shell {
        out.push(Shell(working::words(shell)?));
    }
    if let Some(text) = &args.entrypoint {
        out.push(Entrypoint(match text.trim_start() {
            "" => Vec::new(),
            list if list.starts_with('[') => working::words(list)?,
            // As buildah: text is for the shell.
            _ => vec!["/bin/sh".into(), "-c".into(), text.clone()],
        }));
    }
    if let Some(text) = &args.cmd {
        out.push(Cmd(working::words(text)?));
    }
    if let Some(signal) = &args.stop_signal {
        out.push(Instruction(format!("STOPSIGNAL {}", one_line("stop-signal", signal)?)));
    }
    if let Some(text) = &args.healthcheck {
        out.push(match text.trim() {
            "" | "none" | "NONE" => match text.trim() {
                "" => NoHealthcheck,
                _ => Instruction("HEALTHCHECK NONE".into()),
            },
            text => Instruction(healthcheck(args, one_line("healthcheck", text)?)?),
        });
    }
    for text in &args.onbuild {
        out.push(match text.as_str() {
            "-" | "" => NoOnBuild,
            text => OnBuild(one_line("onbuild", text)?.to_string()),
        });
    }
    Ok(out)
}

fn healthcheck(args: &ConfigArgs, text: &str) -> Result<String, Error> {
    let mut line = String::from("HEALTHCHECK");
    for (name, value) in [
        ("interval", &args.healthcheck_interval),
        ("timeout", &args.healthcheck_timeout),
        ("start-period", &args.healthcheck_start_period),
        ("retries", &args.healthcheck_retries),
    ] {
        if let Some(value) = value {
            if value.chars().any(char::is_whitespace) {
                return Err(build::usage(format!("--healthcheck-{name} {value:?} has blanks")));
            }
            line.push_str(&format!(" --{name}={value}"));
        }
    }
    // Docker's own words for the two forms.
    let command = match text.split_once(char::is_whitespace) {
        Some(("CMD-SHELL" | "CMD", rest)) => rest.trim_start(),
        _ => text,
    };
    Ok(format!("{line} CMD {command}"))
}

/// The name before a `-` at the end.
fn without(text: &str) -> Option<String> {
    text.strip_suffix('-').filter(|name| !name.is_empty()).map(str::to_string)
}

fn one_line<'t>(option: &str, text: &'t str) -> Result<&'t str, Error> {
    match text.contains(['\n', '\r', '\0']) || text.trim_end().ends_with('\\') || text.trim().is_empty() {
        true => Err(build::usage(format!("--{option} {text:?} is not one line"))),
        false => Ok(text.trim()),
    }
}
