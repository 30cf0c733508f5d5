//! File ops: COPY, ADD, WORKDIR and inline files, on a fresh snapshot.

use crate::copy::{ModeChange, Style, Target, io};
use crate::select::{Kind, Selected, Tree, no_base};
use crate::snapshotter::Prepared;
use crate::{LocalWorker, hash, passwd, relink, store_error, windows};
use dockerfile::chmod::SymbolicMode;
use graph::{
    CopyAction, CopyFrom, FileAction, MkdirAction, Mode, Op, Owner, PathSelector, Selector, VertexRef,
};
use layer::pack::Form;
use sandbox::{RootDir, Sync};
use solver::{ErrorKind, InputValue, Job};
use std::path::Path;
use std::sync::Arc;
use store::SnapshotId;

/// Run a file op; the result is the base's layers and one more.
pub fn run(worker: &LocalWorker, job: &Job) -> Result<Vec<SnapshotId>, ErrorKind> {
    let Op::File(op) = &job.graph.get(job.vertex).op else {
        return Err(ErrorKind::other("internal error: not a file op"));
    };
    let base = match op.base.map(|i| &job.inputs[i]) {
        None => Vec::new(),
        Some(InputValue::Layers(layers)) => layers.clone(),
        Some(InputValue::Local(_)) => return Err(ErrorKind::other("internal error: a folder as a base")),
    };
    let store = worker.store();
    let active = store.prepare().map_err(|e| store_error(&e))?;
    let (prepared, root) = open_root(worker, &active, &base)?;
    let form = windows::form_of(&job.graph.get(job.vertex).platform.os);
    let relink = if base.is_empty() { None } else { relink::key(worker, job, op, &root)? };
    if let Some(key) = relink
        && !job.fresh_mounts
        && let Some(found) = store.cache_get(&key).map_err(|e| store_error(&e))?
    {
        return Ok(base.into_iter().chain(found.snapshots).collect());
    }
    for action in &op.actions {
        apply(worker, job, action, &root, !base.is_empty())?;
    }
    drop(root);
    if let Some(prepared) = prepared {
        prepared.settle(&active)?;
    }
    if form == Form::Windows {
        windows::check(store, &active.upper(), &base)?;
    }
    let id = store.commit(active, windows::meta(form)).map_err(|e| store_error(&e))?;
    if let Some(key) = relink {
        store.cache_put(&key, store::RecordV1::of(vec![id.clone()])).map_err(|e| store_error(&e))?;
    }
    let mut layers = base;
    layers.push(id);
    Ok(layers)
}

/// The root that the actions change: the bare folder of the layer if there is no base.
fn open_root(
    worker: &LocalWorker,
    active: &store::Active,
    base: &[SnapshotId],
) -> Result<(Option<Prepared>, RootDir), ErrorKind> {
    if base.is_empty() {
        return Ok((None, RootDir::open_path(active.upper()).map_err(io)?));
    }
    let prepared = worker.snapshotter().prepare(active, base, Sync::Durable)?;
    let root = prepared.root()?;
    Ok((Some(prepared), root))
}

fn apply(
    worker: &LocalWorker,
    job: &Job,
    action: &FileAction,
    root: &RootDir,
    has_base: bool,
) -> Result<(), ErrorKind> {
    // Names are looked up in what the op starts from, not in what it has copied so far.
    let owner = |owner: &Option<Owner>| match owner {
        None => Ok(None),
        Some(Owner(spec)) => passwd::owner(has_base.then_some(root), spec).map(Some),
    };
    match action {
        FileAction::Mkdir(MkdirAction { path, mode, owner: of, time }) => {
            let made = root.mkdir_all(crate::select::clean(path), *mode, owner(of)?).map_err(io)?;
            if let Some(seconds) = time {
                let time = rustix::fs::Timespec { tv_sec: *seconds, tv_nsec: 0 };
                let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
                // Innermost first: to make a folder changes the time of its parent.
                for dir in made.iter().rev() {
                    root.set_times(dir, &times).map_err(io)?;
                }
            }
            Ok(())
        }
        FileAction::Mkfile(file) => {
            let style = Style { owner: Some((0, 0)), ..Style::default() };
            let name = file.path.rsplit('/').next().unwrap_or_default();
            Target { root, style: &style }.write_file(name, &file.data, file.mode, &file.path)
        }
        FileAction::Copy(copy) => {
            let style = Style { owner: owner(&copy.owner)?, mode: mode_change(&copy.mode)?, time: None };
            let target = Target { root, style: &style };
            match &copy.from {
                CopyFrom::Inline { name, data } => target.write_file(name, data, 0o644, &copy.dest),
                CopyFrom::Input { input, selector } => {
                    let (tree, selection) = source(worker, job, *input, selector)?;
                    for selected in selection.iter() {
                        if copy.unpack && unpack(&tree, selected, &target, copy)? {
                            continue;
                        }
                        target.copy(&tree, selected, &copy.dest)?;
                    }
                    Ok(())
                }
            }
        }
    }
}

