//! `ctrbuild inspect --format`: values of an image's JSON in a text, as in docker's `{{.Config.User}}` and
//! `{{json .Config.Env}}`. No other functions of Go's templates.

use super::build::usage;
use super::template::{self, Part};
use ctrbuild::Error;
use serde_json::Value;

enum Piece {
    Text(String),
    Value { path: Vec<String>, json: bool },
}

pub struct Template(Vec<Piece>);

impl Template {
    pub fn parse(text: &str) -> Result<Template, Error> {
        const HINT: &str = "write json, or a text with {{.Name.Name}} or {{json .Name.Name}}";
        let wrong = |what: String| usage(format!("--format {text:?}: {what}")).hint(HINT);
        let mut pieces = Vec::new();
        for part in template::parts(text).map_err(|e| e.hint(HINT))? {
            let action = match part {
                Part::Action(action) => action,
                Part::Text(text) => {
                    pieces.push(Piece::Text(text));
                    continue;
                }
            };
            let words: Vec<&str> = action.split_whitespace().collect();
            let (json, path) = match words[..] {
                [path] => (false, path),
                ["json", path] => (true, path),
                _ => return Err(wrong(format!("{action:?} is not known"))),
            };
            let path = path.strip_prefix('.').ok_or_else(|| wrong(format!("{path:?} is not known")))?;
            let path: Vec<String> = path.split('.').filter(|p| !p.is_empty()).map(str::to_string).collect();
            pieces.push(Piece::Value { path, json });
        }
        match pieces.iter().any(|p| matches!(p, Piece::Value { .. })) {
            true => Ok(Template(pieces)),
            false => Err(wrong("there is no value in it".into())),
        }
    }

    pub fn fill(&self, image: &Value) -> Result<String, Error> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Value { path, json } => {
                    let mut value = image;
                    for name in path {
                        value = match value {
                            // Below the first level what is empty is left out.
                            Value::Object(map) => map.get(name).or((path.len() > 1).then_some(&Value::Null)),
                            Value::Null => Some(&Value::Null),
                            _ => None,
                        }
                        .ok_or_else(|| no_such(image, path, name))?;
                    }
                    match json {
                        true => out.push_str(&diagnostic::escape_json(&value.to_string())),
                        false => out.push_str(&diagnostic::sanitize(&plain(value))),
                    }
                }
            }
        }
        Ok(out)
    }
}

fn no_such(image: &Value, path: &[String], name: &str) -> Error {
    let names =
        image.as_object().map(|map| map.keys().map(|k| format!(".{k}")).collect::<Vec<_>>().join(", "));
    usage(format!("--format: there is no .{}, for want of {name:?}", path.join(".")))
        .hint(format!("there are {}", names.unwrap_or_default()))
}

/// As Go prints: lists in brackets, maps as `map[…]`.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            format!(
                "map[{}]",
                map.iter().map(|(k, v)| format!("{k}:{}", plain(v))).collect::<Vec<_>>().join(" ")
            )
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_errors() {
        let image = serde_json::json!({"Id": "x", "Config": {"Env": ["A=b", "C=d"], "Labels": {"k": "v"}}, "Size": 7});
        let fill = |t: &str| Template::parse(t).and_then(|t| t.fill(&image));
        for (template, expected) in [
            ("{{.Id}}", "x"),
            ("{{ .Id }} is {{.Size}}", "x is 7"),
            ("{{json .Config.Env}}", r#"["A=b","C=d"]"#),
            ("{{.Config.Env}}", "[A=b C=d]"),
            ("{{.Config.Labels}}\\t{{.Config.Labels.k}}", "map[k:v]\tv"),
            ("{{.Config.User}}|{{json .Config.User}}", "|null"),
        ] {
            assert_eq!(fill(template).unwrap(), expected, "{template}");
        }
        for bad in [
            "",
            "yaml",
            "{{.Id",
            "{{range .Config.Env}}",
            "{{Id}}",
            "{{.Idd}}",
            "{{.Id.x}}",
            "{{.Config.Env.x}}",
        ] {
            assert!(fill(bad).is_err(), "{bad}");
        }
    }
}
