//! ENV, LABEL and ARG.

use super::flags::Flags;
use super::spec::Spec;
use super::types::{Arg, ArgPair, Pair, PairForm, doc_comment};
use crate::error::ErrorKind;
use crate::syntax::{Failure, Statement};

/// The pairs of ENV and LABEL.
pub(crate) fn pairs(statement: &Statement, spec: &'static Spec) -> Result<Vec<Pair>, Failure> {
    Flags::read(statement, spec)?;
    if statement.args.is_empty() {
        return Err((ErrorKind::NoArguments { instruction: spec.name }, statement.range));
    }
    let mut pairs = Vec::with_capacity(statement.args.len() / 3);
    for words in statement.args.chunks_exact(3) {
        let [key, value, separator] = words else { continue };
        let range = key.range.cover(value.range);
        if key.value.is_empty() {
            return Err((ErrorKind::BlankName { instruction: spec.name }, range));
        }
        let form = if separator.value.is_empty() { PairForm::Blank } else { PairForm::Equals };
        pairs.push(Pair { key: key.value.clone(), value: value.value.clone(), form, range });
    }
    Ok(pairs)
}

/// Descriptions are looked for in comments only up to this much work (names times comment lines), so that a
/// recipe can't make it quadratic.
const MAX_DOC_WORK: usize = 100_000;

/// ARG. BuildKit never looks at flags here.
pub(crate) fn arg(statement: &Statement) -> Result<Arg, Failure> {
    if statement.args.is_empty() {
        return Err((ErrorKind::NoArguments { instruction: "ARG" }, statement.range));
    }
    let mut args = Vec::with_capacity(statement.args.len());
    let comments = match statement.args.len().saturating_mul(statement.comments.len()) {
        0..=MAX_DOC_WORK => statement.comments.as_slice(),
        _ => &[],
    };
    for word in &statement.args {
        let (key, value) = match word.value.split_once('=') {
            Some(("", _)) => return Err((ErrorKind::BlankName { instruction: "ARG" }, word.range)),
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (word.value.as_str(), None),
        };
        let doc = doc_comment(comments, key).map(str::to_owned);
        args.push(ArgPair { key: key.to_owned(), value, doc, range: word.range });
    }
    Ok(Arg { args })
}
