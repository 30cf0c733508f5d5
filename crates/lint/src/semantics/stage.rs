//! Stages one by one: bases, dependencies, then every instruction.

use super::{Base, Check, Env, Place, StageFacts, State, Step, Walk, is_reference, nearest, steps};
use crate::secrets;
use diagnostic::TextRange;
use dockerfile::port::PortWord;
use dockerfile::word::{Expansion, Lexer};
use dockerfile::{Command, Instruction, Mount, MountError, PairForm, Stage, Word};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The path every Linux image has if it sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Names that are set for a scanner and are no variables.
const NO_VARIABLES: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Most variables, counted once for each instruction, that are remembered.
const MAX_KEPT: usize = 500_000;

/// The last of each instruction that may be given once a stage.
#[derive(Default)]
struct Once {
    cmd: Option<Place>,
    entrypoint: Option<Place>,
    healthcheck: Option<Place>,
}

impl<'a> Walk<'a> {
    pub(super) fn stages(&mut self) {
        let stages = &self.parsed.recipe.stages;
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        let mut bases = Vec::with_capacity(stages.len());
        for (index, stage) in stages.iter().enumerate() {
            bases.push(self.base(stage, &names));
            if let Some(name) = &stage.name {
                names.insert(name.clone(), index);
            }
        }
        let reads = self.dependencies(&names);
        for (stage, base) in stages.iter().zip(&bases) {
            if let Base::Image(image) = base
                && !is_reference(image)
            {
                let message = format!("failed to parse stage name {image:?}");
                self.stop(stage.from.range, message, stage.base().contains('$'));
            }
        }
        for ((index, stage), (base, reads)) in stages.iter().enumerate().zip(bases.into_iter().zip(reads)) {
            let facts = self.stage(index, stage, base, reads, &names);
            self.out.stages.push(facts);
        }
    }

    fn base(&mut self, stage: &'a Stage, names: &BTreeMap<String, usize>) -> Base {
        let globals = std::mem::take(&mut self.out.globals);
        let place = Place::from(&stage.from);
        let result = self.lexer.expand(stage.base(), &globals);
        let base = match &result {
            Ok(expansion) => {
                self.undeclared(expansion, place, stage.from.node.base.range, &globals);
                if expansion.text.is_empty() {
                    self.stop(place.range, format!("base name ({}) should not be blank", stage.base()), true);
                }
                match names.get(&expansion.text) {
                    Some(index) => Base::Stage(*index),
                    None if expansion.text == "scratch" => Base::Scratch,
                    None => Base::Image(expansion.text.clone()),
                }
            }
            Err(error) => {
                self.stop(stage.from.node.base.range, error.to_string(), false);
                Base::Image(stage.base().to_owned())
            }
        };
        if let Some(word) = stage.from.node.platform.as_ref().filter(|word| !word.value.is_empty()) {
            self.platform(stage, word, place, &globals);
        }
        self.out.globals = globals;
        base
    }

    fn undeclared(&mut self, expansion: &Expansion, place: Place, range: TextRange, globals: &Env) {
        let parsed = self.parsed;
        let declared: BTreeSet<&str> = globals
            .0
            .keys()
            .map(String::as_str)
            .chain(parsed.recipe.meta_args.iter().flat_map(|arg| &arg.node.args).map(|arg| arg.key.as_str()))
            .collect();
        for name in expansion.unset.iter().filter(|name| !declared.contains(name.as_str())) {
            let message = match nearest(name, declared.iter().copied()) {
                Some(other) => format!("ARG {name:?} is not declared before FROM (did you mean {other}?)"),
                None => format!("ARG {name:?} is not declared before FROM"),
            };
            self.report(Check::UndefinedArgInFrom, place, Some(place.line), range, message);
        }
    }

