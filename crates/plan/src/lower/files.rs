//! COPY, ADD and WORKDIR: instructions that change files without running anything.

use super::{Instr, Lowering};
use crate::path::{self, PathError, PathStyle};
use crate::source::{git_reference, http_file_name, is_http_url, redact};
use crate::state::{MakesLayer, Root, StageState, drive};
use crate::{PlanError, expand};
use dockerfile::instruction as ast;
use graph::*;

/// What COPY and ADD have in common, expanded.
struct Transfer<'t> {
    keyword: &'static str,
    sources: Vec<String>,
    contents: &'t [ast::SourceContent],
    dest: String,
    chown: Option<String>,
    chmod: Option<String>,
    excludes: Vec<String>,
    link: bool,
    parents: bool,
    unpack: bool,
}

/// Inputs and actions of a file op while it is put together.
#[derive(Default)]
struct Parts {
    inputs: Vec<Input>,
    actions: Vec<FileAction>,
}

impl Parts {
    /// The index of an input on `vertex`, with `selector` added to what is read of it.
    fn input(&mut self, vertex: VertexRef, selector: &PathSelector) -> usize {
        let edge = Edge::from(vertex);
        for (i, input) in self.inputs.iter_mut().enumerate() {
            if let Selector::Paths(paths) = &mut input.selector
                && input.edge == edge
            {
                if !paths.contains(selector) {
                    paths.push(selector.clone());
                }
                return i;
            }
        }
        self.inputs.push(Input { edge, selector: Selector::Paths(vec![selector.clone()]) });
        self.inputs.len() - 1
    }
}