/// The tree of an input, and what a selector picks from it.
pub fn source(
    worker: &LocalWorker,
    job: &Job,
    input: usize,
    selector: &PathSelector,
) -> Result<(Tree, Arc<Vec<Selected>>), ErrorKind> {
    match &job.inputs[input] {
        InputValue::Local(v) => {
            let name = worker.context_path(&job.graph, *v)?;
            let (tree, selection) = (worker.context_tree(&name)?, worker.select_context(&name, selector)?);
            if selection.is_empty()
                && let Some(base) = tree.wildcard_base(selector)?
                && !is_read(worker, job, *v, &name, &base)
            {
                return Err(no_base(&base));
            }
            Ok((tree, selection))
        }
        InputValue::Layers(layers) => {
            let tree = worker.snapshotter().tree(layers)?;
            let selection = tree.select(selector)?;
            Ok((tree, Arc::new(selection)))
        }
    }
}

/// Whether any step of the build reads something of the context's folder `base`. BuildKit knows only that
/// part of a context, so a wildcard without a match in another folder finds the folder missing.
fn is_read(worker: &LocalWorker, job: &Job, context: VertexRef, name: &str, base: &Path) -> bool {
    let reads = |selector: &PathSelector| {
        worker.select_context(name, selector).is_ok_and(|selection| {
            let mut entries = selection.iter().flat_map(|s| &s.entries).filter(|e| !e.implied);
            entries.any(|e| e.path.starts_with(base) || e.kind == Kind::Dir && base.starts_with(&e.path))
        })
    };
    job.graph.vertices.iter().flat_map(|v| &v.inputs).filter(|i| i.edge.vertex == context).any(|i| {
        match &i.selector {
            Selector::Whole => true,
            Selector::Paths(paths) => paths.iter().any(reads),
        }
    })
}

fn mode_change(mode: &Option<Mode>) -> Result<ModeChange, ErrorKind> {
    Ok(match mode {
        None => ModeChange::Keep,
        Some(Mode::Octal(m)) => ModeChange::Octal(*m),
        Some(Mode::Symbolic(text)) => ModeChange::Symbolic(
            SymbolicMode::parse(text).ok_or_else(|| ErrorKind::other(format!("invalid mode {text:?}")))?,
        ),
    })
}

/// Unpack a regular file that is an archive into the destination folder. False if it is none.
fn unpack(
    tree: &Tree,
    selected: &Selected,
    target: &Target<'_>,
    copy: &CopyAction,
) -> Result<bool, ErrorKind> {
    let entry = selected.root();
    if entry.kind != Kind::File || entry.size == 0 {
        return Ok(false);
    }
    if !layer::extract::is_archive(hash::open(tree, entry)?) {
        return Ok(false);
    }
    let dest = crate::select::clean(&copy.dest);
    target.root.mkdir_all(&dest, 0o755, target.style.owner).map_err(io)?;
    let into = target.root.resolve(&dest).map_err(io)?;
    let folder = target.root.subdir(&into).map_err(io)?;
    let options = layer::extract::ExtractOptions { chown: target.style.owner, ..Default::default() };
    layer::extract::extract(hash::open(tree, entry)?, &folder, &options).map_err(|e| ErrorKind::Other {
        message: format!("can't unpack {}: {e}", entry.path.display()),
        hint: e.hint().map(str::to_string),
    })?;
    Ok(true)
}
