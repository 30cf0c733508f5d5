//! The symbols of a recipe: global ARGs, and stages with their instructions.

use super::View;
use diagnostic::TextRange;
use dockerfile::{Instruction, Located};
use serde_json::{Value, json};

const MODULE: u32 = 2;
const CLASS: u32 = 5;
const PROPERTY: u32 = 7;
const FUNCTION: u32 = 12;
const VARIABLE: u32 = 13;
const CONSTANT: u32 = 14;
const FIELD: u32 = 8;

/// Longest detail that is shown.
const MAX_DETAIL: usize = 80;

/// A tree, or a flat list for clients that know no tree.
pub fn symbols(view: &View<'_>) -> Vec<Value> {
    let recipe = &view.analysis.parsed.recipe;
    let mut out = Vec::new();
    for located in &recipe.meta_args {
        for arg in &located.node.args {
            let detail = arg.value.as_deref().unwrap_or_default();
            out.push(symbol(view, &arg.key, detail, CONSTANT, located.range, arg.range, Vec::new()));
        }
    }
    for stage in &recipe.stages {
        let name = stage.name.clone().unwrap_or_else(|| format!("stage {}", stage.index));
        let children = stage.instructions.iter().flat_map(|node| instruction(view, node)).collect();
        let detail = format!("FROM {}", stage.base());
        let from = &stage.from;
        let own = from.node.name.as_ref().map_or(from.node.base.range, |word| word.range);
        out.push(symbol(view, &name, &detail, CLASS, stage.range(), own, children));
    }
    match view.client.tree {
        true => out,
        false => flat(view, &out, None),
    }
}

fn instruction(view: &View<'_>, node: &Located<Instruction>) -> Vec<Value> {
    let rest = node.code.get(node.keyword.value.len()..).unwrap_or_default().trim();
    let keyword = node.node.name();
    let of = |name: &str, detail: &str, kind: u32, own: TextRange| {
        symbol(view, name, detail, kind, node.range, own, Vec::new())
    };
    match &node.node {
        Instruction::Arg(arg) => arg
            .args
            .iter()
            .map(|arg| of(&arg.key, arg.value.as_deref().unwrap_or_default(), CONSTANT, arg.range))
            .collect(),
        Instruction::Env(env) => {
            env.pairs.iter().map(|pair| of(&pair.key, &pair.value, VARIABLE, pair.range)).collect()
        }
        Instruction::Label(label) => {
            label.pairs.iter().map(|pair| of(&pair.key, &pair.value, FIELD, pair.range)).collect()
        }
        Instruction::Run(_)
        | Instruction::Cmd(_)
        | Instruction::Entrypoint(_)
        | Instruction::Healthcheck(_) => {
            vec![of(keyword, rest, FUNCTION, node.keyword.range)]
        }
        Instruction::Copy(_) | Instruction::Add(_) => vec![of(keyword, rest, MODULE, node.keyword.range)],
        _ => vec![of(keyword, rest, PROPERTY, node.keyword.range)],
    }
}

fn symbol(
    view: &View<'_>,
    name: &str,
    detail: &str,
    kind: u32,
    range: TextRange,
    own: TextRange,
    children: Vec<Value>,
) -> Value {
    let short = detail
        .char_indices()
        .nth(MAX_DETAIL)
        .map_or(detail.to_owned(), |(end, _)| format!("{}…", &detail[..end]));
    // The protocol wants the name's range inside of the other.
    let own = if range.contains_range(own) { own } else { range };
    let name = if name.is_empty() { "?" } else { name };
    json!({
        "name": name,
        "detail": short,
        "kind": kind,
        "range": view.text.range(range),
        "selectionRange": view.text.range(own),
        "children": children,
    })
}

fn flat(view: &View<'_>, tree: &[Value], container: Option<&str>) -> Vec<Value> {
    let mut out = Vec::new();
    for symbol in tree {
        let mut one = json!({
            "name": symbol["name"],
            "kind": symbol["kind"],
            "location": {"uri": view.uri, "range": symbol["range"]},
        });
        if let Some(container) = container {
            one["containerName"] = container.into();
        }
        out.push(one);
        let children = symbol["children"].as_array().map(Vec::as_slice).unwrap_or_default();
        out.extend(flat(view, children, symbol["name"].as_str()));
    }
    out
}