impl Lowering<'_> {
    pub(super) fn copy(
        &mut self,
        state: &mut StageState,
        at: &Instr<'_>,
        copy: &ast::Copy,
        from: Option<&StageState>,
    ) -> Result<(), PlanError> {
        for source in &copy.transfer.sources {
            let text = self.word(state, source)?;
            if git_reference(&text).map_err(PlanError::new)?.is_some() {
                return Err(PlanError::new("source can't be a git ref for COPY").hint("use ADD"));
            }
            if is_http_url(&text) {
                return Err(PlanError::new("source can't be a URL for COPY").hint("use ADD"));
            }
        }
        let transfer = Transfer {
            keyword: "COPY",
            sources: self.sources(state, &copy.transfer)?,
            contents: &copy.transfer.contents,
            dest: self.word(state, &copy.transfer.dest)?,
            chown: self.optional_word(state, &copy.chown)?,
            chmod: self.optional_word(state, &copy.chmod)?,
            excludes: copy.excludes.iter().map(|w| w.value.clone()).collect(),
            link: copy.link,
            parents: copy.parents,
            unpack: false,
        };
        let (source, drive) = match from {
            Some(stage) => (stage.root, stage.drive()),
            None => (Root::Local(self.main_context(&state.platform)), ""),
        };
        let mut parts = Parts::default();
        for src in &transfer.sources {
            self.local_source(&mut parts, &transfer, (source, drive), src, state)?;
        }
        self.finish_transfer(state, at, transfer, parts)
    }

    pub(super) fn add(
        &mut self,
        state: &mut StageState,
        at: &Instr<'_>,
        add: &ast::Add,
    ) -> Result<(), PlanError> {
        let transfer = Transfer {
            keyword: "ADD",
            sources: self.sources(state, &add.transfer)?,
            contents: &add.transfer.contents,
            dest: self.word(state, &add.transfer.dest)?,
            chown: self.optional_word(state, &add.chown)?,
            chmod: self.optional_word(state, &add.chmod)?,
            excludes: add.excludes.iter().map(|w| w.value.clone()).collect(),
            link: add.link,
            parents: false,
            unpack: add.unpack.unwrap_or(true),
        };
        let checksum = self.optional_word(state, &add.checksum)?;
        if checksum.is_some() {
            let [source] = transfer.sources.as_slice() else {
                return Err(PlanError::new("checksum can't be specified for multiple sources"));
            };
            if !is_http_url(source) && git_reference(source).map_err(PlanError::new)?.is_none() {
                return Err(PlanError::new("checksum requires HTTP(S) or Git sources")
                    .hint("local files are always verified by content"));
            }
        }
        let mut parts = Parts::default();
        for src in &transfer.sources {
            if let Some(git) = git_reference(src).map_err(PlanError::new)? {
                self.git_source(&mut parts, &transfer, at, git, add, checksum.as_deref(), state)?;
            } else if is_http_url(src) {
                self.http_source(&mut parts, &transfer, at, src, add, checksum.as_deref(), state)?;
            } else {
                let context = Root::Local(self.main_context(&state.platform));
                self.local_source(&mut parts, &transfer, (context, ""), src, state)?;
            }
        }
        self.finish_transfer(state, at, transfer, parts)
    }

    fn sources(&self, state: &StageState, transfer: &ast::Transfer) -> Result<Vec<String>, PlanError> {
        transfer.sources.iter().map(|w| self.word(state, w)).collect()
    }

    /// A path of a stage or of a context, below the folder that the stage has its files in.
    fn local_source(
        &self,
        parts: &mut Parts,
        transfer: &Transfer<'_>,
        (source, drive): (Root, &str),
        src: &str,
        state: &StageState,
    ) -> Result<(), PlanError> {
        let style = PathStyle::of(&state.platform.os);
        let normalize = |p: &str| {
            path::normalize("/", p, style, false).map_err(|e| bad_path(&format!("source {src:?}"), &e))
        };
        let (mut root, mut include, mut required) = (src.to_string(), Vec::new(), Vec::new());
        if transfer.parents {
            let (before, pattern) = src.split_once("/./").unwrap_or(("/", src));
            let before = if before.is_empty() { "/" } else { before };
            let pattern = normalize(pattern)?;
            include.push(pattern.trim_start_matches('/').to_string());
            if !dockerfile::glob::has_wildcard(before) && !dockerfile::glob::has_wildcard(&pattern) {
                required.push(path::on_drive(drive, normalize(&path::join(before, &pattern))?));
            }
            root = before.to_string();
        }
        let selector = PathSelector {
            path: path::on_drive(drive, normalize(&root)?),
            wildcard: true,
            follow_links: true,
            include,
            exclude: transfer.excludes.clone(),
            required,
        };
        let vertex = match source {
            Root::Vertex(v) | Root::Local(v) => Some(v),
            Root::Empty => None,
        };
        // Copying from an empty stage finds nothing but its root.
        let from = match vertex {
            Some(v) => CopyFrom::Input { input: parts.input(v, &selector), selector },
            None if path::clean(&selector.path) == path::on_drive(drive, "/".into()) => {
                parts.actions.push(FileAction::Mkdir(MkdirAction {
                    path: self.destination(state, &transfer.dest)?,
                    mode: 0o755,
                    owner: transfer.chown.clone().map(Owner),
                    time: None,
                }));
                return Ok(());
            }
            None if dockerfile::glob::has_wildcard(&selector.path) => return Ok(()),
            None => {
                return Err(PlanError::new(format!(
                    "failed to compute cache key: failed to calculate checksum: {:?}: not found",
                    selector.path
                )));
            }
        };
        self.push_copy(parts, transfer, from, transfer.unpack, state)
    }

    fn git_source(
        &mut self,
        parts: &mut Parts,
        transfer: &Transfer<'_>,
        at: &Instr<'_>,
        mut git: GitSource,
        add: &ast::Add,
        checksum: Option<&str>,
        state: &StageState,
    ) -> Result<(), PlanError> {
        if let Some(keep) = add.keep_git_dir {
            if git.keep_git_dir && !keep {
                return Err(PlanError::new("inconsistent keep-git-dir configuration"));
            }
            git.keep_git_dir = keep;
        }
        match (checksum, &git.checksum) {
            (Some(flag), Some(query)) if flag != query => {
                return Err(PlanError::new(format!("checksum mismatch {flag:?} != {query:?}")));
            }
            (Some(flag), _) => git.checksum = Some(flag.to_string()),
            (None, _) => {}
        }
        let name = format!("ADD {}", redact(&git.remote));
        let vertex = self.source(SourceOp::Git(git), state.platform.clone(), name, at.lines);
        let selector = PathSelector { exclude: transfer.excludes.clone(), ..plain_selector("/") };
        let from = CopyFrom::Input { input: parts.input(vertex, &selector), selector };
        let dest = self.destination(state, &transfer.dest)?;
        // The checkout itself is the folder that is made.
        parts.actions.push(FileAction::Copy(CopyAction {
            from,
            dest,
            owner: transfer.chown.clone().map(Owner),
            mode: parse_mode(transfer.chmod.as_deref())?,
            contents_only: true,
            unpack: false,
        }));
        Ok(())
    }

    fn http_source(
        &mut self,
        parts: &mut Parts,
        transfer: &Transfer<'_>,
        at: &Instr<'_>,
        url: &str,
        add: &ast::Add,
        checksum: Option<&str>,
        state: &StageState,
    ) -> Result<(), PlanError> {
        let filename = http_file_name(url);
        let checksum = checksum
            .map(|c| {
                c.parse().map_err(|e: digest::ParseDigestError| {
                    PlanError::new(format!("invalid checksum: {e}"))
                        .hint("write it as sha256: and 64 hexadecimal digits")
                })
            })
            .transpose()?;
        let source = HttpSource {
            url: url.to_string(),
            filename: filename.clone(),
            checksum,
            mode: None,
            uid: 0,
            gid: 0,
        };
        let vertex = self.source(
            SourceOp::Http(source),
            state.platform.clone(),
            format!("ADD {}", redact(url)),
            at.lines,
        );
        let selector = plain_selector(&format!("/{filename}"));
        let from = CopyFrom::Input { input: parts.input(vertex, &selector), selector };
        self.push_copy(parts, transfer, from, add.unpack.unwrap_or(false), state)
    }

    fn push_copy(
        &self,
        parts: &mut Parts,
        transfer: &Transfer<'_>,
        from: CopyFrom,
        unpack: bool,
        state: &StageState,
    ) -> Result<(), PlanError> {
        parts.actions.push(FileAction::Copy(CopyAction {
            from,
            dest: self.destination(state, &transfer.dest)?,
            owner: transfer.chown.clone().map(Owner),
            mode: parse_mode(transfer.chmod.as_deref())?,
            contents_only: true,
            unpack,
        }));
        Ok(())
    }

    fn destination(&self, state: &StageState, dest: &str) -> Result<String, PlanError> {
        let style = PathStyle::of(&state.platform.os);
        let path = path::destination(state.workdir(), dest, style);
        let path = path.and_then(|path| path::check_names(&path, style).map(|()| path));
        let path = path.map_err(|e| bad_path(&format!("destination {dest:?}"), &e))?;
        Ok(format!("{}{path}", drive(&state.platform)))
    }

    /// Heredocs, history, and the vertex itself.
    fn finish_transfer(
        &mut self,
        state: &mut StageState,
        at: &Instr<'_>,
        transfer: Transfer<'_>,
        mut parts: Parts,
    ) -> Result<(), PlanError> {
        for (flag, value) in [("chown", &transfer.chown), ("chmod", &transfer.chmod)] {
            if state.platform.os == "windows" && value.is_some() {
                let message = format!("{} --{flag} is for Linux images only", transfer.keyword);
                return Err(PlanError::new(message).hint(
                    "leave it out: files of Windows images have security descriptors, no owner and mode",
                ));
            }
        }
        let mode = parse_mode(transfer.chmod.as_deref())?;
        let mut message = transfer.keyword.to_string();
        if transfer.parents {
            message.push_str(" --parents");
        }
        for (flag, value) in [("chown", &transfer.chown), ("chmod", &transfer.chmod)] {
            if let Some(value) = value {
                message.push_str(&format!(" --{flag}={value}"));
            }
        }
        for source in &transfer.sources {
            message.push_str(&format!(" {source}"));
        }
        for content in transfer.contents {
            message.push_str(&format!(" <<{}", content.name));
            let data = match content.expand {
                true => expand::heredoc(&content.body, &state.env)?,
                false => content.body.clone(),
            };
            let file = path::clean(&format!("/{}", content.name));
            if file.rfind('/') != Some(0) {
                return Err(PlanError::new(format!("open {file}: no such file or directory"))
                    .hint("the delimiter of a heredoc names its file, which can't be in a folder"));
            }
            let from = CopyFrom::Inline { name: content.name.clone(), data: data.into_bytes() };
            self.push_copy(&mut parts, &transfer, from, false, state)?;
        }
        message.push_str(&format!(" {} # buildkit", transfer.dest));

        let name = expand::shown(at.code, self.escape, &state.env);
        let name = self.next_name(&name, &state.platform, at.from_trigger);
        // Which names collide on Windows is known only where the layers below are looked at.
        let link = transfer.link && mode.is_none() && state.platform.os != "windows";
        let base = self.as_root(state);
        let Parts { mut inputs, actions } = parts;
        let own_base = match base {
            Some(base) if !link => {
                inputs.push(Input { edge: base.into(), selector: Selector::Whole });
                Some(inputs.len() - 1)
            }
            _ => None,
        };
        let file = self.graph.push(Vertex {
            op: Op::File(FileOp { base: own_base, actions }),
            inputs,
            platform: state.platform.clone(),
            provenance: self.provenance(name.clone(), at.lines),
        });
        let root = match base {
            Some(base) if link => self.graph.push(Vertex {
                op: Op::Merge,
                inputs: [base, file].map(|v| Input { edge: v.into(), selector: Selector::Whole }).to_vec(),
                platform: state.platform.clone(),
                provenance: self.provenance(format!("LINK {name}"), at.lines),
            }),
            _ => file,
        };
        state.root = Root::Vertex(root);
        state.commit(message, MakesLayer::Yes);
        Ok(())
    }

    pub(super) fn workdir(
        &mut self,
        state: &mut StageState,
        at: &Instr<'_>,
        workdir: &ast::Workdir,
    ) -> Result<(), PlanError> {
        let written = self.word(state, &workdir.path)?;
        let style = PathStyle::of(&state.platform.os);
        let dir = path::workdir(&state.image.config.working_dir, &written, style)
            .map_err(|e| bad_path("normalizing workdir", &e))?;
        path::check_names(&dir, style).map_err(|e| bad_path(&format!("workdir {written:?}"), &e))?;
        state.image.config.working_dir = dir.clone();
        let slashed = if style == PathStyle::Windows { dir.replace('\\', "/") } else { dir };
        if slashed == "/" {
            state.commit(format!("WORKDIR {slashed}"), MakesLayer::No);
            return Ok(());
        }
        let name = expand::shown(at.code, self.escape, &state.env);
        let name = self.next_name(&name, &state.platform, at.from_trigger);
        let user = &state.image.config.user;
        // Who users of Windows are is known to Windows.
        let owner = (!user.is_empty() && style == PathStyle::Unix).then(|| Owner(user.clone()));
        let base = self.as_root(state);
        let inputs: Vec<Input> =
            base.into_iter().map(|b| Input { edge: b.into(), selector: Selector::Whole }).collect();
        let vertex = self.graph.push(Vertex {
            op: Op::File(FileOp {
                base: base.map(|_| 0),
                actions: vec![FileAction::Mkdir(MkdirAction {
                    path: format!("{}{slashed}", drive(&state.platform)),
                    mode: 0o755,
                    owner,
                    time: self.epoch,
                })],
            }),
            inputs,
            platform: state.platform.clone(),
            provenance: self.provenance(name, at.lines),
        });
        state.root = Root::Vertex(vertex);
        state.commit(format!("WORKDIR {slashed}"), MakesLayer::Yes);
        Ok(())
    }
}

