//! Did you mean …: the nearest known word.

use diagnostic::distance;

/// Words further away than this are no suggestion.
const MAX_DISTANCE: usize = 2;

/// Longer words are never compared: no known word is near them.
const MAX_LENGTH: usize = 64;

/// The option nearest to `word`, unless `word` is one of them. Case is ignored, and the answer is written in
/// the case of `word`, where `ignore_case` says so.
pub(crate) fn nearest<'a>(
    word: &str,
    options: impl IntoIterator<Item = &'a str>,
    case: Case,
) -> Option<String> {
    if word.len() > MAX_LENGTH {
        return None;
    }
    let fold = |text: &str| match case {
        Case::Sensitive => text.to_owned(),
        Case::Ignore => text.to_lowercase(),
    };
    let wanted = fold(word);
    let mut best: Option<(usize, String)> = None;
    for option in options {
        let option = fold(option);
        let distance = distance(&wanted, &option);
        if distance == 0 {
            return None;
        }
        if distance <= MAX_DISTANCE && best.as_ref().is_none_or(|(least, _)| distance < *least) {
            best = Some((distance, option));
        }
    }
    let (_, option) = best?;
    match case {
        Case::Ignore if word != word.to_lowercase() && word == word.to_uppercase() => {
            Some(option.to_uppercase())
        }
        _ => Some(option),
    }
}

/// Whether case matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Sensitive,
    Ignore,
}

/// The tail of a message.
pub(crate) fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|word| format!(" (did you mean {word}?)")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_nearest() {
        let words = ["run", "copy", "from"];
        assert_eq!(nearest("RUM", words, Case::Ignore).as_deref(), Some("RUN"));
        assert_eq!(nearest("fro", words, Case::Ignore).as_deref(), Some("from"));
        assert_eq!(nearest("Coyp", words, Case::Ignore).as_deref(), Some("copy"));
        assert_eq!(nearest("run", words, Case::Ignore), None);
        assert_eq!(nearest("frobnicate", words, Case::Ignore), None);
        assert_eq!(nearest("FROM", words, Case::Sensitive), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), words, Case::Sensitive), None);
    }
}
