//! RUN, and the commands of CMD, ENTRYPOINT and HEALTHCHECK.

use super::flags::Flags;
use super::mount::{self, MountError};
use super::spec::Spec;
use super::types::{Command, Device, Network, Run, Security, Word};
use crate::error::ErrorKind;
use crate::syntax::{Failure, Statement};
use diagnostic::TextRange;

/// The words `args` of `statement` as a command.
pub(crate) fn command(statement: &Statement, args: &[Word]) -> Command {
    match (statement.json, args) {
        (true, args) => Command::Exec(args.to_vec()),
        (false, [word]) => Command::Shell(word.clone()),
        (false, words) => {
            let text = words.iter().map(Word::as_str).collect::<Vec<_>>().join(" ");
            let range = match (words.first(), words.last()) {
                (Some(first), Some(last)) => first.range.cover(last.range),
                _ => TextRange::empty(statement.range.end),
            };
            Command::Shell(Word::new(text, range))
        }
    }
}

/// The command of an instruction without flags.
pub(crate) fn plain(statement: &Statement, spec: &'static Spec) -> Result<Command, Failure> {
    Flags::read(statement, spec)?;
    Ok(command(statement, &statement.args))
}

pub(crate) fn read(statement: &Statement, spec: &'static Spec) -> Result<Run, Failure> {
    let mut flags = Flags::read(statement, spec)?;
    let mut devices = Vec::new();
    for word in flags.list("device") {
        let (name, required) = device(&word.value).map_err(|error| (ErrorKind::Device(error), word.range))?;
        devices.push(Device { name, required, range: word.range });
    }
    let mounts = flags.list("mount");
    for word in &mounts {
        mount::Mount::check(&word.value).map_err(|error| (ErrorKind::Mount(error), word.range))?;
    }
    let network = match flags.any("network") {
        None => Network::Default,
        Some(word) => match word.value.as_str() {
            "default" => Network::Default,
            "none" => Network::None,
            "host" => Network::Host,
            _ => return Err((ErrorKind::Network { value: word.value }, word.range)),
        },
    };
    let security = match flags.any("security") {
        None => Security::Sandbox,
        Some(word) => match word.value.as_str() {
            "sandbox" => Security::Sandbox,
            "insecure" => Security::Insecure,
            _ => return Err((ErrorKind::Security { value: word.value }, word.range)),
        },
    };
    let command = command(statement, &statement.args);
    Ok(Run { command, heredocs: statement.heredocs.clone(), mounts, network, security, devices })
}

/// Reads the value of `--device`.
fn device(text: &str) -> Result<(String, bool), MountError> {
    let (mut name, mut required) = (String::new(), false);
    for field in mount::csv_fields(text).map_err(|error| error.of("devices"))? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("required", None) => required = true,
            ("required", Some(value)) => required = mount::parse_bool(&key, value)?,
            ("name", Some(_)) if !name.is_empty() => return Err(MountError::DeviceNameTwice { name }),
            ("name", Some(value)) => value.clone_into(&mut name),
            _ if name.is_empty() => name = field,
            (_, None) => return Err(MountError::NoValue { field }),
            (_, Some(_)) => return Err(MountError::unexpected_key(key, field, &["name", "required"])),
        }
    }
    Ok((name, required))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        assert_eq!(device("vendor.com/a=b,required").ok(), Some(("vendor.com/a=b".into(), true)));
        assert_eq!(device("name=x,required=0").ok(), Some(("x".into(), false)));
        assert_eq!(device("x").ok(), Some(("x".into(), false)));
        let message = |text| device(text).map_err(|error| error.to_string()).err();
        assert_eq!(message("x,name=y").as_deref(), Some("device name already set to x"));
        assert_eq!(message("x,y").as_deref(), Some("invalid field 'y' must be a key=value pair"));
        assert_eq!(
            message("x,requird=1").as_deref(),
            Some("unexpected key 'requird' in 'requird=1' (did you mean required?)")
        );
        assert_eq!(message("x,required=maybe").as_deref(), Some("invalid value for required: maybe"));
        assert_eq!(message("").as_deref(), Some("failed to parse csv devices: EOF"));
    }
}
