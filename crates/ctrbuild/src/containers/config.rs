//! Changes of the configuration that a container will be committed with.

use super::{Container, work};
use crate::{Error, ErrorKind, PullPolicy, Session};
use dockerfile::instruction::Instruction;
use oci::{ImageConfig, Platform};

/// One change. What instructions of recipes can say is an instruction, read by the parser of recipes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// Variables of the container may be in the value: `$NAME`, `${NAME}`.
    Env(String, String),
    NoEnv(String),
    Label(String, String),
    NoLabel(String),
    NoPort(String),
    Volume(String),
    NoVolume(String),
    User(String),
    Author(String),
    WorkingDir(String),
    /// An empty list takes it away.
    Cmd(Vec<String>),
    Entrypoint(Vec<String>),
    Shell(Vec<String>),
    OnBuild(String),
    NoOnBuild,
    NoHealthcheck,
    /// Of the manifest.
    Annotation(String, String),
    NoAnnotation(String),
    /// What the history says that made it; nothing for what was really done.
    CreatedBy(String),
    /// `arm64`, `arm/v7`.
    Arch(String),
    Os(String),
    /// `EXPOSE 80`, `HEALTHCHECK …`: one that changes the configuration only.
    Instruction(String),
}

/// Change a container's configuration.
pub async fn configure(
    session: &Session,
    container: &mut Container,
    changes: &[ConfigChange],
) -> Result<(), Error> {
    let id = container.id().to_string();
    container.facts.config = changed(session, &id, container.facts.config.clone(), changes).await?;
    let facts = &mut container.facts;
    for change in changes {
        match change {
            ConfigChange::Annotation(name, _) if name.is_empty() => {
                return Err(wrong("an annotation needs a name before `=`"));
            }
            ConfigChange::Annotation(name, value) => {
                drop(facts.annotations.insert(name.clone(), value.clone()));
            }
            ConfigChange::NoAnnotation(name) => drop(facts.annotations.remove(name)),
            ConfigChange::CreatedBy(text) => facts.created_by = Some(text.clone()).filter(|t| !t.is_empty()),
            _ => {}
        }
    }
    container.save(&session.store)
}

/// A configuration after instructions that change nothing else, for an image that is no container's.
pub async fn with_instructions(
    session: &Session,
    config: ImageConfig,
    instructions: &[String],
) -> Result<ImageConfig, Error> {
    let changes: Vec<_> = instructions.iter().cloned().map(ConfigChange::Instruction).collect();
    changed(session, "imported", config, &changes).await
}

/// A configuration after changes, in their order.
pub(super) async fn changed(
    session: &Session,
    id: &str,
    mut image: ImageConfig,
    changes: &[ConfigChange],
) -> Result<ImageConfig, Error> {
    let os = image.os.clone();
    for change in changes {
        let config = &mut image.config;
        match change {
            ConfigChange::Env(name, value) => {
                if name.is_empty() {
                    return Err(wrong("a variable needs a name before `=`"));
                }
                let value = expand(value, |name| match config.env(name) {
                    None if name == "PATH" => plan::DEFAULT_PATH.to_string(),
                    found => found.unwrap_or_default().to_string(),
                });
                config.set_env(name, &value, &os);
            }
            ConfigChange::NoEnv(name) => config.env.retain(|e| e.split('=').next() != Some(name)),
            ConfigChange::Label(name, _) if name.is_empty() => {
                return Err(wrong("a label needs a name before `=`"));
            }
            ConfigChange::Label(name, value) => drop(config.labels.insert(name.clone(), value.clone())),
            ConfigChange::NoLabel(name) => drop(config.labels.remove(name)),
            ConfigChange::NoPort(port) => {
                let tcp = format!("{port}/tcp");
                config.exposed_ports.retain(|p| p != port && *p != tcp);
            }
            ConfigChange::Volume(path) if path.is_empty() => return Err(wrong("a volume needs a path")),
            ConfigChange::Volume(path) => drop(config.volumes.insert(path.clone())),
            ConfigChange::NoVolume(path) => drop(config.volumes.remove(path)),
            ConfigChange::User(user) => config.user = user.clone(),
            ConfigChange::Author(author) => image.author = author.clone(),
            ConfigChange::WorkingDir(dir) => {
                let style = plan::path::PathStyle::of(&os);
                config.working_dir = plan::path::workdir(&config.working_dir, dir, style)
                    .map_err(|e| wrong(&format!("working directory {dir:?}: {e}")))?;
            }
            ConfigChange::Cmd(words) => config.cmd = Some(words.clone()).filter(|w| !w.is_empty()),
            // The command was meant for the entry point that was.
            ConfigChange::Entrypoint(words) => {
                config.entrypoint = Some(words.clone()).filter(|w| !w.is_empty());
                if !changes.iter().any(|c| matches!(c, ConfigChange::Cmd(_))) {
                    config.cmd = None;
                }
            }
            ConfigChange::Shell(words) => config.shell = Some(words.clone()).filter(|w| !w.is_empty()),
            ConfigChange::OnBuild(text) => {
                instruction(session, id, &image, &format!("ONBUILD {text}")).await?;
                image.config.on_build.push(text.clone());
            }
            ConfigChange::NoOnBuild => config.on_build.clear(),
            ConfigChange::NoHealthcheck => config.healthcheck = None,
            // Of the container, not of its configuration.
            ConfigChange::Annotation(..) | ConfigChange::NoAnnotation(_) | ConfigChange::CreatedBy(_) => {}
            ConfigChange::Arch(arch) => {
                let platform = platform(&format!("{}/{arch}", image.os), &session.host)?;
                (image.architecture, image.variant) = (platform.architecture, platform.variant);
            }
            ConfigChange::Os(os) => {
                let platform = platform(&format!("{os}/{}", image.architecture), &session.host)?;
                let windows = |os: &str| os == "windows";
                if windows(&platform.os) != windows(&image.os) {
                    return Err(wrong(&format!(
                        "an image of {} can't become one of {}",
                        image.os, platform.os
                    ))
                    .hint("layers of Windows images have a form of their own"));
                }
                image.os = platform.os;
            }
            ConfigChange::Instruction(text) => image = instruction(session, id, &image, text).await?,
        }
    }
    Ok(image)
}

