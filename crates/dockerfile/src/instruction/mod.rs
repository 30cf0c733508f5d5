//! Typed instructions, and how a split line becomes one.
//!
//! Values stay unexpanded: expansion needs variables, which only a planner has.

mod flags;
mod from;
mod health;
mod mount;
mod onbuild;
mod pairs;
mod run;
mod simple;
mod spec;
pub(crate) mod suggest;
mod table;
mod transfer;
mod types;

pub use mount::{Mount, MountError, MountType, Sharing};
pub use spec::{FlagKind, FlagSpec, Form, KeySpec, Spec};
pub use table::INSTRUCTIONS;
pub use types::*;

use crate::error::ErrorKind;
use crate::syntax::{Failure, Statement};

/// What one statement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    From(From),
    Instruction(Instruction),
}

/// Gives meaning to a statement. The order of checks is BuildKit's, so that the same error is found first.
pub(crate) fn read(statement: &Statement) -> Result<Meaning, Failure> {
    let Some(spec) = Spec::find(&statement.keyword.value) else {
        let name = statement.keyword.value.clone();
        let names = INSTRUCTIONS.iter().map(|spec| spec.name);
        let suggestion = suggest::nearest(&name, names, suggest::Case::Ignore);
        return Err((ErrorKind::UnknownInstruction { name, suggestion }, statement.keyword.range));
    };
    let instruction = match spec.name {
        "FROM" => return from::read(statement, spec).map(Meaning::From),
        "RUN" => Instruction::Run(run::read(statement, spec)?),
        "CMD" => Instruction::Cmd(Cmd { command: run::plain(statement, spec)? }),
        "ENTRYPOINT" => Instruction::Entrypoint(Entrypoint { command: run::plain(statement, spec)? }),
        "SHELL" => Instruction::Shell(simple::shell(statement, spec)?),
        "COPY" => Instruction::Copy(transfer::copy(statement, spec)?),
        "ADD" => Instruction::Add(transfer::add(statement, spec)?),
        "ARG" => Instruction::Arg(pairs::arg(statement)?),
        "ENV" => Instruction::Env(Env { pairs: pairs::pairs(statement, spec)? }),
        "LABEL" => Instruction::Label(Label { pairs: pairs::pairs(statement, spec)? }),
        "WORKDIR" => Instruction::Workdir(Workdir { path: simple::one(statement, spec)? }),
        "USER" => Instruction::User(User { user: simple::one(statement, spec)? }),
        "MAINTAINER" => Instruction::Maintainer(Maintainer { name: simple::one(statement, spec)? }),
        "STOPSIGNAL" => Instruction::StopSignal(StopSignal { signal: simple::signal(statement)? }),
        "EXPOSE" => Instruction::Expose(simple::expose(statement, spec)?),
        "VOLUME" => Instruction::Volume(simple::volume(statement, spec)?),
        "HEALTHCHECK" => Instruction::Healthcheck(health::read(statement, spec)?),
        "ONBUILD" => Instruction::Onbuild(onbuild::read(statement, spec)?),
        _ => {
            let name = statement.keyword.value.clone();
            return Err((ErrorKind::UnknownInstruction { name, suggestion: None }, statement.keyword.range));
        }
    };
    Ok(Meaning::Instruction(instruction))
}

pub(crate) use crate::syntax::heredoc_word;
