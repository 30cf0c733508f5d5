//! Instructions that are little more than their arguments: WORKDIR, USER, MAINTAINER, STOPSIGNAL, EXPOSE,
//! VOLUME, SHELL.

use super::flags::Flags;
use super::spec::Spec;
use super::types::{Expose, Shell, Volume, Word};
use crate::error::ErrorKind;
use crate::syntax::{Failure, Statement};

/// Exactly one argument and no flags.
pub(crate) fn one(statement: &Statement, spec: &'static Spec) -> Result<Word, Failure> {
    let [word] = statement.args.as_slice() else {
        return Err((ErrorKind::NotOneArgument { instruction: spec.name }, statement.range));
    };
    Flags::read(statement, spec)?;
    Ok(word.clone())
}

/// As [`one`], but BuildKit never looks at flags here.
pub(crate) fn signal(statement: &Statement) -> Result<Word, Failure> {
    match statement.args.as_slice() {
        [word] => Ok(word.clone()),
        _ => Err((ErrorKind::NotOneArgument { instruction: "STOPSIGNAL" }, statement.range)),
    }
}

fn some(statement: &Statement, spec: &'static Spec) -> Result<(), Failure> {
    match statement.args.is_empty() {
        true => Err((ErrorKind::NoArguments { instruction: spec.name }, statement.range)),
        false => Flags::read(statement, spec).map(drop),
    }
}

pub(crate) fn expose(statement: &Statement, spec: &'static Spec) -> Result<Expose, Failure> {
    some(statement, spec)?;
    let mut ports = statement.args.clone();
    ports.sort_by(|a, b| a.value.cmp(&b.value));
    Ok(Expose { ports })
}

pub(crate) fn volume(statement: &Statement, spec: &'static Spec) -> Result<Volume, Failure> {
    some(statement, spec)?;
    let mut volumes = Vec::with_capacity(statement.args.len());
    for word in &statement.args {
        let path = word.value.trim();
        if path.is_empty() {
            return Err((ErrorKind::EmptyVolume, word.range));
        }
        volumes.push(Word::new(path.to_owned(), word.range));
    }
    Ok(Volume { volumes, json: statement.json })
}

pub(crate) fn shell(statement: &Statement, spec: &'static Spec) -> Result<Shell, Failure> {
    Flags::read(statement, spec)?;
    if statement.args.is_empty() {
        return Err((ErrorKind::NoArguments { instruction: spec.name }, statement.range));
    }
    match statement.json {
        true => Ok(Shell { shell: statement.args.clone() }),
        false => Err((ErrorKind::ShellNotJson, statement.range)),
    }
}