fn platform(text: &str, host: &Platform) -> Result<Platform, Error> {
    Platform::parse(text, host).map_err(|e| wrong(&e.to_string()).hint(e.hint()))
}

fn wrong(message: &str) -> Error {
    Error::new(ErrorKind::Recipe, message)
}

/// Instructions that make no files.
const ONLY_CONFIG: &str = "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, MAINTAINER, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME and WORKDIR";

/// What an instruction makes of a configuration.
async fn instruction(
    session: &Session,
    id: &str,
    image: &ImageConfig,
    text: &str,
) -> Result<ImageConfig, Error> {
    let recipe = work::recipe(text);
    let source = crate::Recipe { name: "-".into(), text: recipe.clone(), path: None };
    let parsed = crate::build::parse(&source).map_err(work::without_lines)?;
    let only = match parsed.recipe.stages.as_slice() {
        [stage] => match stage.instructions.as_slice() {
            [only] if parsed.recipe.meta_args.is_empty() => Some(&only.node),
            _ => None,
        },
        _ => None,
    };
    let refused = match only {
        None => Some(format!("{text:?} is not one instruction")),
        Some(Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) | Instruction::Arg(_)) => {
            Some(format!("{text:?} does more than change the configuration"))
        }
        Some(_) => None,
    };
    if let Some(message) = refused {
        return Err(Error::new(ErrorKind::Recipe, message)
            .hint(format!("{ONLY_CONFIG} can be used; `ctrbuild run` and `ctrbuild copy` change files")));
    }
    let stands = work::stand_in(id, image);
    let request = work::plan_request(session, plan::NetworkDefault::Default, image.platform());
    let plan = work::plan_text(session, &recipe, &request, &stands, PullPolicy::Never).await?;
    let mut new = plan.config;
    // The plan knows neither.
    new.config.on_build = image.config.on_build.iter().cloned().chain(new.config.on_build).collect();
    new.history = image.history.clone();
    new.rootfs = image.rootfs.clone();
    new.created = image.created.clone();
    if image.config.env("PATH").is_none() && !matches!(only, Some(Instruction::Env(_))) {
        new.config.env = image.config.env.clone();
    }
    Ok(new)
}

/// `$NAME` and `${NAME}`; anything else stays as it is.
fn expand(text: &str, value: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let braced = rest.strip_prefix('{').and_then(|r| r.split_once('}'));
        let is_name = |n: &str| {
            n.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
                && n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        match braced {
            Some((name, after)) if is_name(name) => {
                out.push_str(&value(name));
                rest = after;
            }
            _ => {
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
                match is_name(&rest[..end]) {
                    true => out.push_str(&value(&rest[..end])),
                    false => {
                        out.push('$');
                        out.push_str(&rest[..end]);
                    }
                }
                rest = &rest[end..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_name_variables() {
        let value = |name: &str| format!("<{name}>");
        for (text, want) in [
            ("/x:$PATH", "/x:<PATH>"),
            ("${A}b$", "<A>b$"),
            ("$1 $$ ${", "$1 $$ ${"),
            ("${a-b}$c", "${a-b}<c>"),
            ("plain", "plain"),
        ] {
            assert_eq!(expand(text, value), want);
        }
    }
}
