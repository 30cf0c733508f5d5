//! `ctrbuild lint explain`: all that is said about a rule, or the list of them. Rules of `ctrbuild.toml` here and above are
//! among them.

use ctrbuild::{Error, ErrorKind};
use diagnostic::sanitize;
use lint::config::Config;
use std::process::ExitCode;

pub fn run(name: Option<&str>, config: &Config) -> Result<ExitCode, Error> {
    let custom = config.options("Dockerfile").custom;
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
        for rule in &custom {
            let (name, severity, message) = rule.row();
            println!("{name:32} {:8} {severity:8} {}", "", sanitize(message));
        }
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(rule) = custom.iter().find(|rule| rule.name() == name) {
        print!("{}", diagnostic::sanitize_lines(&rule.document()));
        return Ok(ExitCode::SUCCESS);
    }
    let rule = lint::find_rule(name).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("there is no rule {name:?}"))
            .hint("list all rules with `ctrbuild lint explain`")
    })?;
    print!("{}", rule.document());
    Ok(ExitCode::SUCCESS)
}
