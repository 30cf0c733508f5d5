//! Writes the parser's table and the reference page from grammar/instructions.toml.
//!
//! Pure: text in, text out. xtask reads and writes the files.

use serde::Deserialize;
use std::fmt::Write;

/// Where the input is, from the root of the repository.
pub const GRAMMAR_PATH: &str = "grammar/instructions.toml";
/// Where [`table`]'s output belongs.
pub const TABLE_PATH: &str = "crates/dockerfile/src/instruction/table.rs";
/// Where [`reference`]'s output belongs.
pub const REFERENCE_PATH: &str = "docs/reference/instructions.md";

/// The grammar file does not have the expected shape.
#[derive(Debug, thiserror::Error)]
#[error("can't read the grammar file")]
pub struct GrammarError(#[from] toml::de::Error);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grammar {
    instruction: Vec<Instruction>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Instruction {
    name: String,
    form: Form,
    usage: Vec<String>,
    doc: String,
    #[serde(default)]
    expand: bool,
    #[serde(default)]
    heredocs: bool,
    #[serde(default = "yes")]
    onbuild: bool,
    #[serde(default)]
    layer: bool,
    #[serde(default)]
    flag: Vec<Flag>,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
enum Form {
    Words,
    Line,
    Command,
    List,
    Names,
    Pairs,
    Healthcheck,
    Instruction,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flag {
    name: String,
    kind: Kind,
    value: Option<String>,
    default: Option<String>,
    #[serde(default)]
    expand: bool,
    doc: String,
    #[serde(default)]
    key: Vec<Key>,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Bool,
    String,
    List,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    name: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    types: Vec<String>,
    default: Option<String>,
    doc: String,
}

const fn yes() -> bool {
    true
}

/// The Rust source of the table.
///
/// # Errors
/// The text is no grammar file.
pub fn table(grammar: &str) -> Result<String, GrammarError> {
    let grammar: Grammar = toml::from_str(grammar)?;
    let mut out = String::from(
        "//! The table of instructions and flags.\n//!\n//! Generated from grammar/instructions.toml by `cargo xtask codegen`; do not \
         edit.\n\nuse super::spec::{FlagKind, FlagSpec, Form, KeySpec, Spec};\n\n/// Every instruction there is.\n#[rustfmt::skip]\npub static INSTRUCTIONS: &[Spec] = &[\n",
    );
    for instruction in &grammar.instruction {
        let _ = writeln!(
            out,
            "    Spec {{\n        name: {:?},\n        form: Form::{:?},\n        usage: &{:?},\n        expand: {},\n        heredocs: {},\n        onbuild: {},\n        doc: {:?},",
            instruction.name,
            instruction.form,
            instruction.usage,
            instruction.expand,
            instruction.heredocs,
            instruction.onbuild,
            instruction.doc
        );
        if instruction.flag.is_empty() {
            out.push_str("        flags: &[],\n");
        } else {
            out.push_str("        flags: &[\n");
            for flag in &instruction.flag {
                let _ = write!(
                    out,
                    "            FlagSpec {{ name: {:?}, kind: FlagKind::{:?}, value: {:?}, default: {:?}, expand: {}, doc: {:?}, keys: &[",
                    flag.name,
                    flag.kind,
                    flag.value.as_deref().unwrap_or_default(),
                    flag.default.as_deref().unwrap_or_default(),
                    flag.expand,
                    flag.doc
                );
                for key in &flag.key {
                    let _ = write!(
                        out,
                        "\n                KeySpec {{ name: {:?}, aliases: &{:?}, types: &{:?}, default: {:?}, doc: {:?} }},",
                        key.name,
                        key.aliases,
                        key.types,
                        key.default.as_deref().unwrap_or_default(),
                        key.doc
                    );
                }
                let end = if flag.key.is_empty() { "] },\n" } else { "\n            ] },\n" };
                out.push_str(end);
            }
            out.push_str("        ],\n");
        }
        out.push_str("    },\n");
    }
    out.push_str("];\n");
    Ok(out)
}

/// The reference page in Markdown.
///
/// # Errors
/// The text is no grammar file.
pub fn reference(grammar: &str) -> Result<String, GrammarError> {
    let grammar: Grammar = toml::from_str(grammar)?;
    let mut out = String::from(
        "<!-- Generated from grammar/instructions.toml by `cargo xtask codegen`; do not edit. -->\n\n# Instructions\n\n",
    );
    for instruction in &grammar.instruction {
        let _ = writeln!(out, "- [{0}](#{1})", instruction.name, instruction.name.to_lowercase());
    }
    for instruction in &grammar.instruction {
        let _ = writeln!(out, "\n## {}\n\n```dockerfile", instruction.name);
        for usage in &instruction.usage {
            let _ = writeln!(out, "{usage}");
        }
        let _ = writeln!(out, "```\n\n{}\n", instruction.doc);
        let yes_no = |yes| if yes { "yes" } else { "no" };
        let _ = writeln!(
            out,
            "Variables in arguments expand: {}. Makes a layer: {}. May stand behind ONBUILD: {}.",
            yes_no(instruction.expand),
            yes_no(instruction.layer),
            yes_no(instruction.onbuild)
        );
        if !instruction.flag.is_empty() {
            out.push_str("\n| flag | default | variables expand | |\n|---|---|---|---|\n");
        }
        for flag in &instruction.flag {
            let value = match (&flag.kind, &flag.value) {
                (Kind::Bool, _) => "[=true\\|false]".to_owned(),
                (_, value) => format!("={}", escape(value.as_deref().unwrap_or("<value>"))),
            };
            let many = if matches!(flag.kind, Kind::List) { " May be given many times." } else { "" };
            let _ = writeln!(
                out,
                "| `--{}`{value} | {} | {} | {}{many} |",
                flag.name,
                escape(flag.default.as_deref().unwrap_or("")),
                yes_no(flag.expand),
                escape(&flag.doc)
            );
        }
        for flag in instruction.flag.iter().filter(|flag| !flag.key.is_empty()) {
            let _ = writeln!(
                out,
                "\n### Keys of `--{}`\n\n| key | for | default | |\n|---|---|---|---|",
                flag.name
            );
            for key in &flag.key {
                let names: Vec<String> =
                    std::iter::once(&key.name).chain(&key.aliases).map(|name| format!("`{name}`")).collect();
                let types = if key.types.is_empty() { "all".to_owned() } else { key.types.join(", ") };
                let _ = writeln!(
                    out,
                    "| {} | {types} | {} | {} |",
                    names.join(", "),
                    escape(key.default.as_deref().unwrap_or("")),
                    escape(&key.doc)
                );
            }
        }
    }
    Ok(out)
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "\\<")
}