fn bad_path(what: &str, e: &PathError) -> PlanError {
    PlanError::new(format!("{what}: {e}")).hint(match e {
        PathError::BareDrive(_) => "write C:\\ for the root of the drive, or . for the working directory",
        PathError::Unc => "copy from the context, from a stage or with ADD from a URL",
        PathError::OtherDrive => "a Windows image has drive C only",
        PathError::Name(..) => "Windows can't have such a file; write another name",
    })
}

fn plain_selector(path: &str) -> PathSelector {
    PathSelector { follow_links: false, ..PathSelector::of(path) }
}

/// `--chmod`: an octal number up to 7777, or chmod's symbolic form.
fn parse_mode(text: Option<&str>) -> Result<Option<Mode>, PlanError> {
    let Some(text) = text else { return Ok(None) };
    let bad = || {
        PlanError::new(format!(
            "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
        ))
        .hint("write 0644, or a symbolic mode such as u=rwX,go=rX")
    };
    if let Ok(mode) = u32::from_str_radix(text, 8) {
        return if mode > 0o7777 { Err(bad()) } else { Ok(Some(Mode::Octal(mode))) };
    }
    if dockerfile::chmod::SymbolicMode::parse(text).is_none() {
        return Err(bad());
    }
    Ok(Some(Mode::Symbolic(text.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(parse_mode(Some("0755")).unwrap(), Some(Mode::Octal(0o755)));
        assert_eq!(parse_mode(Some("u=rwX,go=rX")).unwrap(), Some(Mode::Symbolic("u=rwX,go=rX".into())));
        assert_eq!(parse_mode(Some("+x")).unwrap(), Some(Mode::Symbolic("+x".into())));
        assert_eq!(parse_mode(Some("g=u")).unwrap(), Some(Mode::Symbolic("g=u".into())));
        for bad in ["888", "10000", "u", "z+x", "u=rw,", "755x"] {
            assert!(parse_mode(Some(bad)).is_err(), "{bad}");
        }
    }
}
