//! Known secrets in what steps say: each occurrence becomes `***`, whatever pieces it comes in.
//!
//! All steps of a build share one set, since what one was given, another may say (through a cache mount, say). A
//! secret is also looked for without the blanks around it, and one of several lines also by its lines: that is how
//! shells and `sed` pass it on. What is shorter than [`SHORTEST`] would hide too much of everything else.
//!
//! Deliberately not here: what is made of a secret. A step that encodes it can say it.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Arc, RwLock};

/// Length of the shortest secret that is masked, in bytes.
const SHORTEST: usize = 4;
/// The same of one line of a secret with several: those of structured files are no secret by themselves.
const SHORTEST_LINE: usize = 8;
const MASK: &[u8] = b"***";

/// The secrets that a build knows so far.
#[derive(Default)]
pub struct Masks(RwLock<Arc<Patterns>>);

#[derive(Default, Clone)]
struct Patterns {
    all: BTreeSet<Vec<u8>>,
    /// Their first bytes. Most positions of a text are no start of a secret.
    starts: BTreeSet<u8>,
}

impl Masks {
    pub fn add(&self, secret: &[u8]) {
        let mut forms = vec![secret, secret.trim_ascii()];
        let lines: Vec<&[u8]> = secret.trim_ascii().split(|b| *b == b'\n').map(<[u8]>::trim_ascii).collect();
        if lines.len() > 1 {
            forms.extend(lines.into_iter().filter(|line| line.len() >= SHORTEST_LINE));
        }
        let mut current = self.0.write().unwrap_or_else(|e| e.into_inner());
        let new: Vec<&[u8]> =
            forms.into_iter().filter(|f| f.len() >= SHORTEST && !current.all.contains(*f)).collect();
        if !new.is_empty() {
            let patterns = Arc::make_mut(&mut *current);
            new.into_iter().for_each(|form| patterns.add(form));
        }
    }

    /// Text that is said as a whole.
    pub fn hide(&self, text: &[u8]) -> Vec<u8> {
        let mut stream = Masked::default();
        let mut out = stream.push(self, text);
        out.extend(stream.finish(self));
        out
    }