    fn platform(&mut self, stage: &'a Stage, word: &Word, place: Place, globals: &Env) {
        let scope = Some(place.line);
        let expansion = match self.lexer.expand(&word.value, globals) {
            Ok(expansion) => expansion,
            Err(error) => return self.stop(word.range, error.to_string(), false),
        };
        self.undeclared(&expansion, place, word.range, globals);
        let target = globals.0.get("TARGETPLATFORM");
        if expansion.used.len() == 1
            && expansion.unset.is_empty()
            && expansion.used.contains("TARGETPLATFORM")
            && Some(&expansion.text) == target
        {
            let message = format!("--platform={} is the default", word.value);
            self.report(Check::RedundantTargetPlatform, place, scope, word.range, message);
        }
        let platform = oci::Platform::parse(&expansion.text, self.facts.platform);
        if let Ok(platform) = &platform
            && expansion.used.is_empty()
            && expansion.unset.is_empty()
        {
            let name = stage.name.as_deref().unwrap_or_default();
            if !name.contains(platform.os.as_str()) && !name.contains(platform.architecture.as_str()) {
                let message = format!("--platform should not have the constant value {:?}", expansion.text);
                self.report(Check::FromPlatformFlagConstDisallowed, place, scope, word.range, message);
            }
        }
        if expansion.text.is_empty() {
            self.stop(word.range, format!("empty platform value from expression {}", word.value), false);
        } else if let Err(error) = platform {
            self.stop(word.range, format!("failed to parse platform {}: {error}", word.value), false);
        }
    }

    /// Which stages each stage takes files from; what can't be taken from anywhere stops the build.
    fn dependencies(&mut self, names: &BTreeMap<String, usize>) -> Vec<BTreeSet<usize>> {
        let stages = &self.parsed.recipe.stages;
        let count = stages.len();
        let mut all = Vec::with_capacity(count);
        let mut images: Vec<(TextRange, String)> = Vec::new();
        for stage in stages {
            let mut reads = BTreeSet::new();
            for node in &stage.instructions {
                match &node.node {
                    Instruction::Copy(copy) => {
                        let Some(from) = copy.from.as_ref().filter(|from| !from.value.is_empty()) else {
                            continue;
                        };
                        match self.lexer.expand(&from.value, &dockerfile::word::NoVariables) {
                            Ok(expansion) if expansion.text == from.value => {}
                            Ok(_) => self.stop(
                                from.range,
                                "variable expansion is not supported for --from".into(),
                                false,
                            ),
                            Err(error) => self.stop(from.range, error.to_string(), false),
                        }
                        match (from.value.parse::<i64>(), names.get(&from.value.to_lowercase())) {
                            (Ok(index), _) => {
                                match usize::try_from(index).ok().filter(|index| *index < count) {
                                    Some(index) => {
                                        reads.insert(index);
                                    }
                                    None => {
                                        self.stop(from.range, format!("invalid stage index {index}"), false)
                                    }
                                }
                            }
                            (_, Some(index)) => {
                                reads.insert(*index);
                            }
                            (_, None) => images.push((from.range, from.value.clone())),
                        }
                    }
                    Instruction::Run(run) => {
                        for word in &run.mounts {
                            let Ok(mount) =
                                Mount::parse::<MountError>(&word.value, |text| Ok(text.to_owned()))
                            else {
                                continue;
                            };
                            if mount.from.is_empty() {
                                continue;
                            }
                            match names.get(&mount.from.to_lowercase()) {
                                Some(index) => {
                                    reads.insert(*index);
                                }
                                None => images.push((word.range, mount.from.clone())),
                            }
                        }
                    }
                    _ => {}
                }
            }
            all.push(reads);
        }
        if let Some(stage) = first_in_circle(&all).and_then(|index| stages.get(index)) {
            let message = format!("circular dependency detected on stage: {}", stage.index);
            self.stop(stage.from.range, message, false);
        }
        for (range, image) in images {
            if image != "scratch" && !is_reference(&image) {
                self.stop(range, format!("failed to parse stage name {image:?}"), false);
            }
        }
        all
    }

