//! A [`Record`] as text, for copies that are worked on after the process that made them has ended.
//!
//! `ctrbuild-copy-v1`, then a line for each folder, `d <hex of its path>`, followed by a line for each name in it:
//! `n <hex> <inode> <born> <mode> <uid> <gid> <size> <modified> <changed>`, times as `seconds.nanoseconds`, `-` for none.

use crate::stack::{Record, Stamp};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt::Write;

const HEAD: &str = "ctrbuild-copy-v1";

impl Record {
    /// The whole record.
    pub fn to_text(&self) -> String {
        let mut out = format!("{HEAD}\n");
        for (path, names) in &self.dirs {
            // Writing to a string does not fail.
            let _ = writeln!(out, "d {}", hex(path));
            for (name, s) in names {
                let born = s.born.map_or("-".to_string(), |(sec, nano)| format!("{sec}.{nano}"));
                let _ = writeln!(
                    out,
                    "n {} {} {born} {} {} {} {} {}.{} {}.{}",
                    hex(name.as_bytes()),
                    s.ino,
                    s.mode,
                    s.owner.0,
                    s.owner.1,
                    s.size,
                    s.modified.0,
                    s.modified.1,
                    s.changed.0,
                    s.changed.1
                );
            }
        }
        out.push_str("end\n");
        out
    }

    /// What [`Record::to_text`] wrote; `None` if this is anything else, or not all of it.
    pub fn from_text(text: &str) -> Option<Record> {
        let mut lines = text.strip_prefix(HEAD)?.strip_prefix('\n')?.strip_suffix("end\n")?.lines();
        let mut record = Record::default();
        let mut path: Option<Vec<u8>> = None;
        lines.try_for_each(|line| {
            match line.split_at_checked(2)? {
                ("d ", hex) => {
                    let here = unhex(hex)?;
                    record.dirs.insert(here.clone(), BTreeMap::new());
                    path = Some(here);
                }
                ("n ", rest) => {
                    let (name, stamp) = parse(rest)?;
                    record.dirs.get_mut(path.as_ref()?)?.insert(name, stamp);
                }
                _ => return None,
            }
            Some(())
        })?;
        Some(record)
    }
}

fn parse(line: &str) -> Option<(CString, Stamp)> {
    let mut words = line.split(' ');
    let name = CString::new(unhex(words.next()?)?).ok()?;
    let ino = words.next()?.parse().ok()?;
    let born = match words.next()? {
        "-" => None,
        text => Some(time(text)?),
    };
    let mode = words.next()?.parse().ok()?;
    let owner = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let size = words.next()?.parse().ok()?;
    let (modified, changed) = (time(words.next()?)?, time(words.next()?)?);
    let stamp = Stamp { ino, born, mode, owner, size, modified, changed };
    words.next().is_none().then_some((name, stamp))
}

fn time<N: std::str::FromStr>(text: &str) -> Option<(i64, N)> {
    let (seconds, nanos) = text.split_once('.')?;
    Some((seconds.parse().ok()?, nanos.parse().ok()?))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pairs = digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_comes_back() {
        let stamp = Stamp {
            ino: 7,
            born: Some((-5, 9)),
            mode: 0o100644,
            owner: (1, u32::MAX),
            size: 12,
            modified: (1, 2),
            changed: (3, 4),
        };
        let mut record = Record::default();
        let names = [(CString::new(b"a\xff b").unwrap(), stamp)].into();
        record.dirs.insert(b"d/e".to_vec(), names);
        record.dirs.insert(Vec::new(), [(CString::new("d").unwrap(), Stamp { born: None, ..stamp })].into());
        let text = record.to_text();
        assert_eq!(Record::from_text(&text).unwrap().dirs, record.dirs);
        for bad in ["", "ctrbuild-copy-v1\n", &text[..text.len() - 6], "ctrbuild-copy-v1\nn 61 1\nend\n"] {
            assert!(Record::from_text(bad).is_none(), "{bad:?}");
        }
    }
}
