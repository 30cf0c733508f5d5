//! `RUN --mount`.

use super::suggest;
use crate::word::quote;

/// What is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MountType {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A folder that outlives the build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret file or variable.
    Secret,
    /// An ssh agent's socket.
    Ssh,
}

impl MountType {
    const NAMES: [&'static str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }

    fn parse(value: &str) -> Option<Self> {
        Some(match value {
            "bind" => Self::Bind,
            "cache" => Self::Cache,
            "tmpfs" => Self::Tmpfs,
            "secret" => Self::Secret,
            "ssh" => Self::Ssh,
            _ => return None,
        })
    }
}

/// Who may use a cache at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Everyone.
    #[default]
    Shared,
    /// Everyone gets one of their own.
    Private,
    /// One after the other.
    Locked,
}

impl Sharing {
    const NAMES: [&'static str; 3] = ["shared", "private", "locked"];
}

/// One mount with variables expanded. What is not given is `None` or empty: defaults that depend on the
/// stage (targets, ids) are the planner's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// `type`.
    pub kind: MountType,
    /// `from`; empty where it is not given.
    pub from: String,
    /// `source`; empty where it is not given.
    pub source: String,
    /// `target`; empty where it is not given.
    pub target: String,
    /// `readonly` or its default: true but for cache and tmpfs.
    pub read_only: bool,
    /// `size` in bytes; 0 where it is not given.
    pub size: i64,
    /// `id`; empty where it is not given.
    pub id: String,
    /// `sharing`.
    pub sharing: Option<Sharing>,
    /// `required`.
    pub required: bool,
    /// `env`.
    pub env: Option<String>,
    /// `mode`.
    pub mode: Option<u32>,
    /// `uid`.
    pub uid: Option<u32>,
    /// `gid`.
    pub gid: Option<u32>,
}

/// A mount or device that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The value is no CSV.
    #[error("failed to parse csv {what}: {reason}")]
    Csv {
        /// mounts or devices.
        what: &'static str,
        /// Go's words.
        reason: String,
    },
    /// A key without value that needs one.
    #[error("invalid field '{field}' must be a key=value pair")]
    NoValue {
        /// The field.
        field: String,
    },
    /// A key that this type does not have.
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    KeyOfOtherType {
        /// The key.
        key: String,
        /// The mount's type.
        kind: &'static str,
    },
    /// No such key.
    #[error("unexpected key '{key}' in '{field}'{}", suggest::did_you_mean(.suggestion))]
    UnknownKey {
        /// In lower case.
        key: String,
        /// As written.
        field: String,
        /// What may have been meant.
        suggestion: Option<String>,
    },
    /// A variable in `from`.
    #[error("'from' doesn't support variable expansion, define alias stage instead")]
    VariableInFrom,
    /// No such type.
    #[error("unsupported mount type {}{}", quote(.value), suggest::did_you_mean(.suggestion))]
    UnknownType {
        /// As written.
        value: String,
        /// What may have been meant.
        suggestion: Option<String>,
    },
    /// No such sharing.
    #[error("unsupported sharing value {}{}", quote(.value), suggest::did_you_mean(.suggestion))]
    UnknownSharing {
        /// As written.
        value: String,
        /// What may have been meant.
        suggestion: Option<String>,
    },
    /// A boolean or size that can't be read.
    #[error("invalid value for {key}: {value}")]
    BadValue {
        /// The key.
        key: String,
        /// As written.
        value: String,
    },
    /// A mode, uid or gid that can't be read.
    #[error("invalid value {value} for {key}")]
    BadNumber {
        /// The key.
        key: &'static str,
        /// As written.
        value: String,
    },
    /// mode, uid or gid where nothing is created.
    #[error("{key} not allowed for {} type mounts", quote(.kind))]
    NotAllowed {
        /// The key.
        key: &'static str,
        /// The mount's type.
        kind: &'static str,
    },
    /// A secret from somewhere.
    #[error("secret mount should not have a from")]
    SecretFrom,
    /// A secret with sharing.
    #[error("secret mount should not define sharing")]
    SecretSharing,
    /// A secret without any name.
    #[error("invalid secret mount. one of source, target required")]
    SecretNameless,
    /// A secret with two names.
    #[error("both source and id can't be set")]
    SecretTwoNames,
    /// Sharing of something else than a cache.
    #[error("invalid cache sharing set for {kind} mount")]
    SharingWithoutCache {
        /// The mount's type.
        kind: &'static str,
    },
    /// A device with two names.
    #[error("device name already set to {name}")]
    DeviceNameTwice {
        /// The first.
        name: String,
    },
}

