//! Quoted text as Go's `%q` writes it, which is how BuildKit's messages and histories show it.

use std::fmt::Write;

/// `text` in double quotes, with Go's escapes.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if c.is_ascii_graphic() || c == ' ' => out.push(c),
            c if c.is_ascii() => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if is_printable(c) => out.push(c),
            c if (c as u32) < 0x1_0000 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => {
                let _ = write!(out, "\\U{:08x}", c as u32);
            }
        }
    }
    out.push('"');
    out
}

/// Letters, marks, numbers, punctuation and symbols; no blanks but the plain one, no controls or formats.
/// Unassigned characters are taken as printable, which Go does not.
fn is_printable(c: char) -> bool {
    !(c.is_control()
        || c.is_whitespace()
        || matches!(c as u32,
            0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2 | 0x180e | 0x200b..=0x200f
            | 0x202a..=0x202e | 0x2060..=0x206f | 0xe000..=0xf8ff | 0xfeff | 0xfff0..=0xfffb | 0xfffe..=0xffff
            | 0x110bd | 0x110cd | 0x1_3430..=0x1_343f | 0x1_bca0..=0x1_bca3 | 0x1_d173..=0x1_d17a
            | 0xe_0000..=0xe_00ff | 0xf_0000..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go() {
        assert_eq!(quote("a\"b\\\n\x1b\u{7f}"), r#""a\"b\\\n\x1b\x7f""#);
        assert_eq!(quote("é\u{a0}\u{feff}😀\u{fffd}"), "\"é\\u00a0\\ufeff😀\u{fffd}\"");
        assert_eq!(quote("\u{85}\u{e0001}"), r#""\u0085\U000e0001""#);
    }
}