    fn current(&self) -> Arc<Patterns> {
        self.0.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

impl Patterns {
    fn add(&mut self, form: &[u8]) {
        self.starts.extend(form.first());
        self.all.insert(form.to_vec());
    }

    /// Length of the longest pattern that `text` starts with.
    fn at_start_of(&self, text: &[u8]) -> Option<usize> {
        // Whatever `text` starts with sorts before it, the longest last; but so does what differs from it later on.
        let mut upper = text;
        loop {
            let nearest =
                self.all.range::<[u8], _>((Bound::Unbounded, Bound::Included(upper))).next_back()?;
            let same = nearest.iter().zip(upper).take_while(|(a, b)| a == b).count();
            match same {
                _ if same == nearest.len() => return Some(same),
                0 => return None,
                _ => upper = &upper[..same],
            }
        }
    }

    /// Whether more bytes could make a pattern of `text`.
    fn may_go_on(&self, text: &[u8]) -> bool {
        let longer = self.all.range::<[u8], _>((Bound::Excluded(text), Bound::Unbounded)).next();
        longer.is_some_and(|p| p.starts_with(text))
    }
}

/// What of a stream is not passed on yet, since it may be the beginning of a secret.
#[derive(Default)]
pub struct Masked {
    held: Vec<u8>,
    /// Bytes at the start of `held` that belong to a secret which was already replaced.
    covered: usize,
}

impl Masked {
    /// Takes what comes next; returns what can be shown of it.
    pub fn push(&mut self, masks: &Masks, data: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(data);
        self.pass_on(&masks.current(), More::MayCome)
    }

    /// The rest, at the end of the stream.
    pub fn finish(&mut self, masks: &Masks) -> Vec<u8> {
        self.pass_on(&masks.current(), More::Never)
    }

    fn pass_on(&mut self, patterns: &Patterns, more: More) -> Vec<u8> {
        if patterns.all.is_empty() {
            return std::mem::take(&mut self.held);
        }
        let mut out = Vec::with_capacity(self.held.len());
        let mut at = 0;
        while at < self.held.len() {
            let rest = &self.held[at..];
            let may_start = patterns.starts.contains(&rest[0]);
            if may_start && more == More::MayCome && patterns.may_go_on(rest) {
                break;
            }
            // Secrets may overlap: what any of them covers is hidden, under one mask.
            if may_start && let Some(length) = patterns.at_start_of(rest) {
                if at >= self.covered {
                    out.extend_from_slice(MASK);
                }
                self.covered = self.covered.max(at + length);
            }
            if at >= self.covered {
                out.push(rest[0]);
            }
            at += 1;
        }
        self.covered = self.covered.saturating_sub(at);
        self.held.drain(..at);
        out
    }
}

#[derive(Clone, Copy, PartialEq)]
enum More {
    MayCome,
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks(secrets: &[&str]) -> Masks {
        let masks = Masks::default();
        secrets.iter().for_each(|s| masks.add(s.as_bytes()));
        masks
    }

    /// The same whatever pieces a text comes in.
    fn hidden(secrets: &[&str], text: &str) -> String {
        let masks = masks(secrets);
        let whole = masks.hide(text.as_bytes());
        for size in 1..=text.len().max(1) {
            let mut stream = Masked::default();
            let mut out = Vec::new();
            text.as_bytes().chunks(size).for_each(|piece| out.extend(stream.push(&masks, piece)));
            out.extend(stream.finish(&masks));
            assert_eq!(out, whole, "{text:?} in pieces of {size}");
        }
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn secrets_are_hidden() {
        for (secrets, text, expected) in [
            (&["hunter2!"][..], "a hunter2! b hunter2! hunter2", "a *** b *** hunter2"),
            (&["hunter2!\n"], "xhunter2!y\nhunter2!\nz", "x***y\n***z"),
            (&["first-line\nsecond-line\n"], " first-line\r\n second-line", " ***\r\n ***"),
            (&["first-line\nsecond-line\n"], "first-line\nsecond-line\n", "***"),
            (&["first-line\n}\nsecond-line"], "{ }", "{ }"),
            (&["abcd", "abcdefgh"], "abcdefgh abcdef", "*** ***ef"),
            (&["abcd", "cdef"], "abcdef", "***"),
            (&["abab"], "abababab", "***"),
            (&["abcd", "abcdefg1", "abcdx"], "abcdefg2", "***efg2"),
            (&["abc"], "abc", "abc"),
            (&[""], "abc", "abc"),
            (&["secret", "secret-and-more"], "secret-and-mor", "***-and-mor"),
        ] {
            assert_eq!(hidden(secrets, text), expected, "{secrets:?}");
        }
    }

    #[test]
    fn only_what_may_be_a_secret_is_held_back() {
        let masks = masks(&["hunter2!"]);
        let mut stream = Masked::default();
        assert_eq!(stream.push(&masks, b"50% hunt"), b"50% ");
        assert_eq!(stream.push(&masks, b"ing"), b"hunting");
        assert_eq!(stream.push(&masks, b"."), b".");
        // Known only after the stream began.
        masks.add(b"50% more");
        assert_eq!(stream.push(&masks, b"50% more"), b"***");
    }

    #[test]
    fn long_secrets_take_no_time() {
        let line = |n: usize| format!("line {n} of a very long file");
        let secret: String = (0..3_000).map(|n| line(n) + "\n").collect();
        let masks = masks(&[&secret]);
        let text: String = (0..3_000).map(|n| format!(" {}\n", line(n))).collect();
        let out = masks.hide(text.as_bytes());
        assert_eq!(out, " ***\n".repeat(3_000).as_bytes());
    }
}
