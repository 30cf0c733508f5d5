//! `ctrbuild images --format`: templates as docker's, with its names of fields and more.

use super::build::usage;
use super::template::{self, Part};
use ctrbuild::Error;

/// Fields, and the headings of their columns.
const FIELDS: [(&str, &str); 15] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Kind", "KIND"),
    ("Parent", "PARENT"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Publisher", "PUBLISHER"),
    ("Version", "VERSION"),
    ("IsOSImage", "IS OS IMAGE"),
    ("Platforms", "PLATFORMS"),
];

/// A piece of a template.
enum Piece {
    Text(String),
    /// By its place in [`FIELDS`].
    Field(usize),
    Tab,
}

/// A parsed template.
pub struct Template {
    pieces: Vec<Piece>,
    /// Columns with headings.
    pub table: bool,
}

impl Template {
    /// `{{.Repository}}:{{.Tag}}`, `table {{.ID}}\t{{.Kind}}`.
    pub fn parse(text: &str) -> Result<Template, Error> {
        let (table, text) = match text.strip_prefix("table ") {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        if !text.contains("{{") {
            return Err(usage(format!("there is no format {text:?}"))
                .hint("table, json, or a template such as '{{.Repository}}:{{.Tag}}'"));
        }
        let mut pieces = Vec::new();
        for part in template::parts(text)? {
            let name = match part {
                Part::Action(name) => name,
                Part::Text(text) => {
                    columns(&text, &mut pieces);
                    continue;
                }
            };
            let field = name.strip_prefix('.').and_then(|n| FIELDS.iter().position(|(field, _)| *field == n));
            let known = || FIELDS.map(|(field, _)| format!(".{field}")).join(", ");
            pieces.push(Piece::Field(field.ok_or_else(|| {
                usage(format!("--format: there is no field {name:?}")).hint(format!("there are {}", known()))
            })?));
        }
        Ok(Template { pieces, table })
    }

    /// Whether a field is asked for.
    pub fn has(&self, names: &[&str]) -> bool {
        self.pieces.iter().any(|p| matches!(p, Piece::Field(n) if names.contains(&FIELDS[*n].0)))
    }

    /// The headings.
    pub fn headings(&self) -> Vec<String> {
        self.fill(|n| FIELDS[n].1.to_string())
    }

    /// One line as its columns; `value` knows the fields by name.
    pub fn row(&self, value: impl Fn(&str) -> String) -> Vec<String> {
        self.fill(|n| value(FIELDS[n].0))
    }

    fn fill(&self, value: impl Fn(usize) -> String) -> Vec<String> {
        let mut columns = vec![String::new()];
        for piece in &self.pieces {
            let text = match piece {
                Piece::Tab => {
                    columns.push(String::new());
                    continue;
                }
                Piece::Text(text) => text.clone(),
                Piece::Field(n) => value(*n),
            };
            if let Some(last) = columns.last_mut() {
                last.push_str(&text);
            }
        }
        columns
    }
}

fn columns(text: &str, pieces: &mut Vec<Piece>) {
    for (n, part) in text.split('\t').enumerate() {
        if n > 0 {
            pieces.push(Piece::Tab);
        }
        if !part.is_empty() {
            pieces.push(Piece::Text(part.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let row = |text: &str| Template::parse(text).unwrap().row(str::to_lowercase);
        assert_eq!(row("{{.Repository}}:{{ .Tag }}"), ["repository:tag"]);
        assert_eq!(row("table {{.ID}}\\t{{.Kind}}x"), ["id", "kindx"]);
        assert_eq!(Template::parse("table {{.ID}}\t{{.Parent}}").unwrap().headings(), ["IMAGE ID", "PARENT"]);
        for bad in ["x", "{{.Nothing}}", "{{.ID", "{{ID}}"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