impl MountError {
    pub(crate) fn unexpected_key(key: String, field: String, keys: &[&'static str]) -> Self {
        let suggestion = suggest::nearest(&key, keys.iter().copied(), suggest::Case::Sensitive);
        Self::UnknownKey { key, field, suggestion }
    }

    pub(crate) fn of(self, what: &'static str) -> Self {
        match self {
            Self::Csv { reason, .. } => Self::Csv { what, reason },
            other => other,
        }
    }

    /// What to do about it, where that is not plain from the message.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Csv { .. } => {
                "write `key=value` pairs with commas between; a value with a comma needs quotes".into()
            }
            Self::VariableInFrom => "add a stage `FROM $IMAGE AS name` and write `from=name`".into(),
            Self::UnknownType { .. } => format!("use one of {}", MountType::NAMES.join(", ")),
            Self::UnknownSharing { .. } => format!("use one of {}", Sharing::NAMES.join(", ")),
            Self::SecretNameless => "write `type=secret,id=NAME`".into(),
            _ => return None,
        })
    }
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl Mount {
    /// What can be said before variables are known: the value is CSV, and `from` has no variable.
    ///
    /// # Errors
    /// [`MountError::Csv`], [`MountError::VariableInFrom`].
    pub fn check(text: &str) -> Result<(), MountError> {
        for field in csv_fields(text)? {
            if let Some((key, value)) = field.split_once('=')
                && key.eq_ignore_ascii_case("from")
                && value.find('$').is_some_and(|at| at + 1 != value.len())
            {
                return Err(MountError::VariableInFrom);
            }
        }
        Ok(())
    }

    /// Reads the value of `--mount`. Each value is given to `expand` first.
    ///
    /// # Errors
    /// What `expand` says, or a [`MountError`] in the same type.
    pub fn parse<E>(text: &str, mut expand: impl FnMut(&str) -> Result<String, E>) -> Result<Self, E>
    where
        E: std::convert::From<MountError>,
    {
        let mut mount = Self::default();
        let mut read_only = None;
        for field in csv_fields(text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_lowercase(), Some(expand(value)?)),
                None => (field.to_lowercase(), None),
            };
            match value {
                Some(value) => mount.set(&key, value, &field, &mut read_only)?,
                None => mount.set_bare(&key, field, &mut read_only)?,
            }
        }
        mount.finish(read_only)?;
        Ok(mount)
    }

    fn set_bare(&mut self, key: &str, field: String, read_only: &mut Option<bool>) -> Result<(), MountError> {
        match key {
            "readonly" | "ro" => *read_only = Some(true),
            "readwrite" | "rw" => *read_only = Some(false),
            "required" => {
                self.only_for(key, &[MountType::Secret, MountType::Ssh])?;
                self.required = true;
            }
            _ => return Err(MountError::NoValue { field }),
        }
        Ok(())
    }

    /// Keys are looked at in order, so that `type` must come before what only some types have.
    fn only_for(&self, key: &str, types: &[MountType]) -> Result<(), MountError> {
        match types.contains(&self.kind) {
            true => Ok(()),
            false => Err(MountError::KeyOfOtherType { key: key.to_owned(), kind: self.kind.name() }),
        }
    }

    fn set(
        &mut self,
        key: &str,
        value: String,
        field: &str,
        read_only: &mut Option<bool>,
    ) -> Result<(), MountError> {
        match key {
            "type" => {
                self.kind = MountType::parse(&value.to_lowercase()).ok_or_else(|| {
                    let suggestion = suggest::nearest(&value, MountType::NAMES, suggest::Case::Sensitive);
                    MountError::UnknownType { value, suggestion }
                })?;
            }
            "from" => self.from = value,
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "readonly" | "ro" => *read_only = Some(parse_bool(key, &value)?),
            "readwrite" | "rw" => *read_only = Some(!parse_bool(key, &value)?),
            "required" => {
                self.only_for(key, &[MountType::Secret, MountType::Ssh])?;
                self.required = parse_bool(key, &value)?;
            }
            "size" => {
                self.only_for(key, &[MountType::Tmpfs])?;
                self.size = parse_size(&value).ok_or(MountError::BadValue { key: key.to_owned(), value })?;
            }
            "id" => self.id = value,
            "sharing" => {
                self.sharing = Some(match value.to_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    _ => {
                        let suggestion = suggest::nearest(&value, Sharing::NAMES, suggest::Case::Sensitive);
                        return Err(MountError::UnknownSharing { value, suggestion });
                    }
                });
            }
            "mode" => self.mode = Some(parse_number("mode", value, 8)?),
            "uid" => self.uid = Some(parse_number("uid", value, 10)?),
            "gid" => self.gid = Some(parse_number("gid", value, 10)?),
            "env" => self.env = Some(value),
            _ => return Err(MountError::unexpected_key(key.to_owned(), field.to_owned(), &KEYS)),
        }
        Ok(())
    }

    fn finish(&mut self, read_only: Option<bool>) -> Result<(), MountError> {
        let kind = self.kind.name();
        if matches!(self.kind, MountType::Bind | MountType::Tmpfs) {
            for (key, given) in [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)] {
                if given.is_some() {
                    return Err(MountError::NotAllowed { key, kind });
                }
            }
        }
        self.read_only = read_only.unwrap_or(!matches!(self.kind, MountType::Cache | MountType::Tmpfs));
        if self.kind == MountType::Secret {
            if !self.from.is_empty() {
                return Err(MountError::SecretFrom);
            }
            if self.sharing.is_some() {
                return Err(MountError::SecretSharing);
            }
            if self.source.is_empty() && self.target.is_empty() && self.id.is_empty() {
                return Err(MountError::SecretNameless);
            }
            if !self.source.is_empty() && !self.id.is_empty() {
                return Err(MountError::SecretTwoNames);
            }
        }
        match self.sharing {
            Some(_) if self.kind != MountType::Cache => Err(MountError::SharingWithoutCache { kind }),
            _ => Ok(()),
        }
    }
}

