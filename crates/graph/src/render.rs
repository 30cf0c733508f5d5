//! A graph as text and as Graphviz dot, for people.

use crate::{Graph, Op, Selector, SourceOp, VertexRef};
use std::fmt::Write;

fn kind(op: &Op) -> &'static str {
    match op {
        Op::Source(SourceOp::Image(_)) => "image",
        Op::Source(SourceOp::Local(_)) => "local",
        Op::Source(SourceOp::Http(_)) => "http",
        Op::Source(SourceOp::Git(_)) => "git",
        Op::Exec(_) => "exec",
        Op::File(_) => "file",
        Op::Merge => "merge",
    }
}

/// One line a vertex that `target` needs: number, kind, name, inputs.
pub fn to_text(graph: &Graph, target: Option<VertexRef>) -> String {
    let mut out = String::new();
    let Some(target) = target else {
        return "(empty image)\n".to_string();
    };
    for v in graph.reachable(target) {
        let vertex = graph.get(v);
        let _ = write!(out, "#{} {} {}", v.0, kind(&vertex.op), vertex.provenance.name);
        for (i, input) in vertex.inputs.iter().enumerate() {
            let _ = write!(out, "{}#{}", if i == 0 { " <- " } else { ", " }, input.edge.vertex.0);
            if let Selector::Paths(paths) = &input.selector {
                let names: Vec<&str> = paths.iter().map(|p| p.path.as_str()).collect();
                let _ = write!(out, "[{}]", names.join(" "));
            }
        }
        out.push('\n');
    }
    out
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Graphviz source of what `target` needs.
pub fn to_dot(graph: &Graph, target: Option<VertexRef>) -> String {
    let mut out = String::from("digraph build {\n  rankdir=BT;\n  node [shape=box];\n");
    for v in target.map(|t| graph.reachable(t)).unwrap_or_default() {
        let vertex = graph.get(v);
        let label = format!("{}: {}", kind(&vertex.op), vertex.provenance.name);
        let _ = writeln!(out, "  v{} [label={}];", v.0, quote(&label));
        for input in &vertex.inputs {
            let _ = match &input.selector {
                Selector::Whole => writeln!(out, "  v{} -> v{};", input.edge.vertex.0, v.0),
                Selector::Paths(paths) => {
                    let names: Vec<&str> = paths.iter().map(|p| p.path.as_str()).collect();
                    let label = quote(&names.join("\n"));
                    writeln!(out, "  v{} -> v{} [style=dashed,label={label}];", input.edge.vertex.0, v.0)
                }
            };
        }
    }
    out.push_str("}\n");
    out
}
