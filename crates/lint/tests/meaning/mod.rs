//! What a recipe means to BuildKit, apart from how it is written.

use serde_json::Value;

/// What BuildKit sees of a recipe, without lines, comments and the text as written.
pub fn view(parsed: &dockerfile::Parsed) -> Value {
    let mut view = dockerfile::view::buildkit_json("", parsed);
    if let Some(map) = view.as_object_mut() {
        map.remove("parser_warnings");
    }
    for instruction in view["instrs"].as_array_mut().into_iter().flatten() {
        if let Some(map) = instruction.as_object_mut() {
            ["start", "end", "comments", "original"].iter().for_each(|key| {
                map.remove(*key);
            });
            let cmd = map["cmd"].as_str().unwrap_or_default().to_ascii_uppercase();
            map.insert("cmd".into(), cmd.into());
            // The keyword that ONBUILD triggers is an argument in this view.
            if map["cmd"] == "ONBUILD"
                && let Some(args) = map.get_mut("args").and_then(Value::as_array_mut)
            {
                args.iter_mut()
                    .take(1)
                    .for_each(|arg| *arg = arg.as_str().unwrap_or_default().to_ascii_uppercase().into());
            }
        }
    }
    view
}
