//! `ctrbuild image tree`.

use crate::args::{Global, ListFormat, TreeArgs};
use crate::{machine, table};
use ctrbuild::Error;
use ctrbuild::images::{self, Node};
use digest::Digest;
use std::process::ExitCode;

pub fn run(global: &Global, args: &TreeArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let mut trees = images::forest(&session.store)?;
    if !args.names.is_empty() {
        let mut wanted = Vec::new();
        for name in &args.names {
            wanted.push(images::find(&session.store, name)?.document.digest());
        }
        let mut found = Vec::new();
        pick(trees, &wanted, &mut found);
        trees = found;
    }
    if args.format == ListFormat::Json {
        for tree in &trees {
            println!("{}", diagnostic::escape_json(&json(tree).to_string()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![["IMAGE", "IMAGE ID", "CREATED", "SIZE", "KIND"].map(str::to_string).to_vec()];
    let now = table::now();
    for tree in &trees {
        draw(tree, "", "", args.no_trunc, now, &mut rows);
    }
    print!("{}", table::render(&rows));
    Ok(ExitCode::SUCCESS)
}

/// The topmost trees of images that are wanted.
fn pick(trees: Vec<Node>, wanted: &[Digest], found: &mut Vec<Node>) {
    for tree in trees {
        match tree.names.iter().any(|n| wanted.contains(&n.digest)) {
            true => found.push(tree),
            false => pick(tree.children, wanted, found),
        }
    }
}

fn titles(tree: &Node) -> Vec<String> {
    tree.names
        .iter()
        .map(|n| n.reference.as_ref().map_or_else(|| "<none>".into(), |r| r.familiar()))
        .collect()
}

fn draw(tree: &Node, own: &str, below: &str, whole: bool, now: i64, rows: &mut Vec<Vec<String>>) {
    if let Some(first) = tree.names.first() {
        rows.push(vec![
            format!("{own}{}", titles(tree).join(", ")),
            if whole { first.id.to_string() } else { first.id.short() },
            table::ago(first.created.as_deref(), now),
            table::size(first.size),
            if tree.names.iter().any(|n| n.kind == images::KIND_BASE) { "base" } else { "derived" }
                .to_string(),
        ]);
    }
    for (n, child) in tree.children.iter().enumerate() {
        let (corner, line) = match n + 1 == tree.children.len() {
            true => ("└── ", "    "),
            false => ("├── ", "│   "),
        };
        draw(child, &format!("{below}{corner}"), &format!("{below}{line}"), whole, now, rows);
    }
}

fn json(tree: &Node) -> serde_json::Value {
    let first = tree.names.first();
    serde_json::json!({
        "names": titles(tree),
        "id": first.map(|f| f.id),
        "created": first.and_then(|f| f.created.clone()),
        "size": first.map(|f| f.size),
        "isOSImage": tree.names.iter().any(|n| n.kind == images::KIND_BASE),
        "children": tree.children.iter().map(json).collect::<Vec<_>>(),
    })
}
