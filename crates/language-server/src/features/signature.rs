//! The synopsis of the instruction that is being written, with the argument that comes next.

use super::{View, completion};
use dockerfile::Spec;
use serde_json::{Value, json};

/// The synopses at a byte; `None` outside of arguments.
pub fn at(view: &View<'_>, offset: u32) -> Option<Value> {
    let written = completion::written(view, offset)?;
    let mut rest = written.trim_start();
    let spec = loop {
        let (keyword, args) = rest.split_once(char::is_whitespace)?;
        let spec = Spec::find(keyword)?;
        rest = args.trim_start();
        // The trigger of ONBUILD, as soon as there is one.
        if spec.name != "ONBUILD" || rest.split_whitespace().next().and_then(Spec::find).is_none() {
            break spec;
        }
    };
    let (before, word) = rest.rsplit_once(char::is_whitespace).unwrap_or(("", rest));
    let flags_only = before.split_whitespace().all(|word| word.starts_with("--"));
    let args = before.split_whitespace().filter(|word| !word.starts_with("--")).count();
    let first = rest.split_whitespace().find(|word| !word.starts_with("--"));
    let json_form = first.is_some_and(|word| word.starts_with('['));
    let signatures: Vec<Value> = spec
        .usage
        .iter()
        .map(|usage| {
            let parameters: Vec<&str> = usage.split(' ').skip(1).collect();
            let takes_flags = parameters
                .first()
                .is_some_and(|first| first.starts_with("[<flags>") || first.starts_with("[--"));
            let active = match flags_only && word.starts_with('-') {
                true => 0,
                false => args + usize::from(takes_flags),
            };
            let many = parameters.iter().position(|one| one.contains('…')).map_or(usize::MAX, |at| {
                // `<name>=<value> …`: the one before is meant again.
                if parameters[at] == "…" { at.saturating_sub(1) } else { at }
            });
            let active = active.min(many).min(parameters.len().saturating_sub(1));
            let list: Vec<Value> = parameters.iter().map(|one| json!({"label": one})).collect();
            json!({"label": usage, "documentation": spec.doc, "parameters": list, "activeParameter": active})
        })
        .collect();
    let active = spec.usage.iter().position(|usage| usage.contains("[\"") == json_form).unwrap_or(0);
    let parameter = signatures.get(active).map_or(Value::Null, |one| one["activeParameter"].clone());
    Some(json!({"signatures": signatures, "activeSignature": active, "activeParameter": parameter}))
}
