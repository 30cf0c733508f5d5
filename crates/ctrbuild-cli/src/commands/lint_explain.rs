//! `ctrbuild lint explain`: all that is said about a rule, or the list of them.

use ctrbuild::{Error, ErrorKind};
use std::process::ExitCode;

pub fn run(name: Option<&str>) -> Result<ExitCode, Error> {
    let Some(name) = name else {
        for rule in lint::RULES {
            println!(
                "{:32} {:8} {:8} {}",
                rule.name,
                rule.aliases.join(","),
                rule.severity.name(),
                rule.summary
            );
        }
        return Ok(ExitCode::SUCCESS);
    };
    let rule = lint::find_rule(name).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("there is no rule {name:?}"))
            .hint("list all rules with `ctrbuild lint explain`")
    })?;
    print!("{}", rule.document());
    Ok(ExitCode::SUCCESS)
}