    fn stage(
        &mut self,
        index: usize,
        stage: &'a Stage,
        base: Base,
        reads: BTreeSet<usize>,
        names: &BTreeMap<String, usize>,
    ) -> StageFacts {
        let mut state = match &base {
            Base::Stage(base) => {
                self.out.stages.get(*base).map(|facts| facts.end.clone()).unwrap_or_default()
            }
            _ => State::default(),
        };
        let linux = self.facts.platform.os != "windows";
        if linux && !state.image_env.0.contains_key("PATH") {
            Rc::make_mut(&mut state.image_env).0.insert("PATH".into(), DEFAULT_PATH.into());
        }
        let image_env = state.image_env.clone();
        Rc::make_mut(&mut state.env)
            .0
            .extend(image_env.0.iter().map(|(key, value)| (key.clone(), value.clone())));
        let base_stage = match &base {
            Base::Stage(base) => self.parsed.recipe.stages.get(*base),
            _ => None,
        };
        let mut once = Once::default();
        let mut before = Vec::with_capacity(stage.instructions.len());
        for step in steps(stage, base_stage) {
            if step.index.is_some() {
                before.push(self.keep(&state, before.last()));
            }
            self.step(index, &step, &mut state, &mut once, names);
        }
        StageFacts { base, before, end: state, reads }
    }

    /// What is set here, or what was set where remembering became too much: each change of a remembered set
    /// of variables copies it.
    fn keep(&mut self, state: &State, last: Option<&State>) -> State {
        self.kept += state.env.0.len() + state.image_env.0.len() + 1;
        match self.kept <= MAX_KEPT {
            true => state.clone(),
            false => last.cloned().unwrap_or_default(),
        }
    }

    /// Expands a word as BuildKit does, and reports variables that do not exist.
    fn expand(
        &mut self,
        lexer: Lexer,
        text: &str,
        range: TextRange,
        step: &Step<'a>,
        state: &State,
    ) -> Option<String> {
        match lexer.expand(text, &*state.env) {
            Ok(expansion) => {
                for name in &expansion.unset {
                    if state.args.contains(name) || NO_VARIABLES.contains(&name.as_str()) {
                        continue;
                    }
                    let message = match nearest(name, state.env.0.keys().map(String::as_str)) {
                        Some(other) => format!("variable ${name} is not defined (did you mean ${other}?)"),
                        None => format!("variable ${name} is not defined"),
                    };
                    self.report(Check::UndefinedVar, step.place, Some(step.place.line), range, message);
                }
                Some(expansion.text)
            }
            Err(error) => {
                self.stop(range, error.to_string(), false);
                None
            }
        }
    }

    fn word(&mut self, word: &Word, step: &Step<'a>, state: &State) -> Option<String> {
        self.expand(self.lexer, &word.value, word.range, step, state)
    }

    fn used_once(&mut self, name: &str, step: &Step<'a>, last: &mut Option<Place>) {
        if let Some(first) = last.replace(step.place) {
            let message = format!("only the last {name} of a stage counts");
            self.report(
                Check::MultipleInstructionsDisallowed,
                first,
                Some(step.place.line),
                first.keyword,
                message,
            );
        }
    }

