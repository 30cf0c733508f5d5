//! FROM.

use super::flags::Flags;
use super::spec::Spec;
use super::types::{From, Word};
use crate::error::ErrorKind;
use crate::syntax::{Failure, Statement};

pub(crate) fn read(statement: &Statement, spec: &'static Spec) -> Result<From, Failure> {
    let (base, as_keyword, name) = match statement.args.as_slice() {
        [base] => (base, None, None),
        [base, word, name] if word.value.eq_ignore_ascii_case("as") => {
            if !is_stage_name(&name.value.to_lowercase()) {
                return Err((ErrorKind::StageName { name: name.value.clone() }, name.range));
            }
            (base, Some(word), Some(name))
        }
        _ => return Err((ErrorKind::FromArguments, statement.range)),
    };
    let platform = Flags::read(statement, spec)?.string("platform");
    Ok(From { base: base.clone(), as_keyword: as_keyword.cloned(), name: name.cloned(), platform })
}

/// `^[a-z][a-z0-9-_.]*$`
fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
}

impl From {
    /// The name in lower case, by which other instructions call the stage.
    pub fn stage_name(&self) -> Option<String> {
        self.name.as_ref().map(|Word { value, .. }| value.to_lowercase())
    }
}
