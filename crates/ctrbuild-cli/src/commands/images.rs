//! `ctrbuild images`.

use crate::args::{Global, ImagesArgs, ListFormat};
use crate::{machine, table};
use ctrbuild::images::{self, Listed};
use ctrbuild::{Error, ErrorKind};
use std::process::ExitCode;

pub fn run(global: &Global, args: &ImagesArgs) -> Result<ExitCode, Error> {
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
        let kind = |r: &Listed| if r.kind == images::KIND_BASE { "base" } else { "derived" };
        match filter.split_once('=') {
            Some(("kind", wanted)) => rows.retain(|r| kind(r) == wanted),
            Some(("dangling", value)) => rows.retain(|r| r.reference.is_none() == (value == "true")),
            Some(("reference", wanted)) => {
                rows.retain(|r| r.reference.as_ref().is_some_and(|n| n.familiar().contains(wanted)));
            }
            _ => {
                return Err(Error::new(ErrorKind::Recipe, format!("invalid --filter {filter:?}"))
                    .hint("kind=base|derived, dangling=true|false or reference=TEXT"));
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
    if args.format == ListFormat::Json {
        for r in &rows {
            println!("{}", diagnostic::escape_json(&json(r).to_string()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut header = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
    if args.digests {
        header.insert(2, "DIGEST");
    }
    let mut lines: Vec<Vec<String>> = vec![header.into_iter().map(str::to_string).collect()];
    let now = table::now();
    for r in &rows {
        let (name, tag) = names(r);
        let id = if args.no_trunc { r.id.to_string() } else { r.id.short() };
        let mut line = vec![name, tag, id, table::ago(r.created.as_deref(), now), table::size(r.size)];
        if args.digests {
            line.insert(2, r.digest.to_string());
        }
        lines.push(line);
    }
    print!("{}", table::render(&lines));
    Ok(ExitCode::SUCCESS)
}

fn names(r: &Listed) -> (String, String) {
    match &r.reference {
        None => ("<none>".into(), "<none>".into()),
        Some(n) => (n.familiar_name(), n.tag().unwrap_or("<none>").to_string()),
    }
}

fn json(r: &Listed) -> serde_json::Value {
    let (repository, tag) = names(r);
    let platforms: Vec<String> = r.platforms.iter().map(ToString::to_string).collect();
    serde_json::json!({
        "repository": repository,
        "tag": tag,
        "id": r.id,
        "digest": r.digest,
        "kind": if r.kind == images::KIND_BASE { "base" } else { "derived" },
        "isOSImage": r.kind == images::KIND_BASE,
        "platforms": platforms,
        "created": r.created,
        "size": r.size,
    })
}
