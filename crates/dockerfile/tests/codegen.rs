//! The checked-in table and reference page are what the grammar file gives. With `BLESS=1` they are written.

use dockerfile::codegen;
use std::path::Path;

fn check(path: &str, expected: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, expected).expect("write the generated file");
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == expected, "{path} is stale: run `cargo xtask codegen`");
}

#[test]
fn generated_files_are_fresh() {
    let grammar = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(codegen::GRAMMAR_PATH);
    let grammar = std::fs::read_to_string(grammar).expect("read the grammar file");
    check(codegen::TABLE_PATH, &codegen::table(&grammar).expect("table"));
    check(codegen::REFERENCE_PATH, &codegen::reference(&grammar).expect("reference"));
}

#[test]
fn a_bad_grammar_is_an_error() {
    assert!(codegen::table("[[instruction]]\nname = 1").is_err());
    assert!(codegen::reference("unknown = 1").is_err());
}

/// The grammar for people names every quirk that has a case.
#[test]
fn the_grammar_names_every_case() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let grammar = std::fs::read_to_string(root.join("grammar/dockerfile.ebnf")).expect("read the grammar");
    for entry in std::fs::read_dir(root.join("testdata/dockerfile")).expect("list cases") {
        let name = entry.expect("entry").file_name().into_string().expect("UTF-8");
        assert!(name == "snapshots" || grammar.contains(&format!("[{name}]")), "{name} is not named");
    }
}
