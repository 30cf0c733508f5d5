//! A plan as a text for reviewers: stages, steps with what goes into them, and the image's configuration.
//!
//! The text is stable: it depends on the recipe and the request alone (and on the base images, where they
//! were looked up), never on the machine, and has no line numbers, so that a comment more changes nothing.
//! [`by_name`] answers the planner's questions without asking anybody: a base image is then its name, and
//! what its configuration would add is not there.

use crate::{ImageFact, Plan, Question};
use digest::{DiffId, Digest};
use dockerfile::instruction::{Instruction, Recipe};
use graph::{
    CacheSharing, CopyFrom, ExecMount, ExecOp, FileAction, FileOp, Input, Mode, MountKind, NetworkMode, Op,
    PathSelector, SecurityMode, Selector, SourceOp, Vertex,
};
use oci::{Descriptor, ImageConfig, Platform, Reference};
use std::collections::BTreeMap;
use std::fmt::Write;

/// How base images are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bases {
    /// By what a registry or the store says.
    Resolved,
    /// By their names alone; see [`by_name`].
    ByName,
}

/// An answer that stands for an image nobody was asked about: an empty configuration and one layer. Its
/// digests mean nothing.
pub fn by_name(question: &Question) -> ImageFact {
    let (name, platform): (&str, &Platform) = match question {
        Question::Image { reference, platform } => (reference, platform),
        Question::OciLayout { location, platform } => (location, platform),
    };
    let reference = match name.parse::<Reference>() {
        Ok(reference) => reference.with_default_tag().to_string(),
        Err(_) => name.to_owned(),
    };
    let stand_in = Descriptor::of("application/vnd.oci.image.manifest.v1+json", reference.as_bytes());
    let mut config = ImageConfig::scratch(platform);
    config.rootfs.diff_ids = vec![DiffId(Digest::of(reference.as_bytes()))];
    ImageFact { reference, manifest: stand_in, config, origin: graph::ImageOrigin::Store }
}

/// The text of a plan of `recipe`.
pub fn snapshot(recipe: &Recipe, plan: &Plan, bases: Bases) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "platform: {}", plan.platform);
    if let Some(epoch) = plan.epoch {
        let _ = writeln!(out, "epoch: {epoch}");
    }
    stages(recipe, &mut out);
    out.push_str("\nsteps\n");
    let needed = plan.result.map(|result| plan.graph.reachable(result)).unwrap_or_default();
    let numbers: BTreeMap<u32, usize> =
        needed.iter().zip(1..).map(|(vertex, number)| (vertex.0, number)).collect();
    for vertex in &needed {
        let number = numbers[&vertex.0];
        step(plan.graph.get(*vertex), number, &numbers, bases, &mut out);
    }
    match plan.result.and_then(|result| numbers.get(&result.0)) {
        Some(number) => {
            let _ = writeln!(out, "  result: #{number}");
        }
        None => out.push_str("  (an empty image)\n"),
    }
    out.push_str("\nimage\n");
    let config = serde_json::to_value(&plan.config.config).unwrap_or_default();
    for (name, value) in config.as_object().into_iter().flatten() {
        setting(name, value, &mut out);
    }
    out
}

/// One line; what would break it is escaped.
fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

fn stages(recipe: &Recipe, out: &mut String) {
    out.push_str("\nstages\n");
    for stage in &recipe.stages {
        let _ = write!(out, "  {}", stage.index);
        if let Some(name) = &stage.name {
            let _ = write!(out, " {name}");
        }
        let _ = write!(out, ": {}", line(stage.base()));
        if let Some(platform) = stage.platform() {
            let _ = write!(out, " for {}", line(platform));
        }
        let mut reads: Vec<String> = Vec::new();
        for located in &stage.instructions {
            match &located.node {
                Instruction::Copy(copy) => reads.extend(copy.from.as_ref().map(|from| from.value.clone())),
                Instruction::Run(run) => {
                    reads.extend(
                        run.mounts.iter().filter_map(|mount| crate::stages::mount_from(&mount.value)),
                    );
                }
                _ => {}
            }
        }
        let mut known = std::collections::BTreeSet::new();
        reads.retain(|name| !name.is_empty() && known.insert(name.clone()));
        if !reads.is_empty() {
            let _ = write!(out, " <- {}", line(&reads.join(", ")));
        }
        out.push('\n');
    }
}