/// Booleans as Go's strconv reads them.
pub(crate) fn parse_bool(key: &str, value: &str) -> Result<bool, MountError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(MountError::BadValue { key: key.to_owned(), value: value.to_owned() }),
    }
}

fn parse_number(key: &'static str, value: String, radix: u32) -> Result<u32, MountError> {
    match value.starts_with(['+', '-']) {
        true => Err(MountError::BadNumber { key, value }),
        false => u32::from_str_radix(&value, radix)
            // The largest one means no user and no group to the kernel.
            .ok()
            .filter(|number| *number != u32::MAX)
            .ok_or(MountError::BadNumber { key, value }),
    }
}

/// Sizes as `64`, `64b`, `1.5k`, `2 GiB`, in powers of 1024.
fn parse_size(text: &str) -> Option<i64> {
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')?;
    let number = if text[last..].starts_with(' ') { &text[..last] } else { &text[..=last] };
    let unit = text[last + 1..].to_lowercase();
    if !number.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+')) {
        return None;
    }
    let number: f64 = number.parse().ok().filter(|number: &f64| number.is_finite())?;
    let power = match unit.as_bytes() {
        [] | [b'b'] => 0,
        [first] | [first, b'b'] | [first, b'i', b'b'] => {
            1 + b"kmgtp".iter().position(|unit| unit == first)? as i32
        }
        _ => return None,
    };
    Some((number * 1024f64.powi(power)) as i64)
}

