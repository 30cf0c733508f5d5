//! Texts with `{{…}}` in them, as in docker's `--format`.

use super::build::usage;
use ctrbuild::Error;

/// A piece of such a text.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'t> {
    /// With tabs and line ends for `\\t` and `\\n`, which shells pass on as they are written.
    Text(String),
    /// What is between the braces, without blanks around it.
    Action(&'t str),
}

/// The pieces of `text`; no text is empty.
pub fn parts(text: &str) -> Result<Vec<Part<'_>>, Error> {
    let mut out = Vec::new();
    let literal = |text: &str, out: &mut Vec<Part<'_>>| {
        if !text.is_empty() {
            out.push(Part::Text(text.replace("\\t", "\t").replace("\\n", "\n")));
        }
    };
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        literal(before, &mut out);
        let Some((action, after)) = after.split_once("}}") else {
            return Err(usage(format!("--format {text:?}: `{{{{` has no `}}}}`")));
        };
        out.push(Part::Action(action.trim()));
        rest = after;
    }
    literal(rest, &mut out);
    Ok(out)
}