    fn step(
        &mut self,
        index: usize,
        step: &Step<'a>,
        state: &mut State,
        once: &mut Once,
        names: &BTreeMap<String, usize>,
    ) {
        let scope = Some(step.place.line);
        match step.instruction {
            Instruction::Maintainer(_) | Instruction::Onbuild(_) => {}
            Instruction::Arg(arg) => {
                for arg in &arg.args {
                    self.secret("ARG", &arg.key, arg.range, step);
                    let value = match &arg.value {
                        Some(value) => match self.expand(self.lexer, value, arg.range, step, state) {
                            Some(value) => Some(value),
                            None => continue,
                        },
                        None => self.out.globals.0.get(&arg.key).cloned(),
                    };
                    if let Some(value) = value
                        && !NO_VARIABLES.contains(&arg.key.as_str())
                    {
                        Rc::make_mut(&mut state.env).0.insert(arg.key.clone(), value);
                    }
                    Rc::make_mut(&mut state.args).insert(arg.key.clone());
                }
            }
            Instruction::Env(env) => {
                let mut set = Vec::new();
                for pair in &env.pairs {
                    let key = self.expand(self.lexer, &pair.key, pair.range, step, state);
                    let value = self.expand(self.lexer, &pair.value, pair.range, step, state);
                    if let (Some(key), Some(value)) = (key, value) {
                        set.push((pair, key, value));
                    }
                }
                for (pair, key, value) in set {
                    if pair.form == PairForm::Blank {
                        let message =
                            "ENV key=value should be used instead of the legacy ENV key value".to_owned();
                        self.report(Check::LegacyKeyValueFormat, step.place, scope, pair.range, message);
                    }
                    self.secret("ENV", &key, pair.range, step);
                    Rc::make_mut(&mut state.env).0.insert(key.clone(), value.clone());
                    Rc::make_mut(&mut state.image_env).0.insert(key, value);
                }
            }
            Instruction::Label(label) => {
                for pair in &label.pairs {
                    self.expand(self.lexer, &pair.key, pair.range, step, state);
                    self.expand(self.lexer, &pair.value, pair.range, step, state);
                }
                for pair in label.pairs.iter().filter(|pair| pair.form == PairForm::Blank) {
                    let message =
                        "LABEL key=value should be used instead of the legacy LABEL key value".to_owned();
                    self.report(Check::LegacyKeyValueFormat, step.place, scope, pair.range, message);
                }
            }
            Instruction::Add(add) => {
                let flags: Vec<&Word> = add.chown.iter().chain(&add.chmod).chain(&add.checksum).collect();
                if let Some(checksum) = &add.checksum
                    && (add.transfer.sources.len() != 1
                        || !add
                            .transfer
                            .sources
                            .iter()
                            .all(|source| is_remote(&source.value) || source.value.contains('$')))
                {
                    self.stop(checksum.range, "--checksum needs one remote source".into(), false);
                }
                self.transfer(flags, &add.transfer, step, state, Some("ADD"));
                self.mode(add.chmod.as_ref(), state);
            }
            Instruction::Copy(copy) => {
                let flags: Vec<&Word> = copy.chown.iter().chain(&copy.chmod).collect();
                let from_context = copy.from.as_ref().is_none_or(|from| from.value.is_empty());
                self.transfer(flags, &copy.transfer, step, state, from_context.then_some("COPY"));
                self.mode(copy.chmod.as_ref(), state);
                if let Some(from) = copy.from.as_ref().filter(|from| !from.value.is_empty()) {
                    let known = match from.value.parse::<usize>() {
                        Ok(index) => Some(index),
                        Err(_) => names.get(&from.value.to_lowercase()).copied(),
                    };
                    if known.is_some_and(|stage| stage >= index) {
                        let message =
                            format!("cannot copy from stage {:?}, it needs to be defined before", from.value);
                        self.stop(from.range, message, false);
                    }
                }
            }
            Instruction::Run(run) => {
                for word in &run.mounts {
                    let mut words = Vec::new();
                    let result = Mount::parse::<MountError>(&word.value, |text| {
                        words.push(text.to_owned());
                        Ok(self
                            .lexer
                            .expand(text, &*state.env)
                            .map(|expansion| expansion.text)
                            .unwrap_or_default())
                    });
                    for text in words {
                        self.expand(self.lexer, &text, word.range, step, state);
                    }
                    match result {
                        Ok(mount) => {
                            let stage = names.get(&mount.from.to_lowercase());
                            if !mount.from.is_empty() && stage.is_some_and(|stage| *stage >= index) {
                                let message = format!(
                                    "cannot mount from stage {:?}, it needs to be defined before",
                                    mount.from
                                );
                                self.stop(word.range, message, false);
                            }
                        }
                        Err(error) => self.stop(word.range, error.to_string(), false),
                    }
                }
            }
            Instruction::Cmd(cmd) => {
                self.used_once("CMD", step, &mut once.cmd);
                self.json_wanted("CMD", &cmd.command, step, state);
            }
            Instruction::Entrypoint(entrypoint) => {
                self.used_once("ENTRYPOINT", step, &mut once.entrypoint);
                self.json_wanted("ENTRYPOINT", &entrypoint.command, step, state);
            }
            Instruction::Healthcheck(_) => self.used_once("HEALTHCHECK", step, &mut once.healthcheck),
            Instruction::Expose(expose) => {
                for word in &expose.ports {
                    let Ok(words) = self.lexer.words(&word.value, &*state.env) else {
                        self.stop(word.range, format!("failed to process {:?}", word.value), false);
                        continue;
                    };
                    for port in words {
                        self.port(&port, word.range, step, scope);
                    }
                }
            }
            Instruction::User(user) => {
                if let Some(user) = self.word(&user.user, step, state) {
                    state.user = Some(user.into());
                }
            }
            Instruction::Volume(volume) => {
                for word in &volume.volumes {
                    if self.word(word, step, state).is_some_and(|path| path.is_empty()) {
                        self.stop(word.range, "VOLUME specified can not be an empty string".into(), false);
                    }
                }
            }
            Instruction::Workdir(workdir) => {
                let Some(path) = self.word(&workdir.path, step, state) else { return };
                if !state.workdir_set && !self.is_absolute(&path) {
                    let message = format!("relative WORKDIR {path:?} depends on the base image");
                    self.report(Check::WorkdirRelativePath, step.place, scope, workdir.path.range, message);
                }
                state.workdir_set = true;
                if let Some(fault) = self.path_fault(&path) {
                    self.stop(workdir.path.range, format!("{path:?}: {fault}"), false);
                }
                let joined = match (&state.workdir, self.is_absolute(&path)) {
                    (_, true) => path,
                    (Some(before), false) => format!("{}/{path}", before.trim_end_matches('/')),
                    (None, false) => format!("/{path}"),
                };
                state.workdir = Some(joined.into());
            }
            Instruction::StopSignal(stop) => {
                if let Some(signal) = self.word(&stop.signal, step, state)
                    && !dockerfile::signal::is_valid(&signal)
                {
                    self.stop(stop.signal.range, format!("invalid signal: {signal}"), false);
                }
            }
            Instruction::Shell(shell) => {
                state.shell = Some(shell.shell.iter().map(|word| word.value.clone()).collect());
            }
        }
    }

