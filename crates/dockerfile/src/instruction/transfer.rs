//! COPY and ADD.

use super::flags::Flags;
use super::spec::Spec;
use super::types::{Add, Copy, SourceContent, Transfer, strip_leading_tabs};
use crate::error::ErrorKind;
use crate::syntax::{Failure, Statement, heredoc_word};
use std::collections::HashMap;

fn flags(statement: &Statement, spec: &'static Spec) -> Result<Flags, Failure> {
    if statement.args.len() < 2 {
        return Err((ErrorKind::NoDestination { instruction: spec.name }, statement.range));
    }
    Flags::read(statement, spec)
}

fn transfer(statement: &Statement, spec: &'static Spec) -> Result<Transfer, Failure> {
    let Some((dest, words)) = statement.args.split_last() else {
        return Err((ErrorKind::NoDestination { instruction: spec.name }, statement.range));
    };
    if heredoc_word(&dest.value).is_some() {
        return Err((ErrorKind::HeredocDestination { instruction: spec.name }, dest.range));
    }
    let (mut sources, mut contents) = (Vec::new(), Vec::new());
    // Of two heredocs with one name the last body counts; in JSON form there is no body at all.
    let bodies: HashMap<&str, &str> =
        statement.heredocs.iter().map(|heredoc| (heredoc.name.as_str(), heredoc.body.as_str())).collect();
    for word in words {
        let Some(mark) = heredoc_word(&word.value) else {
            sources.push(word.clone());
            continue;
        };
        let body = bodies.get(mark.name.as_str()).copied().unwrap_or_default();
        contents.push(SourceContent {
            body: if mark.chomp { strip_leading_tabs(body) } else { body.to_owned() },
            name: mark.name,
            expand: mark.expand,
            range: word.range,
        });
    }
    Ok(Transfer { sources, contents, dest: dest.clone(), json: statement.json })
}

pub(crate) fn copy(statement: &Statement, spec: &'static Spec) -> Result<Copy, Failure> {
    let mut flags = flags(statement, spec)?;
    Ok(Copy {
        transfer: transfer(statement, spec)?,
        from: flags.string("from"),
        chown: flags.string("chown"),
        chmod: flags.string("chmod"),
        link: flags.bool("link").unwrap_or(false),
        parents: flags.bool("parents").unwrap_or(false),
        excludes: flags.list("exclude"),
    })
}

pub(crate) fn add(statement: &Statement, spec: &'static Spec) -> Result<Add, Failure> {
    let mut flags = flags(statement, spec)?;
    Ok(Add {
        transfer: transfer(statement, spec)?,
        chown: flags.string("chown"),
        chmod: flags.string("chmod"),
        link: flags.bool("link").unwrap_or(false),
        keep_git_dir: flags.bool("keep-git-dir"),
        checksum: flags.string("checksum"),
        unpack: flags.bool("unpack"),
        excludes: flags.list("exclude"),
    })
}
