//! `ctrbuild images`.

use super::images_format::Template;
use crate::args::{Global, ImagesArgs};
use crate::{machine, table};
use ctrbuild::images::{self, Listed};
use ctrbuild::{Error, ErrorKind};
use diagnostic::sanitize;
use digest::{DiffId, Digest};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::ExitCode;

/// What only some formats show, since all images have to be looked at for it.
#[derive(Default)]
struct Kin {
    parents: BTreeMap<Digest, Digest>,
    /// How many images have a layer.
    users: HashMap<DiffId, usize>,
}

pub fn run(global: &Global, args: &ImagesArgs) -> Result<ExitCode, Error> {
    let template = match args.format.as_str() {
        "table" | "json" => None,
        text => Some(Template::parse(text)?),
    };
    let session = machine::session(global)?;
    let wanted: Vec<oci::Reference> =
        args.names.iter().map(|n| images::parse_name(n)).collect::<Result<_, _>>()?;
    let is_wanted = |own: &oci::Reference| {
        wanted.iter().zip(&args.names).any(|(w, name)| {
            own.repository() == w.repository() && (!name.contains(':') || own.tag() == w.tag())
        })
    };
    let mut rows = match wanted.is_empty() {
        true => images::list(&session.store)?,
        false => {
            let repositories = wanted.iter().map(oci::Reference::repository).collect();
            images::list_named(&session.store, &repositories, is_wanted)?
        }
    };
    for filter in &args.filter {
        match filter.split_once('=') {
            Some(("kind", wanted @ ("base" | "derived"))) => rows.retain(|r| kind(r) == wanted),
            Some(("dangling", wanted @ ("true" | "1" | "false" | "0"))) => {
                rows.retain(|r| r.reference.is_none() == matches!(wanted, "true" | "1"));
            }
            Some(("reference", wanted)) => {
                // Now, so that a wrong pattern is told even where there is no image.
                dockerfile::glob::validate(wanted).map_err(|_| {
                    Error::new(ErrorKind::Recipe, format!("invalid pattern in --filter {filter:?}"))
                        .hint("`*` stands for anything but `/`, `?` for one character; text without them for a part of the name")
                })?;
                rows.retain(|r| r.reference.as_ref().is_some_and(|n| is_like(&n.familiar(), wanted)));
            }
            _ => {
                return Err(Error::new(ErrorKind::Recipe, format!("invalid --filter {filter:?}"))
                    .hint("kind=base|derived, dangling=true|false or reference=TEXT or PATTERN"));
            }
        }
    }
    rows.sort_by(|a, b| b.created.cmp(&a.created));
    if args.quiet {
        for r in &rows {
            println!("{}", if args.no_trunc { r.id.to_string() } else { r.id.short() });
        }
        return Ok(ExitCode::SUCCESS);
    }
    let asks_for_kin = template.as_ref().is_some_and(|t| t.has(&["Parent", "SharedSize", "UniqueSize"]));
    let kin = match args.verbose || asks_for_kin || args.format == "json" {
        true => kin(&session.store)?,
        false => Kin::default(),
    };
    if args.format == "json" {
        for r in &rows {
            println!("{}", diagnostic::escape_json(&json(r, &kin).to_string()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let template = match template {
        Some(template) => template,
        None => Template::parse(&usual(args))?,
    };
    let now = table::now();
    let mut lines: Vec<Vec<String>> = Vec::new();
    if template.table {
        lines.push(template.headings());
    }
    lines.extend(rows.iter().map(|r| template.row(|field| value(r, field, &kin, args.no_trunc, now))));
    match template.table {
        true => print!("{}", table::render(&lines)),
        false => lines.iter().for_each(|line| println!("{}", line.join("\t"))),
    }
    Ok(ExitCode::SUCCESS)
}

/// Docker's five columns, and more behind them.
fn usual(args: &ImagesArgs) -> String {
    let mut fields = vec!["Repository", "Tag", "ID", "CreatedSince", "Size", "Kind"];
    if args.digests {
        fields.insert(2, "Digest");
    }
    if args.verbose {
        fields.extend(["Parent", "SharedSize", "UniqueSize"]);
    }
    let fields: Vec<String> = fields.iter().map(|f| format!("{{{{.{f}}}}}")).collect();
    format!("table {}", fields.join("\t"))
}

fn kin(store: &::store::LocalStore) -> Result<Kin, Error> {
    let mut users: HashMap<DiffId, usize> = HashMap::new();
    let mut seen = BTreeSet::new();
    for image in images::list(store)?.into_iter().filter(|i| seen.insert(i.id)) {
        let layers: BTreeSet<DiffId> = image.layers.iter().map(|(diff, _)| *diff).collect();
        layers.into_iter().for_each(|diff| *users.entry(diff).or_default() += 1);
    }
    Ok(Kin { parents: images::parents(store)?, users })
}

impl Kin {
    /// Bytes of layers that other images have too.
    fn shared(&self, r: &Listed) -> u64 {
        let shared = |diff: &DiffId| self.users.get(diff).is_some_and(|n| *n > 1);
        r.layers.iter().filter(|(diff, _)| shared(diff)).map(|(_, bytes)| bytes).sum()
    }
}

fn kind(r: &Listed) -> &'static str {
    if r.kind == images::KIND_BASE { "base" } else { "derived" }
}

fn value(r: &Listed, field: &str, kin: &Kin, whole: bool, now: i64) -> String {
    let id = |id: &Digest| if whole { id.to_string() } else { id.short() };
    let (repository, tag) = names(r);
    let text = |text: &Option<String>| text.as_deref().map(|t| sanitize(t).into_owned()).unwrap_or_default();
    match field {
        "Repository" => repository,
        "Tag" => tag,
        "Digest" => r.digest.to_string(),
        "ID" => id(&r.id),
        "CreatedSince" => table::ago(r.created.as_deref(), now),
        "CreatedAt" => text(&r.created),
        "Size" => table::size(r.size),
        "Kind" => kind(r).to_string(),
        // None is a base image, or one whose parent is not here.
        "Parent" => kin.parents.get(&r.id).map(id).unwrap_or_default(),
        "SharedSize" => table::size(kin.shared(r)),
        "UniqueSize" => table::size(r.size - kin.shared(r)),
        "Publisher" => text(&r.publisher),
        "Version" => text(&r.version),
        "IsOSImage" => (r.kind == images::KIND_BASE).to_string(),
        "Platforms" => platforms(r).join(","),
        _ => String::new(),
    }
}

fn platforms(r: &Listed) -> Vec<String> {
    r.platforms.iter().map(ToString::to_string).collect()
}

/// The two columns of a name.
pub fn names(r: &Listed) -> (String, String) {
    match &r.reference {
        None => ("<none>".into(), "<none>".into()),
        Some(n) => (n.familiar_name(), n.tag().unwrap_or("<none>").to_string()),
    }
}

fn json(r: &Listed, kin: &Kin) -> serde_json::Value {
    let (repository, tag) = names(r);
    let shared = kin.shared(r);
    serde_json::json!({
        "repository": repository,
        "tag": tag,
        "id": r.id,
        "digest": r.digest,
        "parent": kin.parents.get(&r.id),
        "kind": kind(r),
        "isOSImage": r.kind == images::KIND_BASE,
        "publisher": r.publisher,
        "version": r.version,
        "platforms": platforms(r),
        "created": r.created,
        "size": r.size,
        "sharedSize": shared,
        "uniqueSize": r.size - shared,
    })
}

/// Whether a name, with or without its tag, is what was asked for: a pattern as docker has it, or a part of it.
fn is_like(name: &str, wanted: &str) -> bool {
    if !dockerfile::glob::has_wildcard(wanted) {
        return name.contains(wanted);
    }
    let bare = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(name, |(bare, _)| bare);
    [name, bare].iter().any(|n| dockerfile::glob::matches(wanted, n).unwrap_or(false))
}
