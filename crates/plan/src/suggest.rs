//! "Did you mean": the nearest of a list of names.

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

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
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