/// The fields of one CSV line, as Go's csvvalue reads them.
pub(crate) fn csv_fields(text: &str) -> Result<Vec<String>, MountError> {
    let error = |reason: String| MountError::Csv { what: "mounts", reason };
    let at =
        |column: usize, what: &str| error(format!("parse error on line 1, column {}: {what}", column + 1));
    let line = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return Err(error("EOF".to_owned()));
    }
    let mut fields = Vec::new();
    let mut pos = 0;
    loop {
        let rest = &line[pos..];
        let Some(mut quoted) = rest.strip_prefix('"') else {
            let end = rest.find(',').unwrap_or(rest.len());
            if let Some(bare) = rest[..end].find('"') {
                return Err(at(pos + bare, "bare \" in non-quoted-field"));
            }
            fields.push(rest[..end].to_owned());
            if end == rest.len() {
                return Ok(fields);
            }
            pos += end + 1;
            continue;
        };
        let mut field = String::new();
        loop {
            let Some(end) = quoted.find('"') else {
                return Err(at(line.len() - quoted.len(), "extraneous or missing \" in quoted-field"));
            };
            field.push_str(&quoted[..end]);
            quoted = &quoted[end + 1..];
            match quoted.bytes().next() {
                Some(b'"') => {
                    field.push('"');
                    quoted = &quoted[1..];
                }
                Some(b',') => {
                    fields.push(field);
                    pos = line.len() - quoted.len() + 1;
                    break;
                }
                None => {
                    fields.push(field);
                    return Ok(fields);
                }
                Some(_) => {
                    let column = line.len() - quoted.len() - 1;
                    return Err(at(column, "extraneous or missing \" in quoted-field"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Mount, MountError> {
        Mount::parse(text, |value| Ok(value.replace("$V", "cache")))
    }

    fn message(text: &str) -> String {
        parse(text).map_or_else(|error| error.to_string(), |mount| format!("{mount:?}"))
    }

    #[test]
    fn mounts() {
        let mount = parse("type=$V,dst=/c,id=x,sharing=LOCKED,mode=0755,uid=1").ok();
        let expected = Mount {
            kind: MountType::Cache,
            target: "/c".into(),
            id: "x".into(),
            sharing: Some(Sharing::Locked),
            mode: Some(0o755),
            uid: Some(1),
            ..Mount::default()
        };
        assert_eq!(mount, Some(expected));
        let read_only = |text| parse(text).map(|mount| mount.read_only).ok();
        assert_eq!(read_only("target=/x"), Some(true));
        assert_eq!(read_only("target=/x,rw"), Some(false));
        assert_eq!(read_only("target=/x,rw=false"), Some(true));
        assert_eq!(read_only("type=tmpfs,target=/x"), Some(false));
        assert_eq!(parse("type=tmpfs,target=/x,size=1.5k").map(|mount| mount.size), Ok(1536));
        assert_eq!(parse("type=secret,\"target=/a,\"\"b\"").map(|mount| mount.target), Ok("/a,\"b".into()));
    }

    #[test]
    fn mistakes() {
        for (text, expected) in [
            ("bogus=1", "unexpected key 'bogus' in 'bogus=1'"),
            ("targt=1", "unexpected key 'targt' in 'targt=1' (did you mean target?)"),
            ("target", "invalid field 'target' must be a key=value pair"),
            ("type=cach", "unsupported mount type \"cach\" (did you mean cache?)"),
            ("type=cache,sharing=bogus", "unsupported sharing value \"bogus\""),
            ("type=cache,required", "unexpected key 'required' for mount type 'cache'"),
            ("size=1", "unexpected key 'size' for mount type 'bind'"),
            ("type=tmpfs,size=x", "invalid value for size: x"),
            ("ro=maybe", "invalid value for ro: maybe"),
            ("mode=9", "invalid value 9 for mode"),
            ("uid=+1", "invalid value +1 for uid"),
            ("type=secret,id=a,uid=4294967295", "invalid value 4294967295 for uid"),
            ("uid=1", "uid not allowed for \"bind\" type mounts"),
            ("type=secret", "invalid secret mount. one of source, target required"),
            ("type=secret,id=a,source=b", "both source and id can't be set"),
            ("type=secret,id=a,from=b", "secret mount should not have a from"),
            ("type=ssh,sharing=shared", "invalid cache sharing set for ssh mount"),
            ("", "failed to parse csv mounts: EOF"),
            (
                "a=\"b",
                "failed to parse csv mounts: parse error on line 1, column 3: bare \" in non-quoted-field",
            ),
            (
                "\"a",
                "failed to parse csv mounts: parse error on line 1, column 2: extraneous or missing \" in quoted-field",
            ),
        ] {
            assert_eq!(message(text), expected, "{text}");
        }
        assert_eq!(Mount::check("from=$X"), Err(MountError::VariableInFrom));
        assert_eq!(Mount::check("from=x$,bogus=1"), Ok(()));
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64"), Some(64));
        assert_eq!(parse_size("1 KiB"), Some(1024));
        assert_eq!(parse_size("2gb"), Some(2 << 30));
        for bad in ["", "k", "-1", "1x", "1kk", "inf", "1kibb", "é1"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
