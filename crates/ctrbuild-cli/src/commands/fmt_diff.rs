//! Unified diffs of small texts.

use std::fmt::Write;

const CONTEXT: usize = 3;
/// Above this many cells the changed middle is shown as a whole.
const MAX_CELLS: usize = 16_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Op {
    Same,
    Old,
    New,
}

/// The difference in the format of `diff -u`; empty where there is none.
pub fn unified(name: &str, old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    let (a, b): (Vec<&str>, Vec<&str>) =
        (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let ops = script(&a, &b);
    let mut out = format!("--- {name}\n+++ {name}\n");
    let (mut i, mut j, mut at) = (0, 0, 0);
    while at < ops.len() {
        if ops[at] == Op::Same {
            (i, j, at) = (i + 1, j + 1, at + 1);
            continue;
        }
        // A hunk: from some lines before up to where enough lines are the same.
        let lead = CONTEXT.min(ops[..at].iter().rev().take_while(|op| **op == Op::Same).count());
        let mut end = at;
        let mut same = 0;
        while end < ops.len() && same <= 2 * CONTEXT {
            same = if ops[end] == Op::Same { same + 1 } else { 0 };
            end += 1;
        }
        end -= same.saturating_sub(CONTEXT);
        let hunk = &ops[at - lead..end];
        let count = |skip: Op| hunk.iter().filter(|op| **op != skip).count();
        let (from, to) = (i - lead, j - lead);
        let _ = writeln!(out, "@@ -{},{} +{},{} @@", from + 1, count(Op::New), to + 1, count(Op::Old));
        let (mut x, mut y) = (from, to);
        for op in hunk {
            let (sign, line) = match op {
                Op::Same => (' ', a[x]),
                Op::Old => ('-', a[x]),
                Op::New => ('+', b[y]),
            };
            x += usize::from(*op != Op::New);
            y += usize::from(*op != Op::Old);
            out.push(sign);
            out.push_str(line);
            if !line.ends_with('\n') {
                out.push_str("\n\\ No newline at end of file\n");
            }
        }
        (i, j, at) = (x, y, end);
    }
    out
}

fn script(a: &[&str], b: &[&str]) -> Vec<Op> {
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
    let (x, y) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);
    let mut ops = vec![Op::Same; head];
    if x.len().saturating_mul(y.len()) > MAX_CELLS {
        ops.extend(std::iter::repeat_n(Op::Old, x.len()).chain(std::iter::repeat_n(Op::New, y.len())));
    } else {
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
        while i < x.len() || j < y.len() {
            if i < x.len() && j < y.len() && x[i] == y[j] {
                ops.push(Op::Same);
                (i, j) = (i + 1, j + 1);
            } else if i < x.len()
                && (j == y.len() || longest[(i + 1) * width + j] >= longest[i * width + j + 1])
            {
                ops.push(Op::Old);
                i += 1;
            } else {
                ops.push(Op::New);
                j += 1;
            }
        }
    }
    ops.extend(std::iter::repeat_n(Op::Same, tail));
    ops
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hunks() {
        assert_eq!(unified("f", "a\n", "a\n"), "");
        assert_eq!(unified("f", "a\nb\nc\n", "a\nx\nc\n"), "--- f\n+++ f\n@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n");
        let old: String = (0..20).map(|n| format!("{n}\n")).collect();
        let new = old.replace("2\n", "two\n").replace("\n18\n", "\n");
        let diff = unified("f", &old, &new);
        assert_eq!(diff.matches("@@ -").count(), 2);
        assert!(unified("f", "a", "a\n").contains("No newline"));
    }
}
