//! Variable expansion of recipe words, as the planner uses it.

use crate::PlanError;
use crate::state::Env;
use dockerfile::instruction::Escape;
use dockerfile::word::{Lexer, Quotes, Unset, Variables, WordError};
use std::borrow::Cow;

impl Variables for Env {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        Env::get(self, name).map(Cow::Borrowed)
    }
}

fn failed(e: WordError) -> PlanError {
    PlanError { hint: e.hint(), ..PlanError::new(e.to_string()) }
}

/// One word to one value; quotes are processed.
pub fn word(text: &str, escape: Escape, env: &Env) -> Result<String, PlanError> {
    Lexer::new(escape.as_char()).expand(text, env).map(|e| e.text).map_err(failed)
}

/// One word to any number of words: an unquoted value with blanks splits.
pub fn words(text: &str, escape: Escape, env: &Env) -> Result<Vec<String>, PlanError> {
    Lexer::new(escape.as_char()).words(text, env).map_err(failed)
}

/// The body of a heredoc: quotes stay, and `\` escapes whatever `# escape=` says.
pub fn heredoc(text: &str, env: &Env) -> Result<String, PlanError> {
    Lexer::for_body().expand(text, env).map(|e| e.text).map_err(failed)
}

/// For progress: quotes stay, unset variables stay as they are.
pub fn shown(text: &str, escape: Escape, env: &Env) -> String {
    let lexer = Lexer { quotes: Quotes::Keep, unset: Unset::Keep, ..Lexer::new(escape.as_char()) };
    lexer.expand(text, env).map_or_else(|_| text.to_string(), |e| e.text)
}
