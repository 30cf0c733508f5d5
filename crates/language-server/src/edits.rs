//! From two texts to the few edits that make one of the other.

use diagnostic::TextRange;

/// Above this many cells the changed middle is one edit.
const MAX_CELLS: usize = 4_000_000;

/// Edits in order of the text, by lines that differ, each without what is the same at its ends.
pub fn between(old: &str, new: &str) -> Vec<(TextRange, String)> {
    let (a, b): (Vec<&str>, Vec<&str>) =
        (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
    let (x, y) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);
    let mut at: usize = a[..head].iter().map(|line| line.len()).sum();
    let mut out = Vec::new();
    let mut push = |at: usize, old: &str, new: &str| {
        // As many lines as before: most likely each became another.
        let mut at = at;
        let (lines, others) = (old.split_inclusive('\n'), new.split_inclusive('\n'));
        if lines.clone().count() == others.clone().count() {
            for (old, new) in lines.zip(others) {
                if old != new {
                    out.push(trimmed(at, old, new));
                }
                at += old.len();
            }
        } else {
            out.push(trimmed(at, old, new));
        }
    };
    if x.len().saturating_mul(y.len()) > MAX_CELLS {
        push(at, &x.concat(), &y.concat());
        return out;
    }
    let width = y.len() + 1;
    let mut longest = vec![0u32; (x.len() + 1) * width];
    for i in (0..x.len()).rev() {
        for j in (0..y.len()).rev() {
            longest[i * width + j] = match x[i] == y[j] {
                true => longest[(i + 1) * width + j + 1] + 1,
                false => longest[(i + 1) * width + j].max(longest[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let (mut gone, mut come) = (String::new(), String::new());
    while i < x.len() || j < y.len() {
        if i < x.len() && j < y.len() && x[i] == y[j] {
            push(at, &gone, &come);
            at += gone.len() + x[i].len();
            gone.clear();
            come.clear();
            (i, j) = (i + 1, j + 1);
        } else if i < x.len() && (j == y.len() || longest[(i + 1) * width + j] >= longest[i * width + j + 1])
        {
            gone.push_str(x[i]);
            i += 1;
        } else {
            come.push_str(y[j]);
            j += 1;
        }
    }
    push(at, &gone, &come);
    out
}

/// An edit without what is the same at both ends.
fn trimmed(at: usize, old: &str, new: &str) -> (TextRange, String) {
    let head: usize =
        old.chars().zip(new.chars()).take_while(|(x, y)| x == y).map(|(c, _)| c.len_utf8()).sum();
    let (old_rest, new_rest) = (&old[head..], &new[head..]);
    let tail: usize = old_rest
        .chars()
        .rev()
        .zip(new_rest.chars().rev())
        .take_while(|(x, y)| x == y)
        .map(|(c, _)| c.len_utf8())
        .sum();
    // A position between `\r` and `\n` is one that clients can't name.
    let splits = |at: usize| old[..at].ends_with('\r') && old[at..].starts_with('\n');
    let head = head - usize::from(splits(head));
    let tail = tail - usize::from(splits(old.len() - tail));
    let range = TextRange::new((at + head) as u32, (at + old.len() - tail) as u32);
    (range, new[head..new.len() - tail].to_owned())
}

/// The text with edits made; they must be in order and not overlap.
pub fn apply(text: &str, edits: &[(TextRange, String)]) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (range, with) in edits {
        out.push_str(text.get(done..range.start as usize)?);
        out.push_str(with);
        done = range.end as usize;
    }
    out.push_str(text.get(done..)?);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edits_are_small() {
        let edits = between("a\nbcd\ne\nf\n", "a\nbXd\ne\ng\n");
        assert_eq!(edits, [(TextRange::new(3, 4), "X".into()), (TextRange::new(8, 9), "g".into())]);
        assert_eq!(between("a", "a"), []);
        assert_eq!(between("a\n", "a\r\n"), [(TextRange::new(1, 1), "\r".into())]);
        assert_eq!(between("a\r\n", "a\n"), [(TextRange::new(1, 3), "\n".into())]);
    }

    proptest! {
        #[test]
        fn edits_make_the_new_text(old in "[ab\r\n é]{0,40}", new in "[ab\r\n é]{0,40}") {
            prop_assert_eq!(apply(&old, &between(&old, &new)), Some(new));
        }
    }
}