fn step(vertex: &Vertex, number: usize, numbers: &BTreeMap<u32, usize>, bases: Bases, out: &mut String) {
    let source = |index: usize| -> String {
        let input = vertex.inputs.get(index);
        input
            .and_then(|input: &Input| numbers.get(&input.edge.vertex.0))
            .map_or_else(|| "nothing".into(), |number| format!("#{number}"))
    };
    let title = match &vertex.op {
        Op::Source(source) => self::source(source, bases),
        _ => line(&vertex.provenance.name),
    };
    let _ = writeln!(out, "  #{number} {title}");
    let mut say = |text: String| {
        let _ = writeln!(out, "     {text}");
    };
    match &vertex.op {
        Op::Source(_) => {}
        Op::Merge => {
            let all: Vec<String> = (0..vertex.inputs.len()).map(source).collect();
            say(format!("layers of {}", all.join(", ")));
        }
        Op::Exec(exec) => {
            if let Some(root) = exec.root {
                say(format!("on {}", source(root)));
            }
            self::exec(exec, &source, &mut say);
        }
        Op::File(file) => {
            if let Some(base) = file.base {
                say(format!("on {}", source(base)));
            }
            self::files(file, &source, &mut say);
        }
    }
    // What a mount reads is told by its input, not by the op.
    for (index, input) in vertex.inputs.iter().enumerate() {
        if let (Selector::Paths(paths), Op::Exec(_)) = (&input.selector, &vertex.op) {
            say(format!("reads {} of {}", selectors(paths), source(index)));
        }
    }
}

fn source(source: &SourceOp, bases: Bases) -> String {
    match source {
        SourceOp::Image(image) => match bases {
            Bases::Resolved => line(&format!("image {} {}", image.reference, image.manifest.digest)),
            Bases::ByName => line(&format!("image {}", image.reference)),
        },
        SourceOp::Local(local) => line(&format!("folder {}", local.name)),
        SourceOp::Http(http) => {
            let checksum = http.checksum.map_or_else(|| "no checksum".into(), |digest| digest.to_string());
            line(&format!("file {} as {} ({checksum})", http.url, http.filename))
        }
        SourceOp::Git(git) => {
            let checksum = git.checksum.as_deref().unwrap_or("no checksum");
            line(&format!("repository {} {} {} ({checksum})", git.remote, git.reference, git.subdir))
        }
    }
}

fn exec(exec: &ExecOp, source: &dyn Fn(usize) -> String, say: &mut dyn FnMut(String)) {
    for (index, arg) in exec.args.iter().enumerate() {
        match arg.contains('\n') {
            true => arg.lines().for_each(|text| say(format!("| {}", line(text)))),
            false => say(format!("{}{}", if index == 0 { "run " } else { "  " }, line(arg))),
        }
    }
    for (name, value) in &exec.env {
        say(line(&format!("env {name}={value}")));
    }
    for (name, value) in [("in", &exec.cwd), ("as", &exec.user)] {
        if !value.is_empty() {
            say(line(&format!("{name} {value}")));
        }
    }
    if let Some(hostname) = &exec.hostname {
        say(line(&format!("hostname {hostname}")));
    }
    match exec.network {
        NetworkMode::Default => {}
        NetworkMode::None => say("network none".into()),
        NetworkMode::Host => say("network host".into()),
    }
    if exec.security == SecurityMode::Insecure {
        say("security insecure".into());
    }
    for one in &exec.mounts {
        say(line(&mount(one, source)));
    }
    for secret in &exec.secret_env {
        let required = if secret.required { ", required" } else { "" };
        say(line(&format!("env {} from secret {}{required}", secret.name, secret.id)));
    }
}