    /// One word of EXPOSE: what BuildKit warns about and what it refuses.
    fn port(&mut self, text: &str, range: TextRange, step: &Step<'a>, scope: Option<u32>) {
        let port = match PortWord::read(text) {
            Ok(port) => port,
            Err(e) => return self.stop(range, e.to_string(), false),
        };
        if port.proto != port.proto.to_lowercase() {
            let message = format!("the protocol of {text:?} should be lowercase");
            self.report(Check::ExposeProtoCasing, step.place, scope, range, message);
        }
        if !port.address.is_empty() || !port.host.is_empty() {
            let message = format!("{text:?} maps a host port or address, which EXPOSE can't do");
            self.report(Check::ExposeInvalidFormat, step.place, scope, range, message);
        }
        if let Err(e) = port.ports() {
            self.stop(range, e.to_string(), false);
        }
    }

    fn transfer(
        &mut self,
        flags: Vec<&Word>,
        transfer: &'a dockerfile::Transfer,
        step: &Step<'a>,
        state: &State,
        context: Option<&str>,
    ) {
        for word in flags {
            self.word(word, step, state);
        }
        let mut sources = Vec::new();
        for word in &transfer.sources {
            if let Some(path) = self.word(word, step, state) {
                sources.push((word, path));
            }
        }
        let dest = self.word(&transfer.dest, step, state);
        for content in transfer.contents.iter().filter(|content| content.expand) {
            self.expand(Lexer::for_body(), &content.body, content.range, step, state);
        }
        if let Some(fault) = dest.as_deref().and_then(|dest| self.path_fault(dest)) {
            self.stop(transfer.dest.range, format!("{}: {fault}", transfer.dest.value), false);
        }
        let is_copy = matches!(step.instruction, Instruction::Copy(_));
        if let Some((word, path)) = sources.iter().find(|(_, path)| is_copy && is_remote(path)) {
            self.stop(word.range, format!("{path}: the source of COPY can't be remote, use ADD"), false);
        }
        let (Some(name), Some(ignore)) = (context, self.facts.ignore) else { return };
        for (word, path) in sources {
            if !is_remote(&path) && ignore.hides(&path) {
                let message = format!("{name} of {path:?}, which the ignore file leaves out");
                self.report(Check::CopyIgnoredFile, step.place, Some(step.place.line), word.range, message);
            }
        }
    }

