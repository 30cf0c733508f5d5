//! A parsed recipe as other tools would list it.

use crate::error::{ErrorKind, Phase};
use crate::recipe::Parsed;
use serde_json::{Map, Value, json};

/// What BuildKit's parser and instruction reader say of a recipe: `file`, `parse_ok`, `instructions_ok`, the
/// error of the first pass that has one (`parse_error` or `instructions_error`, with `…_line`), `syntax`,
/// `check`, `escape`, `stages`, `stage_names`, `meta_args`, `parser_warnings`, and for every instruction
/// `cmd`, `start`, `end`, `flags`, `args`, `attrs`, `comments`, `heredocs` and `original`. Empty lists and
/// values are left out.
pub fn buildkit_json(file_name: &str, parsed: &Parsed) -> Value {
    let mut out = Map::new();
    let error = |phase: Phase| parsed.errors.iter().find(|error| error.phase == phase);
    out.insert("file".into(), file_name.into());
    let directives = &parsed.recipe.directives;
    let first_word = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
    if let Some(syntax) = &directives.syntax {
        insert_text(&mut out, "syntax", first_word(&syntax.value));
    }
    if let Some(check) = &directives.check {
        insert_text(&mut out, "check", check.value.clone());
    }
    let parse_error = error(Phase::Parse);
    out.insert("parse_ok".into(), parse_error.is_none().into());
    if let Some(error) = parse_error {
        // BuildKit's parser knows no empty file; its frontend looks before it parses.
        let message = match error.kind {
            ErrorKind::EmptyFile => ErrorKind::NoInstructions.to_string(),
            _ => error.buildkit_message(),
        };
        out.insert("parse_error".into(), message.into());
        insert_number(&mut out, "parse_error_line", error.buildkit_line as usize);
        out.insert("instructions_ok".into(), false.into());
        out.insert("stages".into(), 0.into());
        out.insert("meta_args".into(), 0.into());
        return Value::Object(out);
    }
    out.insert("escape".into(), directives.escape.as_char().to_string().into());
    let warnings: Vec<Value> = parsed
        .empty_continuations
        .iter()
        .map(|empty| format!("{}: Empty continuation line found in: {}", empty.line, empty.original).into())
        .collect();
    insert_list(&mut out, "parser_warnings", warnings);
    let instructions_error = error(Phase::Instructions);
    out.insert("instructions_ok".into(), instructions_error.is_none().into());
    match instructions_error {
        Some(error) => {
            out.insert("instructions_error".into(), error.buildkit_message().into());
            insert_number(&mut out, "instructions_error_line", error.buildkit_line as usize);
            out.insert("stages".into(), 0.into());
            out.insert("meta_args".into(), 0.into());
        }
        None => {
            out.insert("stages".into(), parsed.recipe.stages.len().into());
            let names = parsed.recipe.stages.iter();
            let names = names.map(|stage| stage.name.clone().unwrap_or_default().into()).collect();
            insert_list(&mut out, "stage_names", names);
            out.insert("meta_args".into(), parsed.recipe.meta_args.len().into());
        }
    }
    let instructions = parsed.statements.iter().map(|statement| {
        let mut out = Map::new();
        out.insert("cmd".into(), statement.keyword.value.clone().into());
        out.insert("start".into(), statement.lines.first.into());
        out.insert("end".into(), statement.lines.last.into());
        insert_list(
            &mut out,
            "flags",
            statement.flags.iter().map(|flag| flag.value.clone().into()).collect(),
        );
        insert_list(&mut out, "args", statement.flat_args().into_iter().map(Value::from).collect());
        if statement.json {
            out.insert("attrs".into(), json!({"json": true}));
        }
        insert_list(&mut out, "comments", statement.comments.iter().cloned().map(Value::from).collect());
        let heredocs = statement.heredocs.iter().map(|heredoc| {
            json!({
                "name": heredoc.name,
                "fd": heredoc.fd,
                "expand": heredoc.expand,
                "chomp": heredoc.chomp,
                "bytes": parsed.source.byte_len(heredoc.body_range),
            })
        });
        insert_list(&mut out, "heredocs", heredocs.collect());
        out.insert("original".into(), statement.original.clone().into());
        Value::Object(out)
    });
    insert_list(&mut out, "instrs", instructions.collect());
    Value::Object(out)
}

fn insert_text(out: &mut Map<String, Value>, key: &str, value: String) {
    if !value.is_empty() {
        out.insert(key.into(), value.into());
    }
}

fn insert_number(out: &mut Map<String, Value>, key: &str, value: usize) {
    if value != 0 {
        out.insert(key.into(), value.into());
    }
}

fn insert_list(out: &mut Map<String, Value>, key: &str, list: Vec<Value>) {
    if !list.is_empty() {
        out.insert(key.into(), list.into());
    }
}