fn mount(mount: &ExecMount, source: &dyn Fn(usize) -> String) -> String {
    let from = |input: &Option<usize>| input.map_or_else(|| "nothing".into(), source);
    let required = |required: &bool| if *required { ", required" } else { "" };
    let what = match &mount.kind {
        MountKind::Bind { input, source } => format!("bind {source} of {}", from(input)),
        MountKind::Cache { id, sharing, input, source, owner } => {
            let sharing = match sharing {
                CacheSharing::Shared => "shared",
                CacheSharing::Private => "private",
                CacheSharing::Locked => "locked",
            };
            let start = input.map(|_| format!(", from {source} of {}", from(input))).unwrap_or_default();
            let owner = owner
                .map(|owner| format!(", {}:{} mode {:o}", owner.uid, owner.gid, owner.mode))
                .unwrap_or_default();
            format!("cache {id}, {sharing}{start}{owner}")
        }
        MountKind::Tmpfs { size } => {
            format!("tmpfs{}", size.map(|size| format!(", {size} bytes")).unwrap_or_default())
        }
        MountKind::Secret { id, required: must, uid, gid, mode } => {
            format!("secret {id}{}, {uid}:{gid} mode {mode:o}", required(must))
        }
        MountKind::Ssh { id, required: must, uid, gid, mode } => {
            format!("ssh {id}{}, {uid}:{gid} mode {mode:o}", required(must))
        }
    };
    format!("mount {}: {what}{}", mount.target, if mount.readonly { ", read-only" } else { "" })
}

fn files(file: &FileOp, source: &dyn Fn(usize) -> String, say: &mut dyn FnMut(String)) {
    for action in &file.actions {
        match action {
            FileAction::Copy(copy) => {
                let from = match &copy.from {
                    CopyFrom::Input { input, selector } => {
                        format!("{} of {}", selectors(std::slice::from_ref(selector)), source(*input))
                    }
                    CopyFrom::Inline { name, data } => format!("{name} ({})", Digest::of(data)),
                };
                let mut text = format!("copy {from} to {}", copy.dest);
                if let Some(owner) = &copy.owner {
                    let _ = write!(text, ", owner {}", owner.0);
                }
                match &copy.mode {
                    Some(Mode::Octal(mode)) => {
                        let _ = write!(text, ", mode {mode:o}");
                    }
                    Some(Mode::Symbolic(mode)) => {
                        let _ = write!(text, ", mode {mode}");
                    }
                    None => {}
                }
                if copy.unpack {
                    text.push_str(", unpacked");
                }
                say(line(&text));
            }
            FileAction::Mkdir(mkdir) => {
                let owner =
                    mkdir.owner.as_ref().map(|owner| format!(", owner {}", owner.0)).unwrap_or_default();
                say(line(&format!("folder {}, mode {:o}{owner}", mkdir.path, mkdir.mode)));
            }
            FileAction::Mkfile(mkfile) => {
                let digest = Digest::of(&mkfile.data);
                say(line(&format!("file {}, mode {:o} ({digest})", mkfile.path, mkfile.mode)));
            }
        }
    }
}

fn selectors(paths: &[PathSelector]) -> String {
    let all = paths.iter().map(|selector| {
        let mut text = selector.path.clone();
        for (word, list) in [("only", &selector.include), ("without", &selector.exclude)] {
            if !list.is_empty() {
                let _ = write!(text, " {word} {}", list.join(" "));
            }
        }
        text
    });
    all.collect::<Vec<_>>().join(", ")
}

/// A field of the configuration; lists one entry a line.
fn setting(name: &str, value: &serde_json::Value, out: &mut String) {
    use serde_json::Value;
    let mut say = |text: String| {
        let _ = writeln!(out, "  {}", line(&text));
    };
    match value {
        Value::Array(all) if name == "Env" || name == "OnBuild" => {
            all.iter().for_each(|one| say(format!("{name}: {}", one.as_str().unwrap_or_default())));
        }
        Value::Object(map) => map.iter().for_each(|(key, value)| match value {
            Value::Object(inner) if inner.is_empty() => say(format!("{name}: {key}")),
            value => say(format!("{name}: {key}={value}")),
        }),
        Value::String(text) => say(format!("{name}: {text}")),
        value => say(format!("{name}: {value}")),
    }
}
