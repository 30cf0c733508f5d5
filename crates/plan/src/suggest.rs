//! "Did you mean": the nearest of a list of names.

use diagnostic::distance;

/// The option nearest to `word`, if one is near enough to be what was meant.
pub fn nearest<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let limit = word.chars().count().div_ceil(3).clamp(1, 3);
    options
        .into_iter()
        .filter(|o| o.to_lowercase() != word)
        .map(|o| (distance(&word, &o.to_lowercase()), o))
        .filter(|(d, _)| *d <= limit)
        .min()
        .map(|(_, o)| o)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names() {
        assert_eq!(nearest("biuld", ["build", "test"]), Some("build"));
        assert_eq!(nearest("x", ["build", "test"]), None);
        assert_eq!(nearest("tset", ["build", "test"]), Some("test"));
        assert_eq!(nearest("ab", ["test"]), None);
        assert_eq!(nearest("release", ["releese", "x"]), Some("releese"));
    }
}
