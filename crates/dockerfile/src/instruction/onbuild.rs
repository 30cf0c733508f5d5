//! ONBUILD.

use super::spec::Spec;
use super::types::Onbuild;
use super::{Meaning, flags::Flags};
use crate::error::ErrorKind;
use crate::syntax::{Failure, Statement};

pub(crate) fn read(statement: &Statement, spec: &'static Spec) -> Result<Onbuild, Failure> {
    let Some(sub) = statement.sub.as_deref() else {
        return Err((ErrorKind::NoArguments { instruction: spec.name }, statement.range));
    };
    Flags::read(statement, spec)?;
    match sub.keyword.value.trim().to_uppercase().as_str() {
        "ONBUILD" => return Err((ErrorKind::OnbuildChain, sub.keyword.range)),
        name @ ("MAINTAINER" | "FROM") => {
            return Err((ErrorKind::OnbuildTrigger { name: name.to_owned() }, sub.keyword.range));
        }
        _ => {}
    }
    let mut expression = without_keyword(&statement.original).to_owned();
    for heredoc in &statement.heredocs {
        expression.push('\n');
        expression.push_str(&heredoc.body);
        expression.push_str(&heredoc.name);
    }
    let mut trigger = sub.clone();
    trigger.heredocs.clone_from(&statement.heredocs);
    let trigger = match super::read(&trigger) {
        Ok(Meaning::Instruction(instruction)) => Some(Box::new(instruction)),
        Ok(Meaning::From(_)) | Err(_) => None,
    };
    Ok(Onbuild { expression, trigger })
}

/// Drops `ONBUILD` and white space around it from the front.
fn without_keyword(line: &str) -> &str {
    let space = ['\t', '\n', '\x0c', '\r', ' '];
    let start = line.trim_start_matches(space);
    match start.get(..7) {
        Some(word) if word.eq_ignore_ascii_case("ONBUILD") => start[7..].trim_start_matches(space),
        _ => line,
    }
}
