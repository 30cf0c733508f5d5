//! Flags of an instruction, checked against its table.

use super::spec::{FlagKind, Spec};
use super::suggest;
use super::types::Word;
use crate::error::ErrorKind;
use crate::syntax::{Failure, Statement};
use diagnostic::TextRange;

/// The flags that were given.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    given: Vec<(&'static str, Word)>,
}

impl Flags {
    pub fn read(statement: &Statement, spec: &'static Spec) -> Result<Self, Failure> {
        let mut given: Vec<(&'static str, Word)> = Vec::new();
        for word in &statement.flags {
            let range = word.range;
            if word.value == "--" {
                break;
            }
            let Some(body) = word.value.strip_prefix("--") else {
                return Err((ErrorKind::NotAFlag { word: word.value.clone() }, range));
            };
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (body, None),
            };
            let Some(flag) = spec.flag(name) else {
                let names = spec.flags.iter().map(|flag| flag.name);
                let suggestion = suggest::nearest(name, names, suggest::Case::Sensitive);
                let (instruction, name) = (spec.name, name.to_owned());
                return Err((ErrorKind::UnknownFlag { instruction, name, suggestion }, range));
            };
            let name = || flag.name.to_owned();
            if flag.kind != FlagKind::List && given.iter().any(|(known, _)| *known == flag.name) {
                return Err((ErrorKind::DuplicateFlag { name: name() }, range));
            }
            let value = match (flag.kind, value) {
                (FlagKind::Bool, None) => "true".to_owned(),
                (_, None) => return Err((ErrorKind::FlagWithoutValue { name: name() }, range)),
                (FlagKind::Bool, Some("")) => {
                    return Err((ErrorKind::FlagWithoutValue { name: name() }, range));
                }
                (FlagKind::Bool, Some(value)) => match value.to_lowercase().as_str() {
                    lower @ ("true" | "false") => lower.to_owned(),
                    _ => {
                        return Err((
                            ErrorKind::FlagNotBoolean { name: name(), value: value.to_owned() },
                            range,
                        ));
                    }
                },
                (_, Some(value)) => value.to_owned(),
            };
            // `--name=` comes before the value; with quotes in it the range starts a bit early.
            let start = (range.start + flag.name.len() as u32 + 3).min(range.end);
            given.push((flag.name, Word::new(value, TextRange::new(start, range.end))));
        }
        Ok(Self { given })
    }

    /// The value of a string flag; an empty one counts as not given, as it does for BuildKit.
    pub fn string(&mut self, name: &str) -> Option<Word> {
        self.any(name).filter(|word| !word.value.is_empty())
    }

    /// The value of a flag, even where it is empty.
    pub fn any(&mut self, name: &str) -> Option<Word> {
        let index = self.given.iter().position(|(known, _)| *known == name)?;
        Some(self.given.remove(index).1)
    }

    pub fn bool(&mut self, name: &str) -> Option<bool> {
        self.any(name).map(|word| word.value == "true")
    }

    pub fn list(&mut self, name: &str) -> Vec<Word> {
        let mut out = Vec::new();
        self.given.retain_mut(|(known, word)| {
            let take = *known == name;
            if take {
                out.push(Word::new(std::mem::take(&mut word.value), word.range));
            }
            !take
        });
        out
    }
}