    /// A `--chmod` in digits must be octal and not too large.
    fn mode(&mut self, mode: Option<&Word>, state: &State) {
        let Some(word) = mode else { return };
        let Ok(mode) = self.lexer.expand(&word.value, &*state.env) else { return };
        let digits = !mode.text.is_empty() && mode.text.bytes().all(|byte| byte.is_ascii_digit());
        if digits && u32::from_str_radix(&mode.text, 8).map_or(true, |bits| bits > 0o7777) {
            self.stop(word.range, format!("invalid chmod parameter: {}", mode.text), false);
        }
    }

    fn json_wanted(&mut self, name: &str, command: &Command, step: &Step<'a>, state: &State) {
        if matches!(command, Command::Shell(_)) && state.shell.is_none() {
            let message = format!("{name} in shell form does not pass signals on: write it as a JSON array");
            let range = step.place.keyword;
            self.report(Check::JsonArgsRecommended, step.place, Some(step.place.line), range, message);
        }
    }

    fn secret(&mut self, instruction: &str, key: &str, range: TextRange, step: &Step<'a>) {
        if secrets::is_secret_name(key) {
            let message = format!("{instruction} {key:?} looks like a secret, which the image would keep");
            self.report(Check::SecretsUsedInArgOrEnv, step.place, Some(step.place.line), range, message);
        }
    }

    fn is_absolute(&self, path: &str) -> bool {
        if self.facts.platform.os != "windows" {
            return path.starts_with('/');
        }
        let path = path.replace('\\', "/");
        match path.split_once(':') {
            Some((drive, rest)) => drive.eq_ignore_ascii_case("c") && rest.starts_with('/'),
            None => path.starts_with('/') && !path.starts_with("//"),
        }
    }

    /// Why a path of Windows can't be used in a container.
    fn path_fault(&self, path: &str) -> Option<&'static str> {
        if self.facts.platform.os != "windows" {
            return None;
        }
        let path = path.replace('\\', "/");
        match path.split_once(':') {
            Some((drive, "")) if drive.len() == 1 => Some("no relative path specified"),
            _ if path.starts_with("//") => Some("UNC paths are not supported"),
            Some((drive, _)) if !drive.eq_ignore_ascii_case("c") => {
                Some("the specified path is not on the system drive (C:)")
            }
            _ => None,
        }
    }
}

/// Whether ADD fetches the source.
pub(crate) fn is_remote(path: &str) -> bool {
    ["http://", "https://", "git://", "git@", "ssh://"].iter().any(|scheme| path.starts_with(scheme))
}

/// The first stage that waits for itself, or for one that does.
fn first_in_circle(reads: &[BTreeSet<usize>]) -> Option<usize> {
    let mut waiting: Vec<usize> = reads.iter().map(BTreeSet::len).collect();
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); reads.len()];
    for (reader, sources) in reads.iter().enumerate() {
        for source in sources {
            if let Some(list) = readers.get_mut(*source) {
                list.push(reader);
            }
        }
    }
    let mut ready: Vec<usize> = (0..reads.len()).filter(|stage| waiting[*stage] == 0).collect();
    while let Some(done) = ready.pop() {
        for reader in &readers[done] {
            waiting[*reader] -= 1;
            if waiting[*reader] == 0 {
                ready.push(*reader);
            }
        }
    }
    waiting.iter().position(|left| *left > 0)
}

#[cfg(test)]
mod tests {
    use crate::{Options, Profile};

    #[test]
    fn words_of_expose() {
        let said = |word: &str| {
            let text = format!("FROM scratch\nEXPOSE {word}\n");
            let parsed = dockerfile::parse(diagnostic::SourceFile::new("Dockerfile", &*text));
            let report = crate::lint(&parsed, &Options::of(Profile::All));
            let rules: Vec<&str> = report.findings.iter().filter_map(|f| f.rule).map(|r| r.name).collect();
            ["ExposeProtoCasing", "ExposeInvalidFormat", "build-would-stop"]
                .into_iter()
                .filter(|name| rules.contains(name))
                .collect::<Vec<_>>()
        };
        assert!(said("80").is_empty());
        assert_eq!(said("80/TCP"), ["ExposeProtoCasing"]);
        assert_eq!(said("8080:80"), ["ExposeInvalidFormat"]);
        assert_eq!(said("x"), ["build-would-stop"]);
        assert_eq!(said("1.2.3:1:2"), ["ExposeInvalidFormat", "build-would-stop"]);
    }
}
