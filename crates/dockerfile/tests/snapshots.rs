//! Each folder of testdata/dockerfile holds one quirk; its snapshot shows tree, recipe and errors.

use diagnostic::{Color, SourceFile, render_all};
use dockerfile::parse;
use std::fmt::Write;

/// Long texts are cut, so that limits can be tested.
fn shorten(line: &str) -> String {
    match line.char_indices().nth(600) {
        Some((end, _)) => format!("{}… ({} bytes)", &line[..end], line.len()),
        None => line.to_owned(),
    }
}

fn show(bytes: &[u8]) -> String {
    let parsed = parse(SourceFile::from_bytes("Dockerfile", bytes));
    assert_eq!(parsed.print(), parsed.source.text());
    let mut out = String::from("== tree\n");
    out.push_str(&parsed.tree.dump(parsed.source.text()));
    let recipe = &parsed.recipe;
    let _ = writeln!(out, "== recipe\n{:?}", recipe.directives);
    for arg in &recipe.meta_args {
        let _ = writeln!(out, "{}-{} {:?}", arg.lines.first, arg.lines.last, arg.node);
    }
    for stage in &recipe.stages {
        let lines = stage.from.lines;
        let _ = writeln!(
            out,
            "stage {} {:?} doc {:?} {}-{} {:?}",
            stage.index,
            stage.name,
            stage.doc(),
            lines.first,
            lines.last,
            stage.from.node
        );
        for instruction in &stage.instructions {
            let lines = instruction.lines;
            let _ = writeln!(out, "  {}-{} {:?}", lines.first, lines.last, instruction.node);
            if let dockerfile::Instruction::Run(run) = &instruction.node {
                let _ = writeln!(out, "    {:?}", run.script());
            }
        }
    }
    for empty in &parsed.empty_continuations {
        let _ = writeln!(out, "{}: empty continuation in {:?}", empty.line, empty.original);
    }
    out.push_str("== errors\n");
    out.push_str(&render_all(&parsed.source, &parsed.diagnostics, Color::Never));
    out.lines().map(|line| shorten(line) + "\n").collect()
}

#[test]
fn quirks() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../../testdata/dockerfile/snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        insta::glob!("../../../testdata/dockerfile", "*/Dockerfile", |path| {
            let bytes = std::fs::read(path).expect("read the case");
            insta::assert_snapshot!(show(&bytes));
        });
    });
}
